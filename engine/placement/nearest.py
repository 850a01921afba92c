"""After a rank ran out of memory: the nearest plans that would fit, by what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from engine.placement.alternatives import Alternative, alternatives, title
from engine.placement.place import Question, wrap_of
from engine.placement.plan import Plan
from engine.placement.presets import Choice


def choice_of_plan(question: Question, plan: Plan) -> Choice:
    """The choice that a plan was made from."""
    own = plan.vae_rank not in {stage.rank for stage in plan.stages}
    return Choice(
        mode=plan.mode,
        dit_ranks=plan.world_size - own,
        dtype=plan.dtype,
        kv_dtype=plan.kv_dtype,
        own_vae=own,
        variant=plan.variant,
        kv=plan.kv,
        wrap=wrap_of(question),
    )


def nearest_plans(
    question: Question, failed: Plan, measured: Mapping[int, int] | None = None
) -> tuple[Alternative, ...]:
    """Plans to go on with in the place of ``failed``, those that leave the output as it is first.

    Args:
        question: what was asked for, on the devices as they are now.
        measured: rank → the highest bytes it was seen to hold, where that is known. By how much
            the worst rank was above its prediction, the others' predictions are trusted less.

    Only plans that can be launched and whose fullest device holds less than that of ``failed``.
    """
    excess = 1.0
    for device in failed.devices:
        seen = (measured or {}).get(device.rank)
        if seen is not None and device.predicted_bytes:
            excess = max(excess, seen / device.predicted_bytes)
    if excess > 1.0:
        devices = tuple(
            offer
            if offer.usable_bytes is None
            else dataclasses.replace(offer, usable_bytes=int(offer.usable_bytes / excess))
            for offer in question.devices
        )
        question = dataclasses.replace(question, devices=devices)
    # The request's own placement was the one that failed.
    free = dataclasses.replace(question.request, num_gpus_dit=None, resident_layers=None)
    question = dataclasses.replace(question, request=free)
    ceiling, known = _fullest(failed), title(failed)
    return tuple(
        other
        for other in alternatives(question, choice_of_plan(question, failed))
        if other.built and _fullest(other.plan) < ceiling and title(other.plan) != known
    )


def _fullest(plan: Plan) -> int:
    return max(device.predicted_bytes for device in plan.devices)

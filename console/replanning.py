"""Other plans for a job: all modes side by side, and what to relaunch by after it failed.

Reads the devices, so it runs on a thread; no words are made here, the screens do that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from console.planning import question_of, reading_of
from engine.params import Request
from engine.placement import planner
from engine.placement.alternatives import Alternative, alternatives, flags_of, overview, title
from engine.placement.built import unbuilt
from engine.placement.hardware import HostOffer
from engine.placement.nearest import choice_of_plan, nearest_plans
from engine.placement.place import Question
from engine.placement.plan import DevicePlan, Plan, plan_from_dict
from engine.placement.presets import Choice
from engine.retry.changes import changes_for, placement_of

#: CPU ranks that a mode of several is shown with where nobody says how many.
_CPU_RANKS: Final = 2


@dataclass(frozen=True)
class Way:
    """A plan to do the same work by.

    ``changes`` are request fields; ``alters_output`` is empty where the latents are the same;
    ``unbuilt`` says why this version cannot launch it.
    """

    title: str
    flags: str
    changes: dict[str, Any]
    plan: Plan
    alters_output: tuple[str, ...] = ()
    unbuilt: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it fits and can be launched."""
        return self.plan.fits and not self.unbuilt

    @property
    def fullest(self) -> DevicePlan:
        """The device with least room left, or the one that holds most."""
        known = [d for d in self.plan.devices if d.usable_bytes]
        if known:
            return max(known, key=lambda d: d.predicted_bytes / (d.usable_bytes or 1))
        return max(self.plan.devices, key=lambda d: d.predicted_bytes)


def freed(question: Question, held: Mapping[str | None, int]) -> Question:
    """The devices as they would be without what ``held`` says: uuid → bytes, None for the host."""
    on_host = held.get(None, 0)
    devices = tuple(
        dataclasses.replace(
            offer, usable_bytes=_within(offer.capacity_bytes, offer.usable_bytes + more)
        )
        if offer.usable_bytes is not None
        and (more := on_host if offer.kind == "cpu" else held.get(offer.uuid, 0))
        else offer
        for offer in question.devices
    )
    available = question.host.memory_available
    host = HostOffer(
        None if available is None else available + on_host, question.host.disk_available
    )
    return dataclasses.replace(question, devices=devices, host=host)


def _within(capacity: int | None, size: int) -> int:
    return size if capacity is None else min(size, capacity)


def choice_for(question: Question, plan: Mapping[str, Any] | None) -> Choice:
    """The choice that a job's plan (``Plan.to_dict``) was made from, or its request's.

    Raises:
        ParamError, ValueError: the request contradicts itself.
    """
    if plan and "weights" in plan:
        return choice_of_plan(question, plan_from_dict(dict(plan)))
    choice, _plan = planner.plan_of(question, reading_of(question))
    return choice


def mode_ways(
    question: Question, plan: Mapping[str, Any] | None, held: Mapping[str | None, int] | None = None
) -> list[Way]:
    """Every mode and variant at its best on these devices, fits or not; all give one output.

    Args:
        plan: what the job runs by, if it does. held: bytes of its own that a switch gives back.

    Raises:
        ParamError, ValueError: as ``choice_for``.
    """
    base = choice_for(question, plan)
    ranks = None
    if question.kind == "cpu":  # more ranks are not faster there: as many as it has
        ranks = max(base.dit_ranks, _CPU_RANKS)
        base = dataclasses.replace(base, dit_ranks=ranks)
    free = dataclasses.replace(question.request, num_gpus_dit=ranks, resident_layers=None)
    question = freed(dataclasses.replace(question, request=free), held or {})
    ways = [
        Way(title(found), flags_of(choice), placement_of(found), found, (), unbuilt(found))
        for choice, found in overview(question, base)
    ]
    if plan and "weights" in plan:
        now = plan_from_dict(dict(plan))
        if title(now) not in [way.title for way in ways]:
            ways.insert(0, Way(title(now), flags_of(base), placement_of(now), now))
    return ways


def modes_of(
    request: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    held: Mapping[str | None, int] | None = None,
) -> list[Way]:
    """``mode_ways`` for a job's request on this host; reads files and devices.

    Raises:
        CheckpointError, DeviceSelectionError, MediaError, ParamError, ValueError: files, devices
        or values that are not what the request says.
    """
    return mode_ways(question_of(Request.from_dict(request)), plan, held)


def fits_of(question: Question, choice: Choice) -> list[Way]:
    """What would fit in the place of ``choice``, nearest first, unchanged output first."""
    return [_way(question.request, other) for other in alternatives(question, choice)]


def relaunches_of(
    request: Mapping[str, Any], plan: Mapping[str, Any] | None, measured: Mapping[int, int]
) -> list[Way]:
    """Plans to relaunch an ended job by, those that leave the output unchanged first.

    Args:
        plan: the one it failed by. measured: rank → highest bytes it was seen to hold.

    Raises:
        As ``modes_of``.
    """
    asked = Request.from_dict(request)
    question = question_of(asked)
    if plan and "weights" in plan:
        failed = plan_from_dict(dict(plan))
    else:
        _choice, failed = planner.plan_of(question, reading_of(question))
    return [_way(asked, other) for other in nearest_plans(question, failed, measured)]


def _way(request: Request, other: Alternative) -> Way:
    changes = changes_for(request, other)
    return Way(
        title(other.plan), other.flags, changes, other.plan, other.alters_output, other.unbuilt
    )

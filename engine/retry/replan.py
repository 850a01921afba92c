"""The next plan after one that ran out of memory: nearest first, less memory than the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.placement.alternatives import title
from engine.placement.nearest import nearest_plans
from engine.preflight import Machine, Prepared, question_of
from engine.retry.changes import changes_for


@dataclass(frozen=True)
class Next:
    """A plan to try, as changes of the request. ``alters_output`` is empty where it gives the
    same latents."""

    changes: dict[str, Any]
    title: str
    alters_output: tuple[str, ...]
    predicted_bytes: int  # of the fullest device


def next_plan(
    prepared: Prepared,
    machine: Machine,
    *,
    degrade: bool = False,
    tried: frozenset[str] = frozenset(),
    measured: Mapping[int, int] | None = None,
) -> Next | None:
    """The nearest plan that fits, can be launched, and needs less than the one that failed.

    Args:
        degrade: plans that change the output may be taken where no other is left.
        tried: titles of plans that failed before.
        measured: rank → the highest bytes it was seen to hold.

    Raises:
        DeviceSelectionError: a device that the request names is gone.
    """
    question = question_of(prepared, machine)
    for other in nearest_plans(question, prepared.plan, measured):
        if title(other.plan) in tried or (other.alters_output and not degrade):
            continue
        changes = changes_for(prepared.request, other)
        fullest = max(device.predicted_bytes for device in other.plan.devices)
        return Next(changes, title(other.plan), other.alters_output, fullest)
    return None

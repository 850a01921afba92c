"""The next plan after one that ran out of memory: nearest first, less memory than the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.parameters.request import Request
from engine.placement.alternatives import Alternative, title
from engine.placement.nearest import nearest_plans
from engine.placement.plan import Plan
from engine.preflight import Machine, Prepared, question_of

#: Placement flags that would contradict another placement.
_FREED: dict[str, Any] = {
    "num_gpus_dit": None,
    "ulysses_size": 1,
    "resident_layers": None,
    "offload_model": None,
    "single_gpu": False,
    "dit_fsdp": False,
}


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


def placed_freely(request: Request) -> Request:
    """The same work, wherever the planner likes it best."""
    fields = {**_FREED, "mode": "auto", "variant": None, "kv_home": None}
    return request.replace(**fields, enable_vae_parallel=False)


def placement_of(plan: Plan) -> dict[str, Any]:
    """Every placement field of a request that means this plan."""
    own = plan.vae_rank not in {stage.rank for stage in plan.stages}
    return {
        **_FREED,
        "mode": plan.mode,
        "variant": plan.variant or None,
        "num_gpus_dit": plan.world_size - own if plan.mode in ("tpp", "fsdp") else None,
        "enable_vae_parallel": own,
        "kv_home": "host" if plan.kv == "host" else None,
    }


def changes_to(request: Request, plan: Plan) -> dict[str, Any]:
    """The request's placement fields that differ for a plan."""
    wanted = placement_of(plan)
    return {name: value for name, value in wanted.items() if getattr(request, name) != value}


def changes_for(request: Request, other: Alternative) -> dict[str, Any]:
    """What an alternative changes of a request: its placement, and what alters the output."""
    changes = changes_to(request, other.plan)
    if "dtype" in other.alters_output:
        changes["fp8"] = other.plan.dtype == "fp8"
    if "KV precision" in other.alters_output:
        changes["kv_dtype"] = other.plan.kv_dtype
    if "size" in other.alters_output:
        changes["size"] = "{}*{}".format(*other.size)
    return changes

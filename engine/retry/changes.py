"""A plan as changes of a request: the flags that would ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.parameters.request import DEFAULTS, Request
from engine.placement.alternatives import Alternative
from engine.placement.plan import Plan

#: Placement flags that would contradict another placement.
_FREED: dict[str, Any] = {
    "num_gpus_dit": None,
    "ulysses_size": 1,
    "resident_layers": None,
    "offload_model": None,
    "single_gpu": False,
    "dit_fsdp": False,
}


#: Fields that say how a mode lies on devices.
_SHAPING: Final = (
    "num_gpus_dit", "enable_vae_parallel", "offload_model", "single_gpu", "dit_fsdp", "variant",
    "kv_home", "resident_layers", "fsdp_wrap", "prefetch",
)  # fmt: skip


def switched(request: Request, changes: Mapping[str, Any]) -> Request:
    """The same work by another plan: what shaped the old mode does not shape the new one."""
    if "mode" not in changes:
        return request.replace(**changes)
    fresh = {name: DEFAULTS[name] for name in _SHAPING}
    return request.replace(**{**fresh, **changes})


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

"""When memory runs out: the plan's figures beside the allocator's, for the log and the engine."""

from __future__ import annotations

from typing import Any, Final

import torch

from engine.ranks.protocol import RankSpec
from engine.sentence import sentence

_GIB: Final = 2**30


class MemoryCapError(RuntimeError):
    """A CPU rank holds more than ``--gpu_memory_cap``. ``held`` are its bytes by owner."""

    kind = "oom"

    def __init__(self, held: dict[str, int], cap: int) -> None:
        self.held, self.cap = held, cap
        total = sum(held.values())
        super().__init__(
            f"out of memory: {total / _GIB:.3f} GiB are held, the cap allows "
            f"{cap / _GIB:.3f} GiB on this rank ({_largest(held)})"
        )


def figures(spec: RankSpec, error: BaseException) -> dict[str, Any]:
    """What was planned for this rank and what there is, in bytes; None where nothing tells.

    ``plan_bytes``, ``plan_margin_bytes``, ``plan_by_owner``, ``cap_bytes``; of the allocator
    ``allocated_bytes``, ``reserved_bytes``, ``allocated_peak_bytes``; of the device ``free_bytes``
    and ``total_bytes``.
    """
    devices = [d for d in spec.plan.get("devices") or () if d.get("rank") == spec.rank]
    planned = devices[0] if devices else {}
    found: dict[str, Any] = {
        "plan_bytes": planned.get("predicted_bytes"),
        "plan_margin_bytes": planned.get("margin_bytes"),
        "plan_by_owner": dict(planned.get("by_owner") or {}),
        "cap_bytes": spec.gpu_memory_cap,
        "allocated_bytes": None,
        "reserved_bytes": None,
        "allocated_peak_bytes": None,
        "free_bytes": None,
        "total_bytes": None,
    }
    if isinstance(error, MemoryCapError):
        found["allocated_bytes"] = found["allocated_peak_bytes"] = sum(error.held.values())
    elif spec.device.startswith("cuda"):
        # The rank sees its own GPU alone, whatever number the plan gives it.
        found |= _of_device(torch.device("cuda", torch.cuda.current_device()))
    return found


def _of_device(device: torch.device) -> dict[str, int]:
    found = {
        "allocated_bytes": torch.cuda.memory_allocated(device),
        "reserved_bytes": torch.cuda.memory_reserved(device),
        "allocated_peak_bytes": torch.cuda.max_memory_allocated(device),
    }
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the device itself may be what failed
        return found
    return found | {"free_bytes": int(free), "total_bytes": int(total)}


def told(found: dict[str, Any]) -> str:
    """The figures in one line for a person."""
    return sentence(
        "memory ran out: the plan said {plan} (margin {margin}: {owners}); the allocator has "
        "{used} in use, {reserved} reserved, at most {peak} in use since its peak was last reset; "
        "the cap is {cap}; the device has {free} free of {total}",
        plan=_gib(found["plan_bytes"]),
        margin=_gib(found["plan_margin_bytes"]),
        owners=_largest(found["plan_by_owner"]),
        used=_gib(found["allocated_bytes"]),
        reserved=_gib(found["reserved_bytes"]),
        peak=_gib(found["allocated_peak_bytes"]),
        cap=_gib(found["cap_bytes"]),
        free=_gib(found["free_bytes"]),
        total=_gib(found["total_bytes"]),
    )


def _gib(size: int | None) -> str:
    return "n/a" if size is None else f"{size / _GIB:.3f} GiB"


def _largest(owners: dict[str, int]) -> str:
    top = sorted(owners.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{owner} {_gib(size)}" for owner, size in top) or "n/a"

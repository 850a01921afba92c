"""What makes a rank's rings of keys and values, as its plan says."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.model.caches import RollingCache
from engine.model.packed import PackedRings, Packing
from engine.placement.onrank.hostkv import HostRings
from engine.placement.plan import Plan


class Rings:
    """The rings of one rank. ``make`` is for ``Generation``.

    ``device_bytes`` is what they share on the device beside their own; ``owner`` says under which
    name it is booked.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        packing: Packing = "fp8" if plan.kv_dtype == "fp8" else "plain"
        self.packed: PackedRings | None = None
        self.owner = "kv"
        if plan.kv == "host":
            self.packed, self.owner = HostRings(device, packing), "streamed"
        elif packing == "fp8" or plan.lead != "own":
            self.packed = PackedRings(device, packing)

    @property
    def make(self) -> Callable[..., RollingCache]:
        return RollingCache if self.packed is None else self.packed.ring

    @property
    def device_bytes(self) -> int:
        return 0 if self.packed is None else self.packed.nbytes

    @property
    def remark(self) -> str | None:
        """What the operator should know of how they lie."""
        if self.packed is None or self.packed.remark is None:
            return None
        return f"keys and values are not pinned ({self.packed.remark}): copies are slower"

    def close(self) -> None:
        """Undo registrations; no ring may be used afterwards."""
        if self.packed is not None:
            self.packed.close()

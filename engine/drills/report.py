"""What a drill says: whether anything was lost, how long recovery took, what was left over."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


class NotPermittedError(Exception):
    """The fault cannot be made on this host; says why. Nothing was done."""


class DrillError(Exception):
    """The drill itself came to nothing: its job was refused, or nothing happened in time."""


@dataclass
class DrillReport:
    """The object of ``avatop drill``.

    ``lost`` names what of the job is not as without the fault. ``recovered`` is None where the
    fault could not be made. ``recovery_seconds`` run from the fault (from its removal, where a
    person has to remove it) to the next finished block.
    """

    drill: str
    lost: list[str] = field(default_factory=list)
    recovered: bool | None = None
    recovery_seconds: float | None = None
    latents_sha256: str | None = None
    undisturbed_sha256: str | None = None
    leftover_pids: list[int] = field(default_factory=list)
    leftover_shm: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Recovered, nothing lost, nothing left over."""
        return bool(self.recovered) and not (self.lost or self.leftover_pids or self.leftover_shm)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)

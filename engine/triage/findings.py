"""What the classifier says about a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.triage.catalogue import Remedy, Role, Severity


@dataclass(frozen=True)
class Finding:
    """One incident, or one consequence of another.

    ``lines`` is (first, last), counted from 1, of its first occurrence; ``count`` matches in all.
    ``rank`` is the first rank that shows it, where lines name ranks. ``explained_by`` is the class
    of the root that a victim follows from.
    """

    class_: str
    severity: Severity
    lines: tuple[int, int]
    confidence: float
    role: Role
    cause: str
    remedies: tuple[Remedy, ...]
    rank: int | None = None
    ranks: tuple[int, ...] = ()
    count: int = 1
    signatures: tuple[str, ...] = ()
    explained_by: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON of ``avatop triage``."""
        return {
            "class": self.class_,
            "severity": self.severity,
            "lines": list(self.lines),
            "confidence": round(self.confidence, 2),
            "role": self.role,
            "cause": self.cause,
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "rank": self.rank,
            "ranks": list(self.ranks),
            "count": self.count,
            "signatures": list(self.signatures),
            "explained_by": self.explained_by,
        }

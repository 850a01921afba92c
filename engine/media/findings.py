"""What a check or lint found: level, where, what, and the remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from engine.sentence import sentence

Level = Literal["error", "warning"]


class MediaError(ValueError):
    """A media file that cannot be read, written or joined; says what, where and what to do."""


@dataclass(frozen=True)
class Finding:
    """One finding. ``kind`` is a stable word for programs, ``text`` a clause for people."""

    level: Level
    kind: str
    subject: str  # "image", "audio", "prompt", "video" or a file's name
    text: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        told = sentence("{subject}: {text}", subject=self.subject, text=self.text)
        if not self.remedy:
            return sentence("{told}.", told=told)
        remedy = f"{self.remedy[0].upper()}{self.remedy[1:]}"
        return sentence("{told}. {remedy}.", told=told, remedy=remedy)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Only the findings that must stop the work."""
    return tuple(f for f in findings if f.level == "error")

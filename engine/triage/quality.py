"""``bad_quality``: what the check of a committed clip found, as a finding with remedies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.media.findings import Finding as MediaFinding
from engine.triage.catalogue import Catalogue, catalogue
from engine.triage.findings import Finding

CLASS: Final = "bad_quality"
#: Kinds of ``engine.media.check`` → the remedies that come first.
_REMEDIES: Final[dict[str, tuple[str, ...]]] = {
    "nan": ("full_precision", "verify_checkpoint"),
    "black": ("verify_checkpoint", "look_at_inputs"),
    "frozen": ("look_at_inputs",),
    "silent": ("look_at_inputs",),
    "short_audio": ("look_at_inputs",),
    "av_offset": ("look_at_inputs",),
    "no_audio": ("look_at_inputs",),
    "no_video": ("verify_checkpoint",),
    "frame_count": ("verify_checkpoint",),
    "unplayable": ("verify_checkpoint",),
    "bad_audio": ("look_at_inputs",),
}


def quality_findings(
    checked: Iterable[MediaFinding], *, rank: int | None = None, known: Catalogue | None = None
) -> list[Finding]:
    """Findings of a clip's check as triage tells them. They stem from no log line: lines (0, 0)."""
    data = known or catalogue()
    return [
        Finding(
            class_=CLASS,
            severity=found.level,
            lines=(0, 0),
            confidence=0.99,
            role="root",
            cause=f"{found.subject}: {found.text}.",
            remedies=tuple(
                data.remedies[name]
                for name in _REMEDIES.get(found.kind, data.incidents[CLASS].remedies)
            ),
            rank=rank,
            signatures=(f"check.{found.kind}",),
        )
        for found in checked
        if found.kind in _REMEDIES
    ]

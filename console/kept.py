"""What the engine kept of a job that has ended: its ranks' measured peaks, its clips, its plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from console import history
from console.history import Stack
from engine.messages import ClipCommitted, JobRow

#: Results are some kilobytes, or some more for each clip; anything larger is no result.
_MOST: Final = 16 << 20


@dataclass(frozen=True)
class Kept:
    """Of one job.

    Args:
        peaks: rank → its highest bytes, and each owner's own highest: these need not have come
            together, so they may be more than the peak.
        clips: as they were committed, oldest first. plan: the last one, None where it had none.
    """

    peaks: Mapping[int, Stack] = field(default_factory=dict)
    clips: tuple[ClipCommitted, ...] = ()
    plan: Mapping[str, Any] | None = None


NOTHING: Final = Kept()


def kept_of(job: JobRow) -> Kept:
    """Read a job's result; ``NOTHING`` where it left none, or another job's lies there."""
    if job.manifest is None:
        return NOTHING
    file = Path(job.manifest).parent.parent / "result.json"
    try:
        if file.stat().st_size > _MOST:
            return NOTHING
        body = json.loads(file.read_text(encoding="utf-8"))
        if body["job"] != job.id:
            return NOTHING
        peaks = {
            int(rank["rank"]): (float(rank["peak_bytes"]), history.stack(rank["by_owner"] or {})[1])
            for rank in body["ranks"]
            if rank.get("peak_bytes")
        }
        clips = tuple(
            ClipCommitted(
                job=job.id, clip=int(clip["clip"]), frames=int(clip["frames"]),
                seconds=float(clip["seconds"]), fps=float(clip["fps"]), path="", t=0.0,
            )
            for clip in body["clips"]
        )  # fmt: skip
        return Kept(peaks, clips, body["plan"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return NOTHING  # what cannot be read tells nothing

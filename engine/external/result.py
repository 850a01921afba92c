"""What a command made: found, checked, put in its place whole, and told."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.external.command import CommandEnd
from engine.media.check import OutputCheck, check_output
from engine.media.findings import MediaError
from engine.messages import JobRow
from engine.outcome import outline


@dataclass(frozen=True)
class Made:
    """A checked video in its final place."""

    path: Path
    check: OutputCheck

    @property
    def broken(self) -> str:
        """Why it is no video to hand on; empty when it is."""
        bad = ("unplayable", "no_video", "bad_audio")
        return "; ".join(f.sentence for f in self.check.findings if f.kind in bad)


def collect(expected: Path, pattern: str | None, folder: Path, since: float) -> Path | None:
    """The program's video: where it was told to write, else the newest that fits ``pattern``."""
    if expected.is_file():
        return expected
    found = [p for p in folder.glob(pattern or "**/*.mp4") if p.is_file()]
    fresh = [p for p in found if p.stat().st_mtime >= since]
    return max(fresh, key=lambda p: p.stat().st_mtime, default=None)


def publish(made: Path, output: Path, audio: str | None) -> Made:
    """Check a video and move it to ``output`` in one step.

    Raises:
        MediaError: it cannot be moved there.
    """
    check = check_output(made, source_audio=Path(audio) if audio else None, expected_offset=0.0)
    temporary = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, temporary)
        temporary.replace(output)
    except OSError as error:
        raise MediaError(f"{output}: {error.strerror or error}") from error
    return Made(output, check)


def result_of(
    row: JobRow,
    argv: tuple[str, ...],
    peaks: dict[str, int],
    estimated: bool,
    end: CommandEnd | None,
    made: Made | None,
    remarks: tuple[str, ...],
) -> dict[str, Any]:
    """The object of ``avatop run --json`` for an external command, JSON-safe.

    ``ranks`` tells each of its devices; ``watched`` says that its memory was read from the driver
    and not capped by an allocator.
    """
    check = None if made is None else made.check
    return {
        **outline(row),
        "kind": "command",
        "command": list(argv),
        "exit_code": None if end is None else end.code,
        "leftover": [] if end is None else list(end.leftover),
        "frames": None if check is None else check.frames,
        "fps_video": None if check is None else check.fps,
        "video_seconds": None if check is None else check.seconds,
        "av_offset_seconds": None if check is None else check.av_offset_seconds,
        "ranks": [
            {"rank": n, "device": uuid, "peak_bytes": peak, "predicted_bytes": None, "by_owner": {}}
            for n, (uuid, peak) in enumerate(peaks.items())
        ],
        "watched": {"peak_bytes": max(peaks.values(), default=None), "estimated": estimated},
        "findings": [] if check is None else [f.to_dict() for f in check.findings],
        "remarks": list(remarks),
    }

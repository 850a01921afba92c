"""The end of a job: the joined, checked video, and the result other programs read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.jobs.manifest import Manifest
from engine.jobs.paths import JobPlaces
from engine.media.check import check_output
from engine.media.findings import Finding, MediaError
from engine.media.join import AvInfo, join
from engine.messages import JobRow
from engine.preflight import Prepared
from engine.report_events import Progress
from engine.sentence import sentence

RESULT_FILE: Final = "result.json"

#: Findings that are told, and the job is done all the same: a viewer may live with them, or
#: (av_offset) a correlation may be led astray by a sound that repeats itself.
_TOLERABLE: Final = frozenset({"black", "frozen", "silent", "av_offset"})


@dataclass(frozen=True)
class Video:
    """A joined file with what its check found."""

    info: AvInfo
    av_offset_seconds: float | None
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> str:
        """Why the file is not what was asked for; empty when it is."""
        errors = [f for f in self.findings if f.level == "error" and f.kind not in _TOLERABLE]
        return "; ".join(f.sentence for f in errors)


def finish_video(
    manifest: Manifest | None, prepared: Prepared, output: Path, early: bool = False
) -> Video:
    """Join the committed clips with the sound and check the file. Blocks; call it in a thread.

    Args:
        early: what is committed is all that will be.

    Raises:
        MediaError: nothing to join, unreadable sound, a full disk.
    """
    if manifest is None:
        raise MediaError(sentence("there is no clip to join"))
    audio = Path(str(prepared.request.audio))
    info = join(manifest.paths, audio, output)
    check = check_output(
        output,
        manifest.frames if early else prepared.forecast.frames,
        source_audio=audio,
        expected_offset=info.expected_offset_seconds,
    )
    return Video(info, check.av_offset_seconds, check.findings)


def result_of(
    row: JobRow,
    prepared: Prepared,
    progress: Progress,
    manifest: Manifest | None,
    video: Video | None,
) -> dict[str, Any]:
    """The object of ``avatop run --json``: CLI.md's fields and some more, JSON-safe.

    ``peak_bytes`` is the peak of a rank's sum; ``by_owner`` the peak of each owner, which need
    not fall together. ``unshard.events`` counts the gathers of all ranks.
    """
    reported = [r.result for r in progress.ranks if r.result is not None]
    return {
        **outline(row),
        "frames": video.info.frames if video is not None else None,
        "fps_video": video.info.fps if video is not None else None,
        "video_seconds": video.info.seconds if video is not None else None,
        "clips": [
            {"clip": c.clip, "seconds": c.seconds, "fps": c.fps, "frames": c.frames}
            for c in (manifest.clips if manifest is not None else ())
        ],
        "latents_sha256": _first(reported, "latents_sha256"),
        "latents": _first(reported, "dump"),
        "ranks": [
            {
                "rank": number,
                "device": tally.device,
                "device_name": tally.device_name,
                "device_uuid": tally.device_uuid,
                "role": tally.role,
                "peak_bytes": tally.peak_bytes,
                "predicted_bytes": prepared.plan.devices[number].predicted_bytes,
                "by_owner": tally.by_owner,
                "spikes": tally.spikes,
            }
            for number, tally in enumerate(progress.ranks)
        ],
        "unshard": {
            "events": sum(t.unshard_count for t in progress.ranks),
            "max_bytes": max((t.unshard_largest for t in progress.ranks), default=0),
        },
        "first_frame_seconds": _first(reported, "first_frame_seconds"),
        "av_offset_seconds": video.av_offset_seconds if video is not None else None,
        "findings": [f.to_dict() for f in video.findings] if video is not None else [],
        "remarks": list(prepared.remarks),
        "plan": prepared.plan.to_dict(),
    }


def outline(row: JobRow) -> dict[str, Any]:
    """The part of the result that a job's row alone tells; the rest is null."""
    took = None if row.started is None or row.ended is None else row.ended - row.started
    if took is not None and took < 0:  # the wall clock was set back meanwhile
        took = None
    return {
        "job": row.id,
        "state": row.state,
        "error": row.error,
        "output": row.output if row.state == "done" else None,
        "manifest": row.manifest,
        "frames": None,
        "fps_video": None,
        "seconds": took,
        "clips": [],
        "latents_sha256": None,
        "mode": row.mode,
        "size": row.size,
        "ranks": [],
        "unshard": {"events": 0, "max_bytes": 0},
        "first_frame_seconds": None,
        "av_offset_seconds": None,
        "spikes": row.spikes,
        "plan": None,
    }


def write_result(places: JobPlaces, body: dict[str, Any]) -> None:
    """Keep the result in the job's folder, whole or not at all."""
    path = places.folder / RESULT_FILE
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(body, stream, ensure_ascii=False, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_result(places: JobPlaces, row: JobRow) -> dict[str, Any]:
    """A job's result, or what its row tells where there is none."""
    try:
        body = json.loads((places.folder / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return outline(row)
    return body if isinstance(body, dict) else outline(row)


def _first(results: list[dict[str, Any]], name: str) -> Any:
    """The value of the first rank that has one (only one rank holds the whole latents)."""
    return next((r[name] for r in results if r.get(name) is not None), None)

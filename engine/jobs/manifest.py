"""The record of committed clips: what survives a crash, and in what order it is made durable.

A segment folder holds ``manifest.jsonl``, append-only and the truth, and ``manifest.json``, the
same for other programs: ``{"version", "clips": [...], "status"}``. A clip counts once its file
has been renamed into place and its line is on disk, each fsynced, in this order. A line that a
crash tore is ignored; a file without a line is not a clip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from engine.media.segment import PART, fsync_folder
from engine.sentence import sentence

#: Version of the manifest's own format.
FORMAT: Final = 1
#: The file of a segment folder that is the truth.
LINES: Final = "manifest.jsonl"
_JSON: Final = "manifest.json"

Status = Literal["running", "completed", "interrupted", "paused", "cancelled", "failed"]


class ManifestError(ValueError):
    """A manifest that cannot be read, or that belongs to another request."""


@dataclass(frozen=True)
class Clip:
    """One committed clip. ``path`` is relative to the manifest's folder."""

    clip: int
    path: str
    frames: int
    seconds: float  # of work
    fps: float  # video frames per second of work
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Seam:
    """Where a video began anew behind committed clips: it may be seen there."""

    clip: int
    text: str


@dataclass(frozen=True)
class Manifest:
    """What a segment folder holds."""

    folder: Path
    version: str  # of the release that made it
    request_digest: str
    status: Status
    clips: tuple[Clip, ...]
    seams: tuple[Seam, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The clips' files in order."""
        return tuple(self.folder / clip.path for clip in self.clips)

    @property
    def frames(self) -> int:
        return sum(clip.frames for clip in self.clips)

    def whole(self, *, verify: bool = False) -> tuple[Clip, ...]:
        """The leading clips whose files are there with their size, and hash if ``verify``.

        Leading only: a video cannot go on over a missing clip.
        """
        good = []
        for number, clip in enumerate(self.clips):
            path = self.folder / clip.path
            try:
                if clip.clip != number or path.stat().st_size != clip.bytes:
                    break
                if verify and _sha256(path) != clip.sha256:
                    break
            except OSError:
                break
            good.append(clip)
        return tuple(good)

    def to_dict(self) -> dict[str, Any]:
        """The shape of ``manifest.json``."""
        return {
            "format": FORMAT,
            "version": self.version,
            "request_digest": self.request_digest,
            "status": self.status,
            "clips": [dataclasses.asdict(clip) for clip in self.clips],
            "seams": [dataclasses.asdict(seam) for seam in self.seams],
        }


class ManifestWriter:
    """Commits clips into one folder. One writer per folder; not thread-safe."""

    def __init__(self, folder: Path, version: str, request: Mapping[str, Any]) -> None:
        """Start a manifest, or go on with the one of the same request.

        Raises:
            ManifestError: the folder belongs to another request or version, or is damaged.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        digest = request_digest(request)
        lines = folder / LINES
        if lines.exists() and (known := _read_lines(folder)) is not None:
            if (known.request_digest, known.version) != (digest, version):
                raise ManifestError(
                    sentence(
                        "{folder} holds clips of another request or version; use another folder",
                        folder=folder,
                    )
                )
            self._manifest = dataclasses.replace(known, clips=known.whole(), status="running")
            # A torn last line, or lines of clips that are gone, must not precede new ones.
            self._rewrite_lines()
        else:
            self._manifest = Manifest(folder, version, digest, "running", ())
            self._rewrite_lines()
        self._write_json()

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def clip_path(self, clip: int) -> Path:
        """The final name of a clip's segment (what ``SegmentWriter`` is given)."""
        return self.folder / f"clip_{clip:04d}.mp4"

    def commit(
        self, clip: int, temporary: Path, *, frames: int, seconds: float, fps: float, sha256: str
    ) -> Clip:
        """Rename a written segment into place and record it; durable when this returns.

        Raises:
            ManifestError: out of order, or the segment is missing.
        """
        if clip != len(self._manifest.clips):
            raise ManifestError(
                sentence(
                    "clip {clip} cannot be committed after {clips} clips",
                    clip=clip + 1,
                    clips=len(self._manifest.clips),
                )
            )
        final = self.clip_path(clip)
        try:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            size = temporary.stat().st_size
            temporary.replace(final)
            fsync_folder(self.folder)
            entry = Clip(clip, final.name, frames, seconds, fps, sha256, size)
            self._append({"event": "clip", "t": time.time(), **dataclasses.asdict(entry)})
        except OSError as error:
            raise ManifestError(
                sentence("clip {clip} could not be committed: {error}", clip=clip + 1, error=error)
            ) from error
        self._manifest = dataclasses.replace(self._manifest, clips=(*self._manifest.clips, entry))
        self._write_json()
        return entry

    def announce(self, seam: Seam) -> None:
        """Say where the video begins anew; durable when this returns."""
        self._append({"event": "seam", "t": time.time(), **dataclasses.asdict(seam)})
        self._manifest = dataclasses.replace(self._manifest, seams=(*self._manifest.seams, seam))
        self._write_json()

    def finish(self, status: Status) -> Manifest:
        """Record how the job ended."""
        self._append({"event": "status", "t": time.time(), "status": status})
        self._manifest = dataclasses.replace(self._manifest, status=status)
        self._write_json()
        return self._manifest

    def _append(self, line: Mapping[str, Any]) -> None:
        with (self.folder / LINES).open("ab") as stream:
            stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _rewrite_lines(self) -> None:
        manifest = self._manifest
        head = {
            "event": "open",
            "t": time.time(),
            "format": FORMAT,
            "version": manifest.version,
            "request_digest": manifest.request_digest,
        }
        clips = [{"event": "clip", **dataclasses.asdict(clip)} for clip in manifest.clips]
        seams = [{"event": "seam", **dataclasses.asdict(seam)} for seam in manifest.seams]
        lines = [head, *clips, *seams]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        _replace(self.folder / LINES, text)

    def _write_json(self) -> None:
        text = json.dumps(self._manifest.to_dict(), ensure_ascii=False, indent=1)
        _replace(self.folder / _JSON, text + "\n")


def read_manifest(folder: Path) -> Manifest:
    """What is committed in a segment folder.

    Raises:
        ManifestError: there is no manifest, or its head is damaged.
    """
    try:
        manifest = _read_lines(folder)
    except OSError as error:
        raise ManifestError(
            sentence(
                "no manifest in {folder}: {strerror}",
                folder=folder,
                strerror=error.strerror or error,
            )
        ) from error
    if manifest is None:
        raise ManifestError(
            sentence(
                "the manifest in {folder} is damaged: its first line is not readable", folder=folder
            )
        )
    return manifest


def request_digest(request: Mapping[str, Any]) -> str:
    """SHA-256 of a request's canonical JSON: the same request, the same digest."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read_lines(folder: Path) -> Manifest | None:
    """``None`` where not even the first line is whole."""
    manifest: Manifest | None = None
    for raw in (folder / LINES).read_bytes().split(b"\n"):
        try:
            line = json.loads(raw)
            event = line["event"]
            if event == "open":
                manifest = Manifest(folder, line["version"], line["request_digest"], "running", ())
            elif manifest is None:
                return None
            elif event == "clip":
                names = [field.name for field in dataclasses.fields(Clip)]
                entry = Clip(**{name: line[name] for name in names})
                if Path(entry.path).name != entry.path:
                    break  # a clip lies in this folder, nowhere else
                manifest = dataclasses.replace(manifest, clips=(*manifest.clips, entry))
            elif event == "seam":
                seam = Seam(int(line["clip"]), str(line["text"]))
                manifest = dataclasses.replace(manifest, seams=(*manifest.seams, seam))
            elif event == "status":
                manifest = dataclasses.replace(manifest, status=line["status"])
        except (ValueError, KeyError, TypeError):
            break  # torn by a crash: what follows was never committed
    return manifest


def _replace(path: Path, text: str) -> None:
    """Write a small file whole or not at all, and durably."""
    temporary = path.with_name(path.name + PART)
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    fsync_folder(path.parent)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

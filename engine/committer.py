"""Commits finished clips, one after the other, in a thread: rename, manifest line, fsync."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from engine.jobs.kept import essence
from engine.jobs.manifest import LINES, Manifest, ManifestError, ManifestWriter, Seam, Status
from engine.jobs.paths import JobPlaces
from engine.media.segment import PART
from engine.parameters.request import Request
from engine.report_events import Clip

_STATUSES: Final = frozenset({"completed", "interrupted", "paused", "cancelled", "failed"})


class Committer:
    """The only writer of one job's segment folder."""

    def __init__(self, places: JobPlaces, version: str, request: Request) -> None:
        self._places = places
        self._version = version
        self._request = request
        self._clips: asyncio.Queue[Clip | None] = asyncio.Queue()
        self._writer: ManifestWriter | None = None

    @property
    def manifest(self) -> Manifest | None:
        """What is committed; ``None`` before the first clip."""
        return None if self._writer is None else self._writer.manifest

    def put(self, clip: Clip) -> None:
        """A rank has finished a segment."""
        self._clips.put_nowait(clip)

    def close(self) -> None:
        """No more clips will come; ``run`` returns when those at hand are committed."""
        self._clips.put_nowait(None)

    async def run(
        self, committed: Callable[[Clip, Path], None], failed: Callable[[str], None]
    ) -> None:
        """Commit clips as they come. After a failure the rest is dropped."""
        broken = False
        while (clip := await self._clips.get()) is not None:
            if broken:
                continue
            try:
                path = await asyncio.to_thread(self._commit, clip)
            except (ManifestError, OSError) as error:
                broken = True
                failed(str(error))
            else:
                committed(clip, path)

    def finish(self, state: str) -> None:
        """Record the end in the manifest and remove what was not committed. Blocks."""
        if self._writer is not None:
            self._writer.finish(cast(Status, state if state in _STATUSES else "failed"))
        if self._places.segments.is_dir():
            for leftover in self._places.segments.glob(f"*{PART}"):
                leftover.unlink(missing_ok=True)

    def take_up(self) -> int:
        """Go on with what an earlier attempt committed: how many clips are whole. Blocks.

        Raises:
            ManifestError: they are of another request or version.
        """
        if self._writer is None and (self._places.segments / LINES).exists():
            self._writer = self._open()
        return 0 if self._writer is None else len(self._writer.manifest.clips)

    def announce(self, seam: Seam) -> None:
        """Say in the manifest where the video begins anew. Blocks."""
        if self._writer is not None:
            self._writer.announce(seam)

    def _open(self) -> ManifestWriter:
        return ManifestWriter(
            self._places.segments, self._version, essence(self._request.to_dict())
        )

    def _commit(self, clip: Clip) -> Path:
        if self._writer is None:
            self._writer = self._open()
        entry = self._writer.commit(
            clip.clip,
            Path(clip.path),
            frames=clip.frames,
            seconds=clip.seconds,
            fps=clip.fps,
            sha256=clip.sha256,
        )
        return self._places.segments / entry.path

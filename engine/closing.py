"""How a job ends: its clips joined and checked, or what is committed kept; its state told."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from pathlib import Path

from engine.bus import Bus
from engine.committer import Committer
from engine.jobs.manifest import ManifestError
from engine.jobs.paths import JobPlaces
from engine.jobs.words import ended_as
from engine.learning import Learning
from engine.nightwatch.words import quality_raised
from engine.onward import Onward
from engine.outcome import Video, finish_video, result_of, write_result
from engine.preflight import Prepared
from engine.report_events import Progress
from engine.retry.desk import Again
from engine.rowkeeper import RowKeeper
from engine.sentence import sentence


class Ended(Exception):  # noqa: N818 - an end, which need not be an error
    """The job is over: its end state and why."""

    def __init__(self, state: str, reason: str, level: str = "ERROR") -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.level = level


class Closing:
    """The end of one job. The engine's loop only."""

    def __init__(
        self,
        bus: Bus,
        places: JobPlaces,
        progress: Progress,
        ledger: RowKeeper,
        committer: Committer,
        learning: Learning,
        onward: Onward,
    ) -> None:
        self._bus, self._places, self._progress = bus, places, progress
        self._ledger, self._committer = ledger, committer
        self._learning, self._onward = learning, onward
        self._broken_video: str | None = None  # written, and not what was asked for

    async def done(self, prepared: Prepared, *, early: bool) -> None:
        """Join what is committed; ``early``: that is all there will be.

        Raises:
            Ended: the video is not as it must be. MediaError, ManifestError, OSError, StoreError.
        """
        await self._ledger.change(state="decoding")
        row = self._progress.row
        output = Path(str(row.output))
        video = await asyncio.to_thread(
            finish_video, self._committer.manifest, prepared, output, early
        )
        for finding in video.findings:
            level = "ERROR" if finding.level == "error" else "WARNING"
            self._bus.log(level, finding.sentence, row.id)
        told = [finding.to_dict() for finding in video.findings]
        for event in quality_raised(row.id, "video", told):
            self._bus.publish(event)
        if video.broken:
            self._broken_video = str(row.output)
            raise Ended(
                "failed", sentence("the video is not as it must be: {broken}", broken=video.broken)
            )
        await asyncio.to_thread(self._committer.finish, "completed")
        if not early:
            await asyncio.to_thread(self._learning.done, prepared, self._progress)
        await self._write_result(prepared, "done", None, video)
        await asyncio.to_thread(self._onward.kept.forget)
        await self._ledger.change(state="done", eta_seconds=None, resumable=None, error=None)
        part = f" (finished early: {row.clip} of {row.clips} clips)" if row.clip < row.clips else ""
        self._bus.log("INFO", f"done: {row.output}{part}", row.id)

    async def settle(self, end: Ended) -> None:
        """Before anybody decides what comes next: how the job could go on, in its row."""
        self._bus.log(end.level, ended_as(end.state, end.reason), self._progress.row.id)
        if end.state != "cancelled":
            resumable = await self._onward.settle(paused=end.state == "paused")
            self._progress.change(resumable=resumable)

    async def end(self, prepared: Prepared, end: Ended, again: Again | None) -> None:
        """An end that is not "done": keep what is committed, leave no litter."""
        job = self._progress.row.id
        try:
            await asyncio.to_thread(self._committer.finish, end.state)
            if self._progress.row.clip and again is None:
                await self._write_result(prepared, end.state, end.reason, None)
        except (OSError, ManifestError) as error:  # a full disk, a folder that is read-only now
            text = sentence("the end could not be written: {error}", error=error)
            self._bus.log("ERROR", text, job)
        if again is None and end.state in ("cancelled", "failed"):
            await asyncio.to_thread(self._onward.kept.forget)
            self._progress.change(resumable=None)
        if not self._progress.row.clip and self._progress.row.resumable is None:
            await asyncio.to_thread(self._onward.kept.forget)
            await asyncio.to_thread(shutil.rmtree, self._places.folder, ignore_errors=True)
        if again is not None:  # no end: the queue takes it up again
            await self._ledger.change(state="queued", eta_seconds=None, **again.fields)
            return
        await self._ledger.end(
            state=end.state, error=end.reason, output=self._broken_video, eta_seconds=None
        )

    async def _write_result(
        self, prepared: Prepared, state: str, error: str | None, video: Video | None
    ) -> None:
        """The result goes to disk before its state is told, so that who hears of it finds it."""
        progress = self._progress
        row = dataclasses.replace(progress.row, state=state, error=error, ended=time.time())
        body = result_of(row, prepared, progress, self._committer.manifest, video)
        await asyncio.to_thread(write_result, self._places, body)

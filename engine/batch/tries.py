"""One try of one item: its job from submission to end, then its video, verified and published."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.batch import causes
from engine.batch.causes import Cause
from engine.batch.prepare import Ready
from engine.batch.publish import NameTaken, Published, Reached, broken, publish, verify
from engine.batch.rows import ItemRow
from engine.client import EngineClient
from engine.jobs.manifest import ManifestError, read_manifest
from engine.jobs.paths import Places
from engine.media.findings import Finding, MediaError
from engine.media.join import join
from engine.messages import END_STATES, LIVE_STATES, Cancel, Event, JobChanged, JobRow, Submit
from engine.outcome import read_result
from engine.sentence import sentence


class TryFailed(Exception):  # noqa: N818 - says what happened
    """A try that gave no output; ``row`` is its job's, if it had one."""

    def __init__(self, cause: Cause, message: str, row: JobRow | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.row = row


@dataclasses.dataclass(frozen=True)
class Made:
    """A published output with what its making took."""

    published: Published
    frames: int | None
    seconds: float | None
    fps: float | None
    peak_bytes: int | None
    findings: tuple[Finding, ...]


class Jobs:
    """The batch's jobs in an engine, as any client sees them. One event loop."""

    def __init__(self, client: EngineClient, batch: str) -> None:
        self._client = client
        self._batch = batch
        self._loop = asyncio.get_running_loop()
        self._rows: dict[int, JobRow] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = client.subscribe(self._hear)

    def close(self) -> None:
        """Listen no more."""
        self._end()

    async def submit(self, request: Mapping[str, Any], version: str | None) -> int:
        """Queue a job; its number.

        Raises:
            TryFailed: the engine does not take it.
        """
        command = Submit(request=dict(request), batch=self._batch, version=version)
        reply = await asyncio.wrap_future(self._client.send(command))
        if not reply.ok or reply.job is None:
            raise TryFailed(causes.of_refusal(reply.state, reply.message), reply.message)
        return reply.job

    async def ended(self, job: int, limit: float | None) -> JobRow:
        """The job's row once it has ended well.

        Args:
            limit: seconds of work, counted from its start; then it is cancelled.

        Raises:
            TryFailed: it ended otherwise.
        """
        await self._until(job, LIVE_STATES | END_STATES)
        late = False
        try:
            row = await asyncio.wait_for(self._until(job, END_STATES), limit)
        except TimeoutError:
            late = True
            await self.cancel(job, sentence("over its time limit of {limit:g} s", limit=limit))
            row = await self._until(job, END_STATES)
        if row.state == "done":
            return row
        cause = causes.TIMEOUT if late else causes.of_row(row)
        raise TryFailed(cause, row.error or sentence("the job is {state}", state=row.state), row)

    async def cancel(self, job: int, reason: str) -> None:
        """End a job soon."""
        await asyncio.wrap_future(self._client.send(Cancel(job=job, reason=reason)))

    def _hear(self, event: Event) -> None:
        """On the engine's thread, or a mailbox's."""
        if isinstance(event, JobChanged) and event.job.batch == self._batch:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits
                self._loop.call_soon_threadsafe(self._take, event.job)

    def _take(self, row: JobRow) -> None:
        self._rows[row.id] = row
        task = self._loop.create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, job: int, states: frozenset[str]) -> JobRow:
        async with self._changed:
            await self._changed.wait_for(
                lambda: job in self._rows and self._rows[job].state in states
            )
            return self._rows[job]


def make_output(
    claim: ItemRow,
    row: JobRow,
    ready: Ready,
    final: Path,
    places: Places,
    facts: Mapping[str, Any],
    reached: Reached,
) -> Made:
    """A finished job's video → a published output. Blocks; for the verification pool.

    Raises:
        TryFailed: the video is broken, its name is taken, or it cannot be kept.
    """
    result = read_result(places.job(row.id), row)
    temporary = Path(str(claim.temporary))
    try:
        if ready.resampled:
            _join_original(row, Path(claim.audio), temporary)
        check = verify(temporary, result.get("frames"), Path(claim.audio))
        if broken(check) and row.manifest:
            _join_original(row, Path(claim.audio), temporary)
            check = verify(temporary, result.get("frames"), Path(claim.audio))
        bad = broken(check)
        if bad:
            text = " ".join(finding.sentence for finding in bad)
            raise TryFailed(causes.BROKEN_OUTPUT, text, row)
        reached("verified")
        figures = _figures(row, result)
        body = {**facts, **figures, "frames": check.frames, "job": row.id, "attempt": claim.fence}
        published = publish(temporary, final, body, reached)
    except (MediaError, ManifestError) as error:
        cause = causes.of_text(str(error), causes.BROKEN_OUTPUT)
        raise TryFailed(cause, str(error), row) from error
    except NameTaken as error:
        raise TryFailed(causes.NAME_TAKEN, str(error), row) from error
    except OSError as error:
        raise TryFailed(causes.of_os_error(error), str(error), row) from error
    return Made(published, check.frames, findings=check.findings, **figures)


def _join_original(row: JobRow, audio: Path, target: Path) -> None:
    """The job's clips with the item's own sound: what the job heard was 16 kHz mono.

    Jobs of external commands have no clips; their sound is their own.
    """
    if row.manifest:
        join(read_manifest(Path(row.manifest).parent).paths, audio, target)


def _figures(row: JobRow, result: Mapping[str, Any]) -> dict[str, Any]:
    clips = result.get("clips") or []
    work = sum(float(clip["seconds"]) for clip in clips)
    frames = sum(int(clip["frames"]) for clip in clips)
    peaks = [rank["peak_bytes"] for rank in result.get("ranks") or [] if rank["peak_bytes"]]
    whole = None if row.started is None or row.ended is None else row.ended - row.started
    return {
        "seconds": whole,
        "fps": frames / work if work else row.fps,
        "peak_bytes": max(peaks, default=row.peak_bytes),
    }

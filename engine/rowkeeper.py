"""Keeps a job's row in the store and on the screen while it changes many times a second."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any, Final, Protocol

from engine.bus import Bus
from engine.jobs.store import JobStore, StoreError
from engine.messages import JobChanged, JobRow
from engine.sentence import sentence

#: Seconds at most between two publications of changed figures; states and clips are told at once.
PUBLISH_SECONDS: Final = 0.25
#: Seconds at most between two writes of changed figures: a write is an fsync.
STORE_SECONDS: Final = 2.0

_WAY: Final = ("queued", "preflight", "loading", "running", "decoding", "done")


class Held(Protocol):
    """Whoever holds the row: a run's progress."""

    @property
    def row(self) -> JobRow: ...
    def change(self, **fields: Any) -> None: ...


class RowKeeper:
    """One job's row: published soon, stored durably where it matters. The engine's loop only."""

    def __init__(self, store: JobStore, bus: Bus, progress: Held) -> None:
        self._store = store
        self._bus = bus
        self._progress = progress
        self._published = self._stored = progress.row
        self._stored_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._changing = 0  # changes on their way to disk
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._writing: set[asyncio.Task[None]] = set()

    async def change(self, **fields: Any) -> None:
        """Change the row; it is on disk before it is told.

        Raises:
            StoreError: it could not be kept.
        """
        self._progress.change(**fields)
        self._changing += 1
        try:
            await self._persist()
        finally:
            self._changing -= 1
        self._publish()

    async def end(self, **fields: Any) -> None:
        """Change the row for the last time; told even where the store takes nothing any more.

        The next engine finds the row as it was last kept, without an owner, and says so.
        """
        try:
            await self.change(**fields)
        except StoreError as error:
            text = sentence("the job's end is told, and not kept: {error}", error=error)
            self._bus.log("ERROR", text, self._progress.row.id)
            self._publish()

    def touch(self, now: bool = False) -> None:
        """The row may have changed: tell it soon (``now``: at once, and on disk)."""
        row = self._progress.row
        if row == self._published:
            return
        if now or row.state != self._published.state:
            self._publish()
            self._write_aside()
        elif self._timer is None:
            self._timer = self._loop.call_later(PUBLISH_SECONDS, self._publish)

    def _publish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._changing:  # a timer that was set before: what changes is told once it is kept
            return
        row = self._progress.row
        if row != self._published:
            self._published = row
            self._bus.publish(JobChanged(job=row))
        if row != self._stored and time.monotonic() - self._stored_at > STORE_SECONDS:
            self._write_aside()

    def _write_aside(self) -> None:
        self._stored_at = time.monotonic()
        task = self._loop.create_task(self._persist_or_tell())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _persist_or_tell(self) -> None:
        try:
            await self._persist()
        except StoreError as error:
            self._bus.log("ERROR", str(error), self._progress.row.id)

    async def _persist(self) -> None:
        async with self._lock:  # each writer writes the newest row; none overtakes another
            row, known = self._progress.row, self._stored
            if row == known:
                return
            stored = await asyncio.to_thread(self._write, known, row)
            self._stored = row
            self._stored_at = time.monotonic()
            # What the store fills in by itself.
            self._progress.change(started=stored.started, ended=stored.ended)

    def _write(self, known: JobRow, row: JobRow) -> JobRow:
        """In a thread. A short job may leave a state before it was seen: each is still recorded."""
        changed = {
            field.name: getattr(row, field.name)
            for field in dataclasses.fields(JobRow)
            if getattr(row, field.name) != getattr(known, field.name)
        }
        if row.state in _WAY and known.state in _WAY:
            for state in _WAY[_WAY.index(known.state) + 1 : _WAY.index(row.state)]:
                self._store.update(row.id, state=state)
        return self._store.update(row.id, **changed)

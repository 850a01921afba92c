"""The night watch of an engine: what looks after jobs, host and files while nobody does.

Started and ended with the engine's services; everything it finds is an event, a log line, or both.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.alerts.book import Book, BookError
from engine.alerts.evaluate import Order
from engine.alerts.states import ACTIVE, SILENCED, Alert
from engine.bus import Bus
from engine.checkpoint.fingerprint import files_of
from engine.guard.evidence import Memory
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import (
    Acknowledge,
    Audited,
    CheckpointChanged,
    FindingRaised,
    JobRow,
    Reap,
    Reply,
    Silence,
)
from engine.nightwatch import disk
from engine.nightwatch.checkpoints import FileWatch, later
from engine.nightwatch.clock import ClockWatch
from engine.nightwatch.survey import Survey
from engine.nightwatch.words import over, remedies_of
from engine.preflight import Prepared
from engine.sentence import sentence

if TYPE_CHECKING:
    from engine.queue import JobQueue

#: Seconds between looks at disks, clocks and what jobs need.
TURN_SECONDS: Final = 2.0
_LOADING: Final = frozenset({"preflight", "loading"})


class Night:
    """The engine's loop only.

    Args:
        read_memory: the driver's list of holders as last sampled; None where there is no driver.
        read_only: no process is ever ended.
        pause: stops a job at its next clip boundary, with a reason.
        usage: of a disk; given by tests.
    """

    def __init__(
        self,
        bus: Bus,
        places: Places,
        store: JobStore,
        queue: JobQueue,
        pause: Callable[[int, str], Reply],
        *,
        read_memory: Callable[[], Memory] | None = None,
        read_only: bool = False,
        usage: disk.Usage | None = None,
    ) -> None:
        self._bus = bus
        self._places = places
        self._store = store
        self._queue = queue
        self._pause = pause
        self.usage = usage
        self._clock = ClockWatch()
        self._files = FileWatch(self._changed)
        self._known: dict[int, frozenset[Path]] = {}  # job → files, as they are when it is seen
        self._full: set[int] = set()  # jobs that were told of a full disk
        self._tasks: list[asyncio.Task[None]] = []
        self.survey = Survey(
            bus, store, str(places.state), read_memory=read_memory, read_only=read_only
        )

    @property
    def watched(self) -> frozenset[int]:
        """Jobs whose checkpoint is watched."""
        return self._files.jobs

    def start(self) -> None:
        for work in (self.survey.run(), self._turns(), self._files.run()):
            self._tasks.append(asyncio.get_running_loop().create_task(self._safely(work)))

    async def close(self) -> None:
        """End the watch; a look under way is waited for."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _safely(self, work: Any) -> None:
        """Our own fault in one watch is told; the jobs and the other watches go on."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - told, and nothing else is touched by it
            text = sentence(
                "a watch ended by an internal error: {name}: {error}",
                name=type(error).__name__,
                error=error,
            )
            self._bus.log("ERROR", text)

    # -- commands ------------------------------------------------------------------------------

    async def answer(self, command: Reap | Acknowledge | Silence) -> Reply:
        """What people ask of processes and alerts."""
        if isinstance(command, Reap):
            return await self.survey.reap(command)
        now = time.time()
        found = self._bus.finding(command.alert) if isinstance(command, Acknowledge) else None
        if found is not None:
            return await self._seen(found, command.by)
        if isinstance(command, Acknowledge):
            order = Order("ack", command.alert, command.by, now)
        elif command.seconds > 0:
            order = Order("silence", command.alert, command.by, now, now + command.seconds)
        else:
            order = Order("unsilence", command.alert, command.by, now)
        try:
            reply = await asyncio.to_thread(self._order, order)
        except (BookError, StoreError) as error:
            return Reply(False, str(error))
        if reply.ok and not (order.kind == "ack" and reply.state == "silenced"):
            done = Audited(
                action=order.kind, by=order.by, target=order.target, result=str(reply.state)
            )
            self._bus.publish(done)
        return reply

    async def _seen(self, found: FindingRaised, by: str) -> Reply:
        """Somebody has read a finding: it is over for everybody, and stays on record."""
        try:
            await asyncio.to_thread(self._store.audit, "finding.ack", finding=found.id, by=by)
        except StoreError as error:
            return Reply(False, str(error))
        self._bus.publish(over(found))
        target = found.id if found.job is None else f"job {found.job}"
        self._bus.publish(Audited(action="ack", by=by, target=target, result=found.finding))
        return Reply(True, sentence("{target} is acknowledged", target=found.id), state="seen")

    def _order(self, order: Order) -> Reply:
        """In a thread: the alerts' own thread takes the order up within a second."""
        book = Book(self._places.state)
        known = book.look(order.t)
        meant = [alert for alert in known if order.target in (alert.id, alert.rule)]
        if not meant:
            return Reply(False, sentence("no alert is called {target}", target=order.target))
        quiet = [alert for alert in meant if alert.state == SILENCED]
        loud = any(alert.state in ACTIVE and alert.state != SILENCED for alert in meant)
        if order.kind == "ack" and quiet and not loud:
            return Reply(True, _stays(order, quiet), state="silenced")  # nothing to be recorded
        book.ask(order)
        detail = {"alert": order.target, "by": order.by, "until": order.until}
        self._store.audit(f"alert.{order.kind}", **detail)
        told = {
            "ack": ("acknowledged", sentence("{target} is acknowledged", target=order.target)),
            "silence": ("silenced", sentence("{target} is silenced", target=order.target)),
            "unsilence": (
                "no longer silenced",
                sentence("{target} is no longer silenced", target=order.target),
            ),
        }
        state, text = told[order.kind]
        return Reply(True, text, state=state)

    # -- turns ---------------------------------------------------------------------------------

    async def _turns(self) -> None:
        while True:
            told = self._clock.look()
            if told is not None:
                self._bus.log("WARNING", told)
            await self._watch_files()
            for row, _ in self._queue.at_work():
                if row.state == "running" and row.id not in self._full:
                    await self._watch_disk(row)
            self._full &= {row.id for row, _ in self._queue.at_work()}
            await asyncio.sleep(TURN_SECONDS)

    async def _watch_disk(self, row: JobRow) -> None:
        segments = self._places.job(row.id).segments
        folders = (segments, Path(str(row.output)).parent)
        found = await asyncio.to_thread(self._trouble, folders, segments)
        if found is None:
            return
        self._full.add(row.id)
        text = sentence("{what}; the job stops after its clip", what=found.sentence)
        self._bus.log("ERROR", text, row.id)
        self._bus.publish(
            FindingRaised(
                id=f"job{row.id}-disk_full",
                finding="disk_full",
                severity="error",
                cause=f"{found.sentence[0].upper()}{found.sentence[1:]}.",
                job=row.id,
                remedies=remedies_of("disk_full"),
            )
        )
        self._queue.stop_after_clip(row.id, found.sentence)

    def _trouble(self, folders: tuple[Path, ...], segments: Path) -> disk.Trouble | None:
        clip = disk.largest_clip(segments)
        if self.usage is None:
            return disk.trouble(folders, clip)
        return disk.trouble(folders, clip, self.usage)

    async def _watch_files(self) -> None:
        jobs = {row.id: work for row, work in self._queue.at_work()}
        jobs |= {entry.row.id: entry.prepared for entry in self._queue.waiting}
        for job in self._known.keys() - jobs.keys():
            del self._known[job]
        for job, work in jobs.items():
            if job not in self._known and isinstance(work, Prepared):
                self._known[job] = await asyncio.to_thread(files_of, work.layout)
        self._files.need(self._known)

    async def _changed(self, found: dict[int, tuple[Path, ...]]) -> None:
        """Files changed under jobs: tell, and let none work on with half of each."""
        live = {row.id: (row, work) for row, work in self._queue.at_work()}
        waiting = {entry.row.id: entry.prepared for entry in self._queue.waiting}
        folders: dict[str, tuple[set[str], set[int]]] = {}
        for job, every in found.items():
            files = later(every, self._queue.began(job)) if job in live else every
            if not files:
                continue
            prepared = live[job][1] if job in live else waiting.get(job)
            if not isinstance(prepared, Prepared):
                continue
            names, jobs = folders.setdefault(str(prepared.layout.root), (set(), set()))
            names |= {path.name for path in files}
            jobs.add(job)
        for folder, (names, jobs) in folders.items():
            told = ", ".join(sorted(names))
            self._bus.publish(
                CheckpointChanged(
                    folder=folder, files=tuple(sorted(names)), jobs=tuple(sorted(jobs))
                )
            )
            for job in sorted(jobs):
                row = live[job][0] if job in live else None
                self._act(
                    job,
                    row,
                    sentence("{told} of {folder} changed on disk", told=told, folder=folder),
                )

    def _act(self, job: int, row: JobRow | None, what: str) -> None:
        if row is None:
            self._bus.log("WARNING", f"{what}; it is checked again before the job begins", job)
        elif row.state in _LOADING:
            reason = sentence(
                "{what} while it was loading: what is loaded may be half of each", what=what
            )
            self._bus.log("ERROR", reason, job)
            self._queue.interrupt(job, reason)
        elif row.state == "running":
            reason = sentence("{what} while the job runs with what it was", what=what)
            self._bus.log("WARNING", f"{reason}; it pauses at the next clip boundary", job)
            reply = self._pause(job, reason)
            if not reply.ok:
                self._bus.log("WARNING", reply.message, job)


def _stays(order: Order, quiet: Sequence[Alert]) -> str:
    """That a silence goes on, and until when: what is silenced needs no acknowledging."""
    ends = [alert.until for alert in quiet if alert.until is not None]
    if not ends:
        return sentence("{target} stays silenced", target=order.target)
    end, now = time.localtime(max(ends)), time.localtime(order.t)
    clock = time.strftime("%H:%M" if end[:3] == now[:3] else "%m-%d %H:%M", end)
    return sentence("{target} stays silenced until {time}", target=order.target, time=clock)

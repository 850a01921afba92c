"""The picture in the console's mind: events go in, what the widgets draw comes out.

No Textual here and no threads: the app applies events on its own thread, tests and replay do the
same. Every change marks what it touched in ``dirty``, so that only that is drawn again. Each
concern has a class of its own, whose ``take`` says what an event changed; all are bounded.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter, deque
from typing import Any, Final

from console.jobbook import JobBook
from console.machines import Machines
from console.parts import DeviceTrack, LogEntry, Panel, Preview, Track
from console.production import Production
from console.trouble import Trouble
from engine.messages import (
    LOG_LEVELS,
    BlockDone,
    ClipCommitted,
    EngineStarted,
    EngineStopped,
    Event,
    JobRow,
    LogLine,
    Snapshot,
)

LOG_LINES: Final = 20_000  # lines kept for the log pane; the log file has all of them

#: Everything a widget can show; ``dirty`` holds the words of what changed.
_ON_ITS_WAY: Final = 200  # lines at the most that come again after a snapshot
PARTS: Final = frozenset({
    "devices", "jobs", "logs", "preview", "header", "pipeline", "footer", "plans", "clips",
    "alerts", "findings", "audits", "processes", "batches", "releases", "checkpoint",
})  # fmt: skip


class Model:
    """Everything the console knows. Apply events, then read.

    ``machines`` (devices, ranks), ``book`` (jobs, plans, clips), ``trouble`` (alerts, findings,
    audits) and ``production`` (batches, releases, processes, checkpoints) hold it.
    """

    def __init__(self) -> None:
        self.host = ""
        self.version = ""
        self.device_source = "host"
        self.connected = False
        self.stopped: str | None = None  # why the engine ended
        self.now = time.time()
        self.machines = Machines()
        self.book = JobBook()
        self.trouble = Trouble()
        self.production = Production()
        self.logs: deque[LogEntry] = deque(maxlen=LOG_LINES)
        self.dirty: set[str] = set(PARTS)
        self._log_number = 0
        self._ground: Counter[tuple[float, str, int | None]] = Counter()  # lines of a snapshot

    def next_empty(self) -> Model:
        """An empty picture for another moment; its log lines are numbered on from here."""
        empty = Model()
        empty._log_number = self._log_number
        return empty

    def become(self, other: Model) -> None:
        """Take over another picture (a replay's, at another moment); all is drawn again."""
        self.__dict__.update(other.__dict__)
        self.dirty = set(PARTS)

    # -- in ----------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event in. Kinds this console does not show are ignored."""
        if isinstance(event, LogLine):
            self._log_line(event)
            self.dirty |= self.machines.take(event)
        elif isinstance(event, EngineStarted):
            self.host, self.version = event.host, event.version
            self.device_source = event.device_source
            self.connected = True
            self.stopped = None  # a recording may hold one engine after another
            self.dirty |= {"header", "devices"}
        elif isinstance(event, EngineStopped):
            self.stopped = event.reason
            self.dirty |= {"header", "devices", "jobs"}
        else:
            for part in (self.machines, self.book, self.trouble, self.production):
                changed = part.take(event)
                if changed:
                    self.dirty |= changed
                    break

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Take the engine's present state as the ground; events told since stay."""
        self.connected = True
        self.device_source = snapshot.device_source
        self.book.take_snapshot(snapshot)
        self.machines.take_snapshot(snapshot, self.now)
        self.trouble.take_snapshot(snapshot)
        self.production.take_snapshot(snapshot, self.now)
        self._ground = Counter()
        newest = snapshot.logs[-1].t if snapshot.logs else 0.0
        since = [entry for entry in self.logs if entry.t > newest]
        self.logs.clear()
        for line in snapshot.logs:
            self._log_line(line)
        # What was on its way when the snapshot was made comes once more.
        self._ground = Counter(
            (line.t, line.text, line.rank) for line in snapshot.logs[-_ON_ITS_WAY:]
        )
        for entry in since:
            self._log_number += 1
            entry.number = self._log_number
            self.logs.append(entry)
        self.dirty |= PARTS

    def _log_line(self, event: LogLine) -> None:
        key = (event.t, event.text, event.rank)
        if self._ground.get(key, 0) > 0:
            self._ground[key] -= 1
            return
        source = event.source if event.rank is None else f"rank {event.rank}"
        level = event.level if event.level in LOG_LEVELS else "INFO"
        self._log_number += 1
        self.logs.append(
            LogEntry(
                self._log_number,
                event.t,
                level,
                source,
                event.text,
                event.where,
                event.job,
                event.rank,
                event.stream,
            )
        )
        self.dirty.add("logs")

    # -- out ---------------------------------------------------------------------------------

    @property
    def devices(self) -> dict[str, DeviceTrack]:
        return self.machines.devices

    @property
    def host_memory(self) -> tuple[int | None, int | None]:
        """Bytes of the host: total, available."""
        return self.machines.host_memory

    @property
    def tracks(self) -> dict[tuple[int, int], Track]:
        """Ranks by (job, rank)."""
        return self.machines.tracks

    def panels(self) -> list[Panel]:
        """The panels of the overview: GPUs by index, then ranks without one, or the host alone."""
        return self.machines.panels()

    def gpus(self) -> list[DeviceTrack]:
        return self.machines.gpus()

    def host_track(self) -> DeviceTrack | None:
        return self.machines.host_track()

    @property
    def jobs(self) -> dict[int, JobRow]:
        return self.book.jobs

    @property
    def plans(self) -> dict[int, dict[str, Any]]:
        """The newest plan of each job, as ``Plan.to_dict`` has it."""
        return self.book.plans

    @property
    def blocks(self) -> dict[int, BlockDone]:
        """The newest block of each job."""
        return self.book.blocks

    @property
    def clips(self) -> dict[int, ClipCommitted]:
        """The newest clip of each job."""
        return self.book.clips

    @property
    def preview(self) -> Preview | None:
        return self.book.preview

    def job_rows(self) -> list[JobRow]:
        """Live jobs first, then queued ones in their order, then ended ones, newest first."""
        return self.book.rows()

    def live_jobs(self) -> list[JobRow]:
        return self.book.live()

    def queued_jobs(self) -> list[JobRow]:
        return self.book.queued()

    def current_job(self) -> JobRow | None:
        """The job the pipeline strip and the header speak of: the newest live one."""
        return self.book.current()

    def log_after(self, number: int) -> list[LogEntry]:
        """Entries with a higher number than ``number``, oldest first."""
        if not self.logs or self.logs[-1].number <= number:
            return []
        if self.logs[0].number > number:
            return list(self.logs)
        entries = list(self.logs)
        return entries[bisect.bisect_right(entries, number, key=lambda e: e.number) :]

    def taken(self) -> set[str]:
        """What changed since the last call."""
        dirty, self.dirty = self.dirty, set()
        return dirty

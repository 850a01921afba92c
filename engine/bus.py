"""Fan-out of events to listeners, and the bounded history a first picture is drawn from.

Everything here runs on the engine's thread except ``subscribe`` and the mailboxes' own threads.
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from engine.client import Listener
from engine.messages import (
    END_STATES,
    AlertChanged,
    Audited,
    BatchChanged,
    CheckpointChanged,
    DeviceReading,
    DevicesDrained,
    DevicesSampled,
    EngineStarted,
    Event,
    FindingRaised,
    JobChanged,
    JobRow,
    LedgerUpdated,
    LogLine,
    PlanMade,
    ProcessClass,
    ProcessesSurveyed,
    RankChanged,
    ReleaseChanged,
    Snapshot,
)

#: A listener that holds the engine's thread longer than this is moved to a thread of its own.
SLOW_SECONDS: Final = 0.1
#: A listener that raises this often in a row is dropped.
MAX_FAILURES: Final = 3
MAILBOX_EVENTS: Final = 4096
KEPT_LOGS: Final = 2000
KEPT_JOBS: Final = 200  # ended jobs in the first picture, beside all that run and wait
KEPT_STATES: Final = 100  # of alerts, findings, batches, releases: the latest of each
KEPT_DETAILS: Final = 16  # ended jobs whose plan, ranks and ledgers are kept
KEPT_AUDITS: Final = 200

_E = TypeVar("_E", bound=Event)


class _Mailbox:
    """Delivers to one slow listener from a thread of its own; the oldest events are dropped."""

    def __init__(self, listener: Listener, failed: Callable[[Exception], None]) -> None:
        self._listener = listener
        self._failed = failed
        self._events: queue.Queue[Event | None] = queue.Queue(MAILBOX_EVENTS)
        self.dropped = 0
        threading.Thread(target=self._deliver, name="avatop-listener", daemon=True).start()

    def put(self, event: Event | None) -> None:
        while True:
            try:
                self._events.put_nowait(event)
            except queue.Full:
                try:
                    self._events.get_nowait()
                    self.dropped += 1
                except queue.Empty:
                    continue
            else:
                return

    def _deliver(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                self._listener(event)
            except Exception as error:  # noqa: BLE001 - a listener's fault is told, never ours
                self._failed(error)


class _Subscription:
    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.failures = 0
        self.mailbox: _Mailbox | None = None


class Bus:
    """Publishes events and remembers the latest of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: list[_Subscription] = []
        self._jobs: dict[int, JobRow] = {}
        self._devices: tuple[DeviceReading, ...] = ()
        self._drained: tuple[str, ...] = ()
        self._ranks: dict[tuple[int, int], RankChanged] = {}
        self._ledgers: dict[tuple[int, int], LedgerUpdated] = {}
        self._plans: dict[int, PlanMade] = {}
        self._logs: deque[LogLine] = deque(maxlen=KEPT_LOGS)
        self._source = "host"
        self._alerts: dict[str, AlertChanged] = {}
        self._findings: dict[str, FindingRaised] = {}
        self._past_alerts: dict[str, AlertChanged] = {}  # resolved
        self._past_findings: dict[str, FindingRaised] = {}
        self._audits: deque[Audited] = deque(maxlen=KEPT_AUDITS)
        self._processes: tuple[ProcessClass, ...] = ()
        self._surveyed: float | None = None
        self._leaked: tuple[str, ...] = ()
        self._batches: dict[str, BatchChanged] = {}
        self._releases: dict[str, ReleaseChanged] = {}
        self._checkpoints: dict[str, CheckpointChanged] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for every event from now on. Any thread.

        Returns a function that ends the subscription; calling it twice does no harm.
        """
        subscription = _Subscription(listener)
        with self._lock:
            self._subscriptions = [*self._subscriptions, subscription]

        def end() -> None:
            self._end(subscription)

        return end

    def _end(self, subscription: _Subscription) -> None:
        with self._lock:
            self._subscriptions = [s for s in self._subscriptions if s is not subscription]
            mailbox, subscription.mailbox = subscription.mailbox, None
        if mailbox is not None:
            mailbox.put(None)

    def publish(self, event: Event) -> None:
        """Remember an event and hand it to every listener. The engine's thread only."""
        self._remember(event)
        for subscription in self._subscriptions:
            self._deliver(subscription, event)

    def log(self, level: str, text: str, job: int | None = None, rank: int | None = None) -> None:
        """Publish one line of the engine's own log, with the caller's file and line."""
        line = LogLine(level=level, source="engine", text=text, job=job, rank=rank, where=_where(2))
        self.publish(line)

    def _deliver(self, subscription: _Subscription, event: Event) -> None:
        if subscription.mailbox is not None:
            subscription.mailbox.put(event)
            return
        began = time.perf_counter()
        try:
            subscription.listener(event)
            subscription.failures = 0
        except Exception as error:  # noqa: BLE001 - a listener's fault is told, never ours
            self._failed(subscription, error)
        held = time.perf_counter() - began
        if held > SLOW_SECONDS and subscription in self._subscriptions:
            name = _name(subscription.listener)
            subscription.mailbox = _Mailbox(
                subscription.listener, lambda error: self._failed_aside(name, error)
            )
            self.log(
                "WARNING",
                f"listener {name} held the engine for {held:.2f} s on {type(event).__name__}; "
                "it now gets its events on a thread of its own",
            )

    def _failed(self, subscription: _Subscription, error: Exception) -> None:
        subscription.failures += 1
        last = subscription.failures >= MAX_FAILURES
        if last:
            self._end(subscription)
        # Not through publish: the failing listener would fail on the news of its failure.
        line = LogLine(
            level="ERROR",
            source="engine",
            text=f"listener {_name(subscription.listener)} raised {type(error).__name__}: {error}"
            + ("; it gets no more events" if last else ""),
            where=_where(1),
        )
        self._remember(line)
        for other in self._subscriptions:
            if other is not subscription and other.failures == 0:
                self._deliver(other, line)

    def _failed_aside(self, name: str, error: Exception) -> None:
        # From a mailbox's thread: only the history is touched (deque.append is atomic).
        self._logs.append(
            LogLine(
                level="ERROR",
                source="engine",
                text=f"listener {name} raised {type(error).__name__}: {error}",
            )
        )

    def _remember(self, event: Event) -> None:
        match event:
            case LogLine():
                self._logs.append(event)
            case DevicesSampled():
                self._devices = event.devices
            case DevicesDrained():
                self._drained = event.devices
            case JobChanged():
                self._jobs[event.job.id] = event.job
                if len(self._jobs) > KEPT_JOBS:
                    for job in self._ended(self._jobs)[:-KEPT_JOBS]:
                        del self._jobs[job]
            case PlanMade():
                self._plans[event.job] = event
                self._trim()
            case RankChanged():
                self._ranks[event.job, event.rank] = event
            case LedgerUpdated():
                self._ledgers[event.job, event.rank] = event
            case EngineStarted():
                self._source = event.device_source
            case ProcessesSurveyed():
                self._processes, self._leaked = event.processes, event.leaked
                self._surveyed = event.t
            case AlertChanged():
                over = event.state == "resolved"
                _keep(self._alerts, event.id, event, over)
                _keep(self._past_alerts, event.id, event, not over)
            case FindingRaised():
                _keep(self._findings, event.id, event, event.resolved)
                _keep(self._past_findings, event.id, event, not event.resolved)
            case Audited():
                self._audits.append(event)
            case BatchChanged():
                self._remember_batch(event)
            case ReleaseChanged():
                _keep(self._releases, event.release, event)
            case CheckpointChanged():
                _keep(self._checkpoints, event.folder, event)
            case _:
                pass

    def _remember_batch(self, event: BatchChanged) -> None:
        """An event holds the items that changed; a first picture needs all of them.

        By name: an item whose files were mended has another key than before.
        """
        before = self._batches.get(event.batch)
        items = {} if before is None else {item.name: item for item in before.items}
        items |= {item.name: item for item in event.items}
        whole = dataclasses.replace(event, items=tuple(items.values()))
        _keep(self._batches, event.batch, whole)

    def _ended(self, jobs: Iterable[int]) -> list[int]:
        """Those of them that run and wait no more, the oldest first."""
        known = self._jobs
        return sorted(job for job in jobs if job not in known or known[job].state in END_STATES)

    def _trim(self) -> None:
        """A running job keeps its plan and ranks however many were planned behind it."""
        for job in self._ended(self._plans)[:-KEPT_DETAILS]:
            del self._plans[job]
            for table in (self._ranks, self._ledgers):
                for key in [k for k in table if k[0] == job]:
                    del table[key]

    def finding(self, id: str) -> FindingRaised | None:  # noqa: A002
        """An open finding. The engine's thread only."""
        return self._findings.get(id)

    def snapshot(self) -> Snapshot:
        """The present state. The engine's thread only."""
        return Snapshot(
            jobs=tuple(sorted(self._jobs.values(), key=lambda row: row.id)),
            devices=self._devices,
            ranks=tuple(self._ranks.values()),
            ledgers=tuple(self._ledgers.values()),
            plans={job: event.plan for job, event in self._plans.items()},
            logs=tuple(self._logs),
            device_source=self._source,
            alerts=(*self._past_alerts.values(), *self._alerts.values()),
            findings=(*self._past_findings.values(), *self._findings.values()),
            audits=tuple(self._audits),
            processes=self._processes,
            surveyed=self._surveyed,
            leaked=self._leaked,
            batches=tuple(self._batches.values()),
            releases=tuple(self._releases.values()),
            checkpoints=tuple(self._checkpoints.values()),
            drained=self._drained,
        )


def _keep(table: dict[str, _E], key: str, event: _E, gone: bool = False) -> None:
    """The newest state of each thing, the latest change last; what is over is dropped."""
    table.pop(key, None)
    if not gone:
        table[key] = event
    while len(table) > KEPT_STATES:
        del table[next(iter(table))]


def _where(depth: int) -> str:
    frame = sys._getframe(depth)
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _name(listener: Listener) -> str:
    return getattr(listener, "__qualname__", None) or type(listener).__name__

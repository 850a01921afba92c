"""The rank's side of the channel: reports out, orders in.

Reports leave through one writer thread, so compute never waits for a busy engine. Only ledger
reports may be merged while they wait (the newest bytes, the highest peaks); every other report
arrives, in order. When the queue is full of those, ``send`` waits: back-pressure, never loss.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from engine.ranks.protocol import HEARTBEAT_SECONDS, Order, RankSpec, Report, decode, encode

if TYPE_CHECKING:
    from engine.ranks.onrank.held import Held

_QUEUE_LIMIT: Final = 4096
_LINE_LIMIT: Final = 4 << 20


def leave_orphaned() -> None:
    """The engine is gone: nobody wants this group any more, so end all of it, children too."""
    os.killpg(0, signal.SIGKILL)


class Reporter:
    """Thread-safe writer of reports, and the rank's heartbeat.

    Args:
        channel: connected stream socket to the engine.
        rank: this rank's number.
        heartbeat: seconds between heartbeats.
        on_lost: called once, on the writer's thread, when the engine no longer reads.
    """

    def __init__(
        self,
        channel: socket.socket,
        rank: int,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        queue_limit: int = _QUEUE_LIMIT,
        on_lost: Callable[[], None] = leave_orphaned,
    ) -> None:
        self._channel = channel
        self._rank = rank
        self._heartbeat = heartbeat
        self._limit = queue_limit
        self._on_lost = on_lost
        self._queue: deque[Report] = deque()
        self._ledger: Report | None = None  # the one that waits in the queue, if any
        self._changed = threading.Condition()
        self._closing = False
        self._lost = False
        self._phase = "spawned"
        self._tick = 0
        self._thread = threading.Thread(target=self._write, name="avatop-report", daemon=True)
        self._thread.start()

    def send(self, kind: str, /, **data: Any) -> None:
        """Queue one report (kinds and their data: docs/architecture.md)."""
        report = Report(kind, self._rank, time.time(), data)
        with self._changed:
            if kind == "ledger" and self._ledger is not None:
                _merge_ledger(self._ledger.data, data)
                return
            while len(self._queue) >= self._limit and not self._lost:
                self._changed.wait()
            if kind == "ledger":
                self._ledger = report
            self._queue.append(report)
            self._changed.notify_all()

    def phase(
        self, phase: str, *, role: str = "", detail: str = "", progress: float | None = None
    ) -> None:
        """Say what this rank does now; heartbeats repeat the phase."""
        with self._changed:
            self._phase = phase
        self.send("phase", phase=phase, role=role, detail=detail, progress=progress)

    def tick(self, tick: int) -> None:
        """Note the schedule's tick for the next heartbeat; sends nothing itself."""
        with self._changed:
            self._tick = tick

    def log(self, level: str, text: str, where: str | None = None) -> None:
        """One log line; ``level`` is one of ``engine.messages.LOG_LEVELS``."""
        self.send("log", level=level, text=text, where=where)

    def close(self, timeout: float = 5.0) -> bool:
        """Write what waits and stop. False if the engine did not take it all in time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._lost

    def _write(self) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                while not self._queue and not self._closing and time.monotonic() < due:
                    self._changed.wait(max(0.0, due - time.monotonic()))
                batch = list(self._queue)
                self._queue.clear()
                self._ledger = None
                closing = self._closing
                if time.monotonic() >= due:
                    due = time.monotonic() + self._heartbeat
                    beat = {"phase": self._phase, "tick": self._tick}
                    batch.append(Report("heartbeat", self._rank, time.time(), beat))
                self._changed.notify_all()
            try:
                self._channel.sendall(b"".join(encode(report) for report in batch))
            except OSError:
                with self._changed:
                    self._lost = True
                    self._changed.notify_all()
                self._on_lost()
                return
            if closing and not self._queue:
                return


def _merge_ledger(waiting: dict[str, Any], newer: dict[str, Any]) -> None:
    """Newest levels, highest peaks."""
    peaks = dict(waiting.get("peak_by_owner") or {})
    for owner, peak in (newer.get("peak_by_owner") or {}).items():
        peaks[owner] = max(peak, peaks.get(owner, peak))
    highest = [d["peak"] for d in (waiting, newer) if d.get("peak") is not None]
    waiting.update(newer)
    waiting["peak_by_owner"] = peaks
    if highest:
        waiting["peak"] = max(highest)


class Control:
    """Orders from the engine, as the job sees them."""

    def __init__(self, spike_threshold: int | None = None) -> None:
        #: Set when the clip in progress is to be the last.
        self.stop_after_clip = threading.Event()
        #: Where to leave the state then, of a job that is not mirrored.
        self.leave_state: str | None = None
        #: Holds this rank's mirror still, or lets it go on; None: there is none.
        self.hold_mirror: Callable[[bool], None] | None = None
        #: Bytes above which a rise is flagged; None: by the plan.
        self.spike_threshold = spike_threshold
        #: What stays of a job for the next one, where its specification says so.
        self.held: Held | None = None
        self._specs: queue.SimpleQueue[RankSpec] = queue.SimpleQueue()

    def next_job(self) -> RankSpec:
        """Wait for the specification of this rank's next job."""
        return self._specs.get()

    def renew(self, spec: RankSpec) -> None:
        """Another job begins: no order that was for the one before is left."""
        self.stop_after_clip.clear()
        self.leave_state = self.hold_mirror = self.spike_threshold = None
        self._specs.put(spec)

    def obey(self, order: Order) -> None:
        """Take one order; unknown kinds raise ``ValueError``."""
        if order.kind == "stop_after_clip":
            self.leave_state = order.data.get("state")
            self.stop_after_clip.set()
        elif order.kind == "hold_mirror":
            if self.hold_mirror is not None:
                self.hold_mirror(bool(order.data.get("on")))
        elif order.kind == "spike_threshold":
            value = order.data.get("bytes")
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"spike_threshold: bytes must be a whole number, not {value!r}")
            self.spike_threshold = value
        else:
            raise ValueError(f"unknown order {order.kind!r}")


class Lines:
    """Blocking line reader on the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._rest = b""

    def read(self) -> bytes | None:
        """The next line without its newline; None at the end of the channel.

        Raises:
            ValueError: a line longer than any message.
        """
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                return line
            if len(self._rest) > _LINE_LIMIT:
                raise ValueError("a line on the rank channel is too long")
            try:
                piece = self._channel.recv(1 << 16)
            except ConnectionError:
                return None
            if not piece:
                return None
            self._rest += piece


def start_reader(
    lines: Lines,
    control: Control,
    report: Reporter,
    *,
    on_lost: Callable[[], None] = leave_orphaned,
) -> threading.Thread:
    """Obey orders on a thread of their own until the channel ends, then ``on_lost``."""

    def read() -> None:
        while (line := lines.read()) is not None:
            try:
                message = decode(line)
                if isinstance(message, RankSpec):
                    control.renew(message)
                    continue
                if not isinstance(message, Order):
                    raise ValueError(f"a {type(message).__name__} is no order")
                control.obey(message)
                if message.kind == "hold_mirror":
                    report.send("held")
            except (ValueError, TypeError) as error:
                report.log("WARNING", f"order ignored: {error}", "report.py")
        on_lost()

    thread = threading.Thread(target=read, name="avatop-orders", daemon=True)
    thread.start()
    return thread

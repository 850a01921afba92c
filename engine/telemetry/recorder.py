"""The flight recorder: everything the engine tells, kept on disk, bounded, without ever waiting.

A listener of the bus. The engine's thread only appends to a bounded queue; a thread of the
recorder's own packs and writes. When the disk is slower than the events, samples (whose next one
says the same anew) are left out; spikes, jobs, logs and deaths are not, and what was left out is
itself recorded. When the disk is full or broken, recording pauses, says so, and tries again.

Previews are kept at most once a second: they are most of the bytes and the least of the evidence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from engine.bus import Bus
from engine.messages import BlockDone, Event, LogLine
from engine.sentence import sentence
from engine.telemetry.recorder_state import Present
from engine.telemetry.recording_segment import (
    FORMAT,
    PREFIX,
    SUFFIX,
    SegmentWriter,
    event_line,
    header_line,
    index_path,
    is_sample,
)

Tell = Callable[[str, str], None]

_DAY: Final = 86_400.0
#: A wall clock that leaves its path by more than this has been set.
CLOCK_STEP: Final = 2.0


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much is kept, and what is left to others. Bytes and seconds."""

    total_bytes: int = 1 << 30
    age_seconds: float = 14 * _DAY
    segment_bytes: int = 4 << 20
    segment_seconds: float = 300.0
    free_bytes: int = 512 << 20  # the job's videos come first
    queue_events: int = 20_000
    flush_seconds: float = 1.0
    preview_seconds: float = 1.0
    retry_seconds: float = 10.0

    @staticmethod
    def of(env: Mapping[str, str]) -> tuple[Limits | None, str | None]:
        """The limits an environment asks for (None: no recording), and what was wrong with it."""
        if env.get("AVATOP_RECORD", "").strip().lower() in ("0", "off", "false", "no"):
            return None, None
        limits, wrong = Limits(), []
        for name, key, factor in (
            ("AVATOP_RECORD_MIB", "total_bytes", 1 << 20),
            ("AVATOP_RECORD_DAYS", "age_seconds", _DAY),
        ):
            text = env.get(name)
            if not text:
                continue
            try:
                value = float(text)
                if not 0 < value < float("inf"):
                    raise ValueError
            except ValueError:
                wrong.append(
                    sentence("{name}={text!r} is not a number above 0", name=name, text=text)
                )
                continue
            if key == "total_bytes":
                limits = dataclasses.replace(limits, total_bytes=int(value * factor))
            else:
                limits = dataclasses.replace(limits, age_seconds=value * factor)
        segment = min(limits.segment_bytes, max(limits.total_bytes // 8, 1 << 16))
        limits = dataclasses.replace(limits, segment_bytes=segment)
        return limits, "; ".join(wrong) or None


def start_recorder(
    bus: Bus,
    folder: Path,
    version: str,
    call: Callable[[Callable[[], None]], object],
    env: Mapping[str, str] = os.environ,
) -> Recorder | None:
    """Record what a bus tells from now on; None where the environment forbids it.

    Args:
        call: runs a function on the engine's thread, where the log may be written.
    """
    limits, wrong = Limits.of(env)
    if wrong is not None:
        bus.log("WARNING", f"flight recorder: {wrong}; the default holds")
    if limits is None:
        bus.log("INFO", "flight recorder: off (AVATOP_RECORD)")
        return None

    def tell(level: str, text: str) -> None:
        call(lambda: bus.log(level, text))

    recorder = Recorder(folder, limits, version=version, tell=tell)
    bus.subscribe(recorder)
    return recorder


class Recorder:
    """A listener that records. Call it with events, ``close`` it at the end.

    Args:
        folder: where segments go; made when needed, readable by its owner only.
        tell: called on the recorder's thread with (level, sentence) when something is wrong.
        clock: wall-clock time; monotonic: a clock that nobody sets.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        *,
        version: str = "",
        tell: Tell | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.paused: str | None = None  # why nothing is written at present
        self.left_out = 0  # samples that gave way, ever
        self.lost = 0  # other events that could not be kept, ever
        self._version = version
        self._tell = tell or (lambda _level, _text: None)
        self._clock, self._monotonic = clock, monotonic
        self._anchor = clock() - monotonic()
        self._step = 0.0
        self._queue: deque[tuple[float, Event]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._writing = False
        self._present = Present()
        self._segment: SegmentWriter | None = None
        self._opened = 0.0
        self._count = 0
        self._retry = 0.0
        self._told = (0, 0)  # left out and lost, as far as the recording says
        self._previewed: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="avatop-recorder", daemon=True)
        self._thread.start()

    # -- the engine's thread -------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        """Take an event; returns at once."""
        at = self._now()
        with self._wake:
            full = len(self._queue) >= self.limits.queue_events
            if full and is_sample(event):
                self.left_out += 1
                return
            if len(self._queue) >= 2 * self.limits.queue_events:
                # Minutes of stalled disk under a flood of logs: the oldest sample goes, or this.
                self._make_room()
            self._queue.append((at, event))
            if len(self._queue) in (1, self.limits.queue_events // 2):
                self._wake.notify()

    def _make_room(self) -> None:
        for place, (_, event) in enumerate(self._queue):
            if is_sample(event):
                del self._queue[place]
                self.left_out += 1
                return
        self._queue.popleft()
        self.lost += 1

    @property
    def idle(self) -> bool:
        """Whether everything told so far has been dealt with."""
        with self._wake:
            return not self._queue and not self._writing

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _now(self) -> float:
        """Wall-clock time that only moves forward between two settings of the clock."""
        now = self._anchor + self._monotonic()
        wall = self._clock()
        if abs(wall - now) > CLOCK_STEP:
            self._step += wall - now
            self._anchor += wall - now
            return wall
        return now

    # -- the recorder's thread -----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._queue and not self._closing:
                    self._wake.wait()
                if not self._closing and len(self._queue) < self.limits.queue_events // 2:
                    self._wake.wait(self.limits.flush_seconds)  # gather a member's worth
                batch = list(self._queue)
                self._queue.clear()
                self._writing, closing = True, self._closing
            self._write(batch)
            self._writing = False
            if closing:
                self._close_segment()
                return

    def _write(self, batch: list[tuple[float, Event]]) -> None:
        if not batch:
            return
        if self.paused is not None and self._monotonic() < self._retry and not self._closing:
            self._skip(batch)
            return
        told, done = (self.left_out, self.lost), False
        try:
            self._check_room()
            if self._segment is None or self._ripe() or self._step:
                self._begin(batch[0][0])
            assert self._segment is not None
            entries = self._entries(batch, told)
            self._segment.append(b"".join(event_line(at, event) for at, event in entries))
            for at, event in entries:
                self._segment.index.take(at, event)
            self._told, done = told, True
            self._resumed()
        except OSError as error:
            self._pause(error)
        if done:
            for _, event in batch:
                self._present.take(event)
        else:
            self._skip(batch)

    def _entries(
        self, batch: list[tuple[float, Event]], told: tuple[int, int]
    ) -> list[tuple[float, Event]]:
        """What is written for a batch: first what is missing before it, then its events."""
        entries = [(at, self._thinned(at, event)) for at, event in batch]
        if told != self._told:
            entries.insert(0, (batch[0][0], self._gap(told)))
        return entries

    def _gap(self, told: tuple[int, int]) -> LogLine:
        samples, others = told[0] - self._told[0], told[1] - self._told[1]
        text = sentence(
            "the recording leaves out {samples:,} samples and {others:,} other events here",
            samples=samples,
            others=others,
        )
        return LogLine(level="WARNING", source="recorder", text=text, t=self._clock())

    def _thinned(self, at: float, event: Event) -> Event:
        if not isinstance(event, BlockDone) or not event.preview_rgb:
            return event
        last = self._previewed.get(event.job)
        if last is not None and 0 <= at - last < self.limits.preview_seconds:
            return dataclasses.replace(event, preview_rgb="", preview_width=0, preview_height=0)
        self._previewed = {event.job: at}
        return event

    def _skip(self, batch: list[tuple[float, Event]]) -> None:
        samples = sum(is_sample(event) for _, event in batch)
        for _, event in batch:
            self._present.take(event)
        with self._wake:
            self.left_out += samples
            self.lost += len(batch) - samples

    # -- segments ------------------------------------------------------------------------------

    def _ripe(self) -> bool:
        segment = self._segment
        return segment is not None and (
            segment.size >= self.limits.segment_bytes
            or self._monotonic() - self._opened >= self.limits.segment_seconds
        )

    def _begin(self, at: float) -> None:
        """Close the present segment, make room, open the next with the present state."""
        self._close_segment()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._prune()
        self._count += 1
        name = f"{PREFIX}{int(at * 1000):013d}-{os.getpid()}-{self._count:04d}{SUFFIX}"
        segment = SegmentWriter(self.folder / name)
        facts = {
            "format": FORMAT,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": self._version,
            "at": round(at, 6),
            "clock_step": round(self._step, 3),
        }
        opening = [event_line(at, event, key=True) for event in self._present.events()]
        try:
            segment.append(header_line(facts) + b"".join(opening))
        except OSError:
            with contextlib.suppress(OSError):
                segment.close()
            segment.path.unlink(missing_ok=True)
            index_path(segment.path).unlink(missing_ok=True)
            raise
        self._segment, self._opened, self._step = segment, self._monotonic(), 0.0

    def _close_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            with contextlib.suppress(OSError):  # the index is rebuilt by whoever reads
                segment.close()

    def _check_room(self) -> None:
        """Raises: OSError: what is free belongs to others."""
        folder = self.folder if self.folder.exists() else self.folder.parent
        if not folder.exists():
            return
        free = shutil.disk_usage(folder).free
        if free < self.limits.free_bytes:
            raise OSError(
                sentence(
                    "{free:,.0f} MiB are free there, and the last {free_bytes:,.0f} MiB "
                    "are left to jobs",
                    free=free / (1 << 20),
                    free_bytes=self.limits.free_bytes / (1 << 20),
                )
            )

    def _prune(self) -> None:
        """Delete the oldest segments beyond the limits; index files go with theirs."""
        found = []
        for path in self.folder.glob(f"{PREFIX}*{SUFFIX}"):
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append((path.name, path, state.st_size, state.st_mtime))
        found.sort(reverse=True)
        kept, now = self.limits.segment_bytes, self._clock()
        for _, path, size, changed in found:
            kept += size
            if kept > self.limits.total_bytes or now - changed > self.limits.age_seconds:
                path.unlink(missing_ok=True)
                index_path(path).unlink(missing_ok=True)

    # -- trouble -------------------------------------------------------------------------------

    def _pause(self, error: OSError) -> None:
        self._close_segment()
        self._retry = self._monotonic() + self.limits.retry_seconds
        reason = error.strerror or str(error)
        if self.paused is None:
            self._tell(
                "WARNING",
                sentence(
                    "recording pauses: {folder}: {reason}. Jobs go on; free disk space "
                    "there, or lower AVATOP_RECORD_MIB",
                    folder=self.folder,
                    reason=reason,
                ),
            )
        self.paused = reason

    def _resumed(self) -> None:
        if self.paused is not None:
            self.paused = None
            self._tell("INFO", sentence("recording goes on"))

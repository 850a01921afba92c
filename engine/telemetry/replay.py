"""A recording as an engine: the same events again, at the pace of one time cursor.

``ReplayClient`` is an ``EngineClient``. Nobody else moves its cursor: a console calls ``advance``
as its own time passes, and ``seek``; commands are answered with a refusal.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from engine.bus import Bus
from engine.client import Listener
from engine.messages import Command, Event, Reply, Snapshot
from engine.sentence import sentence
from engine.telemetry.recording import MARKS, Recording
from engine.telemetry.recording_segment import Mark, Stamped

SPEEDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
#: A picture at a moment is built from this much before it; live plots show no more by themselves.
LOOKBACK: Final = 600.0
#: A jump to a mark arrives a little after it, so that what it marks is on the screen.
_AFTER: Final = 0.05
#: Errors and alerts this close together are one fault: a jump arrives behind all of them, where
#: what they mean is known.
_BURST: Final = 2.0


#: What is known today of a recording beside what it tells, in order.
Further = Callable[[Recording], tuple[Stamped, ...]]


@dataclass(frozen=True)
class Stop:
    """Where a jump arrives: the first mark of a fault, how many it has, the moment (Unix)."""

    mark: Mark
    count: int
    moment: float


class ReplayClient:
    """Plays a recording to its listeners.

    Attributes:
        cursor: the moment (Unix seconds) up to which everything has been told.
        playing: whether ``advance`` moves the cursor.
        speed: recorded seconds per second.
    """

    read_only = True

    def __init__(
        self,
        recording: Recording,
        further: Callable[[Recording], tuple[Stamped, ...]] | None = None,
    ) -> None:
        """``further`` is asked once, by whoever needs the first picture."""
        self.recording = recording
        self._further = further
        self._found: tuple[Stamped, ...] = ()
        self._asking = threading.Lock()
        self.cursor = recording.start
        self.playing = False
        self.speed = SPEEDS[0]
        self._listeners: list[Listener] = []
        self._ahead: Iterator[Stamped] = iter(())
        self._next: Stamped | None = None
        self.seek(recording.start)

    # -- an engine's client ----------------------------------------------------------------------

    def send(self, command: Command) -> Future[Reply]:
        """Refused: what was recorded has happened."""
        future: Future[Reply] = Future()
        name = type(command).__name__
        future.set_result(
            Reply(False, sentence("this is a recording; {name} needs a running engine", name=name))
        )
        return future

    def snapshot(self) -> Future[Snapshot]:
        """The state at the cursor."""
        bus = Bus()
        for event in self.ground(self.cursor):
            bus.publish(event)
        future: Future[Snapshot] = Future()
        future.set_result(bus.snapshot())
        return future

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for every event the cursor passes, on the thread that moves it."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def close(self) -> None:
        """Stop playing and forget the listeners."""
        self.playing = False
        self._listeners.clear()

    # -- the cursor --------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of the viewer's time pass; at the end the recording pauses."""
        if self.playing:
            self.play_to(self.cursor + seconds * self.speed)
            self.playing = self.cursor < self.recording.end

    def play_to(self, moment: float) -> None:
        """Tell everything up to ``moment`` and put the cursor there; backwards is ``seek``."""
        moment = min(moment, self.recording.end)
        while self._next is not None and self._next.at <= moment:
            event = self._next.event
            self._next = next(self._ahead, None)
            for listener in list(self._listeners):
                listener(event)
        self.cursor = max(moment, self.cursor)

    def seek(self, moment: float) -> None:
        """Put the cursor at ``moment`` (within the recording) without telling anything."""
        self.cursor = min(max(moment, self.recording.start), self.recording.end)
        found = (stamped for stamped in self._found if stamped.at > self.cursor)
        self._ahead = heapq.merge(self.recording.events(self.cursor), found, key=_at)
        self._next = next((s for s in self._ahead if s.at > self.cursor), None)

    def ground(self, moment: float, lookback: float = LOOKBACK) -> Iterator[Event]:
        """Events that build the picture at ``moment``: the state ``lookback`` seconds before it
        (or a little earlier, where a segment begins), and all that was told since."""
        told = self.recording.ground(moment - lookback, moment)
        found = [stamped for stamped in self._known() if stamped.at <= moment]
        for stamped in heapq.merge(told, found, key=_at) if found else told:
            yield stamped.event

    def _known(self) -> tuple[Stamped, ...]:
        with self._asking:
            if self._further is not None:
                self._found, self._further = self._further(self.recording), None
        return self._found

    def stops(self, kinds: Collection[str] = MARKS) -> list[Stop]:
        """Every spike, and every fault, in order."""
        stops: list[Stop] = []
        for mark in self.recording.marks:
            last = stops[-1] if stops else None
            if mark.kind not in kinds:
                continue
            joins = last is not None and "spike" not in (mark.kind, last.mark.kind)
            if last is not None and joins and mark.at - last.mark.at <= _BURST:
                stops[-1] = Stop(last.mark, last.count + 1, mark.at + _AFTER)
            else:
                stops.append(Stop(mark, 1, mark.at + _AFTER))
        return stops

    def stop(self, by: int, kinds: Collection[str] = MARKS) -> Stop | None:
        """The next (``by`` > 0) or previous stop seen from the cursor."""
        stops, off = self.stops(kinds), 2 * _AFTER
        if by > 0:
            return next((stop for stop in stops if stop.moment > self.cursor + off), None)
        return next((stop for stop in stops[::-1] if stop.moment < self.cursor - off), None)

    def faster(self, by: int) -> float:
        """The next speed up (1) or down (-1); returns it."""
        at = min(range(len(SPEEDS)), key=lambda n: abs(SPEEDS[n] - self.speed))
        self.speed = SPEEDS[min(max(at + by, 0), len(SPEEDS) - 1)]
        return self.speed


def _at(stamped: Stamped) -> float:
    return stamped.at

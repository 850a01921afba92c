"""Events on their way from the engine's thread to the screen.

``put`` never blocks and never grows without bound: events that only tell the present state replace
their predecessor, streams keep their newest. However long the screen stands still, the engine does
not notice, and what is drawn afterwards is the present.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

from engine.messages import (
    Event,
    JobChanged,
    LedgerUpdated,
    PlanMade,
    ProcessesSurveyed,
    RankChanged,
    ReleaseChanged,
)

KEPT: Final = 4096  # events of one kind that wait at most


def _state_key(event: Event) -> Hashable | None:
    """What an event tells the present state of; None where every event counts."""
    if isinstance(event, JobChanged):
        return ("job", event.job.id)
    if isinstance(event, PlanMade):
        return ("plan", event.job)
    if isinstance(event, RankChanged):  # what is told of the past needs where a rank lay then
        return ("rank", event.job, event.rank, event.pid, event.phase)
    if isinstance(event, ProcessesSurveyed):
        return ("processes",)
    if isinstance(event, ReleaseChanged):
        return ("release", event.release)
    return None


class Mailbox:
    """Bounded and coalescing; one reader, any number of writers.

    Args:
        wake: called (on the writer's thread) when the first event after a ``drain`` arrives; it
            must return at once.
    """

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self.wake = wake
        self.dropped = 0  # events that gave way to newer ones, ever
        self._lock = threading.Lock()
        self._number = 0
        self._states: dict[Hashable, tuple[int, Event]] = {}
        self._streams: dict[Hashable, deque[tuple[int, Event]]] = {}
        self._waiting = False

    def put(self, event: Event) -> None:
        """Take an event. Returns at once, on any thread."""
        key = _state_key(event)
        with self._lock:
            self._number += 1
            entry = (self._number, event)
            if key is not None:
                self._states[key] = entry
            else:
                kind: Hashable = (type(event).__name__,)
                if isinstance(event, LedgerUpdated):
                    kind = ("ledger", event.job, event.rank)
                stream = self._streams.get(kind)
                if stream is None:
                    stream = self._streams[kind] = deque(maxlen=KEPT)
                if len(stream) == KEPT:
                    self.dropped += 1
                stream.append(entry)
            first = not self._waiting
            self._waiting = True
        if first and self.wake is not None:
            self.wake()

    def drain(self) -> list[Event]:
        """Everything that waits, in the order it came."""
        with self._lock:
            entries = list(self._states.values())
            for stream in self._streams.values():
                entries.extend(stream)
            self._states.clear()
            self._streams.clear()
            self._waiting = False
        entries.sort(key=lambda entry: entry[0])
        return [event for _number, event in entries]

    def __len__(self) -> int:
        with self._lock:
            return len(self._states) + sum(len(s) for s in self._streams.values())

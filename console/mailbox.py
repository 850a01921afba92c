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
    END_STATES,
    BlockDone,
    ClipCommitted,
    DevicesSampled,
    Event,
    JobChanged,
    LedgerUpdated,
    LogLine,
    PlanMade,
    ProcessesSurveyed,
    RankChanged,
    ReleaseChanged,
    StepDone,
    Unshards,
)

KEPT: Final = 4096  # events of one kind that wait at most
#: What comes in streams while a job works.
_STREAMS: Final = (BlockDone, ClipCommitted, DevicesSampled, LedgerUpdated, StepDone, Unshards)
_QUIET: Final = ("DEBUG", "INFO")


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
        wake: called (on the writer's thread) when the first event after a ``drain`` arrives, and
            when the first of those that press does; it must return at once.
    """

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self.wake = wake
        self.dropped = 0  # events that gave way to newer ones, ever
        self.pressing = False  # something waits that does not come in a stream
        self._job_states: dict[int, str] = {}  # of those not over
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
            news = self._is_news(event) and not self.pressing
            first = not self._waiting
            self._waiting = True
            self.pressing |= news
        if (first or news) and self.wake is not None:
            self.wake()

    def _is_news(self, event: Event) -> bool:
        """Whether it is more than a further figure or line; of a job, that its state is another."""
        if isinstance(event, LogLine):
            return event.level not in _QUIET
        if not isinstance(event, JobChanged):
            return not isinstance(event, _STREAMS)
        before = self._job_states.pop(event.job.id, None)
        if event.job.state not in END_STATES:  # what is over needs no memory
            self._job_states[event.job.id] = event.job.state
        return before != event.job.state

    def drain(self) -> list[Event]:
        """Everything that waits, in the order it came."""
        with self._lock:
            entries = list(self._states.values())
            for stream in self._streams.values():
                entries.extend(stream)
            self._states.clear()
            self._streams.clear()
            self._waiting = self.pressing = False
        entries.sort(key=lambda entry: entry[0])
        return [event for _number, event in entries]

    def __len__(self) -> int:
        with self._lock:
            return len(self._states) + sum(len(s) for s in self._streams.values())

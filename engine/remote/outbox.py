"""What waits for one client: bounded, never in the engine's way.

Readings only tell the present, so with a client that does not read, the newest replaces the one
before it. What happened (jobs, clips, logs, spikes, answers) is never dropped: when more of that
waits than ``MOST``, everything is let go and the client is told to attach again, where a snapshot
gives it the whole picture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Final

from engine.messages import (
    BlockDone,
    DevicesSampled,
    Event,
    LedgerUpdated,
    StepDone,
    Unshards,
)
from engine.remote.wire import encode

MOST: Final = 4096  # entries that may wait
#: From this many waiting on, readings replace their predecessors; below, all are sent.
CROWDED: Final = 64

Body = Callable[[], dict[str, Any]]


def _reading_key(event: Event) -> Hashable | None:
    """What an event is a reading of; None where every event counts."""
    match event:
        case DevicesSampled():
            return "devices"
        case LedgerUpdated() | StepDone() | Unshards():
            return (type(event), event.job, event.rank)
        case BlockDone():
            return (BlockDone, event.job)
        case _:
            return None


class Outbox:
    """One reader, any number of writers; writing never blocks."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ready = threading.Condition()
        self._number = 0
        self._waiting: dict[Hashable, Body] = {}  # in the order of arrival
        self._closed = False
        self.dropped = 0  # readings that gave way to newer ones, ever
        self.overrun = False

    def event(self, event: Event) -> None:
        """An event for a client that subscribed."""

        def body() -> dict[str, Any]:
            return {"event": event.to_dict()}

        with self._ready:
            key = _reading_key(event) if len(self._waiting) >= CROWDED else None
            if key is not None and self._waiting.pop(key, None) is not None:
                self.dropped += 1
            self._put(key, body)

    def say(self, body: Body) -> None:
        """An answer or a notice, made when its turn comes."""
        with self._ready:
            self._put(None, body)

    def close(self) -> None:
        """Nothing more comes; what waits is still given out."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def take(self) -> bytes | None:
        """The next line, waiting for it; None after the last. Encoded here, on the reader's
        thread, so that the engine's does not pay for it."""
        with self._ready:
            while not self._waiting:
                if self._closed:
                    return None
                self._ready.wait()
            body = self._waiting.pop(next(iter(self._waiting)))
        return encode(body())

    def __len__(self) -> int:
        with self._ready:
            return len(self._waiting)

    def _put(self, key: Hashable | None, body: Body) -> None:
        if self._closed:
            return
        if len(self._waiting) >= self._most:
            self.overrun = self._closed = True
            self._waiting = {0: lambda: {"notice": "overrun"}}
        else:
            self._number += 1
            self._waiting[self._number if key is None else key] = body
        self._ready.notify()

"""How long walks take, without making the host wait for the device.

On a GPU each walk is bracketed by two events, which are read when the device has passed them; the
host meanwhile hands out the next walk. It stays at most a few walks ahead, so that what is told
of progress is true to within those. On a CPU rank a walk is over when its call returns.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import torch

#: Walks that may be handed out before the oldest is waited for.
_AHEAD: Final = 2

Done = Callable[[float], None]


class Clock:
    """Times the walks of one rank. ``begin``, work, ``end(done)``; ``done`` is told the seconds."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._began: torch.cuda.Event | float = 0.0
        self._open: deque[tuple[torch.cuda.Event, torch.cuda.Event, Done]] = deque()

    def begin(self) -> None:
        """Work begins; said again, that which was said before does not count."""
        self._began = self._event() if self._cuda else time.perf_counter()

    def end(self, done: Done) -> None:
        """The walk was handed out. ``done`` is called once it is over, in order, maybe later."""
        began = self._began
        if isinstance(began, float):
            done(time.perf_counter() - began)
            return
        self._open.append((began, self._event(), done))
        while self._open and (len(self._open) > _AHEAD or over(self._open[0][1])):
            self._tell()

    def settle(self) -> None:
        """Wait for all that was handed out."""
        while self._open:
            self._tell()

    def _tell(self) -> None:
        began, ended, done = self._open.popleft()
        ended.synchronize()
        done(began.elapsed_time(ended) / 1e3)

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def over(event: torch.cuda.Event) -> bool:
    """Whether the device has passed ``event``; asks, and does not wait."""
    return bool(event.query())  # type: ignore[no-untyped-call]

"""Sees the wall clock jump, and tells a suspended machine from a clock that was set.

Durations here are counted by clocks that nobody sets; what bears a date (log lines, rows) shows
the jump, so it is told once where it happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from engine.sentence import joined, sentence

#: A clock that is slewed drifts by less between two looks.
JUMP_SECONDS: Final = 5.0


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Call ``look`` regularly.

    Args:
        wall, steady, boot: seconds of the wall clock, of the clock that stands still while the
            machine sleeps, and of the one that does not.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        boot: Callable[[], float] = _boottime,
    ) -> None:
        self._clocks = (wall, steady, boot)
        self._last = self._read()

    def look(self) -> str | None:
        """What happened since the last look, in a sentence; None for nothing."""
        now, last = self._read(), self._last
        self._last = now
        wall, steady, boot = (a - b for a, b in zip(now, last, strict=True))
        slept, jump = boot - steady, wall - boot
        told = []
        if slept > JUMP_SECONDS:
            told.append(sentence("the machine was suspended for {slept:.0f} s", slept=slept))
        if abs(jump) > JUMP_SECONDS:
            told.append(
                sentence(
                    "the wall clock was set forward by {jump:.0f} s; durations are not affected, "
                    "dates in logs are",
                    jump=jump,
                )
                if jump > 0
                else sentence(
                    "the wall clock was set back by {jump:.0f} s; durations are not affected, "
                    "dates in logs are",
                    jump=-jump,
                )
            )
        return joined(told) if told else None

    def _read(self) -> tuple[float, float, float]:
        wall, steady, boot = (clock() for clock in self._clocks)
        return wall, steady, boot

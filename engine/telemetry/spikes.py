"""Transient rises in a series of memory readings, told from ramps and lasting changes of level.

A spike stands above the level before it *and* above the level after it. Levels are a low quantile
of the readings within a window on either side, so they hold while rises fill up to half of it. A
ramp stays below what comes after, a step up below its own plateau, a step down below the plateau
it leaves: none of these is a spike. Pure functions; bytes and seconds.
"""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: A level is what holds this long around a reading (or ten readings, where they are sparse).
WINDOW: Final = 30.0
READINGS: Final = 10
QUANTILE: Final = 0.35
#: The least rise that counts: this, or this part of the device's peak where that is less.
LEAST_BYTES: Final = 128 << 20
LEAST_PART: Final = 0.05
NOISES: Final = 6.0  # or this many standard deviations of the readings' noise
_EDGE: Final = 3


@dataclass(frozen=True)
class Rise:
    """One spike: from its first to its last reading above the threshold."""

    start: float
    end: float
    bytes: int  # above the level around it
    level: int
    peak: int


@dataclass(frozen=True)
class Report:
    """What a series of one device shows."""

    baseline: int
    peak: int
    threshold: int
    spikes: tuple[Rise, ...]


def find(
    times: Sequence[float], values: Sequence[int], threshold: int | None = None
) -> Report | None:
    """Baseline, peak and spikes of one device; None without readings.

    Args:
        times: seconds, not decreasing; values: bytes, one for each.
        threshold: rise in bytes that counts; found from the noise when None.
    """
    if not values:
        return None
    interval = _interval(times)
    window = max(WINDOW, READINGS * interval)
    if threshold is None:
        threshold = _threshold(values)
    levels: list[int] = []
    spikes: list[Rise] = []
    for start, end in _stretches(times, window):
        part = values[start:end]
        level = _levels(times[start:end], part, window)
        levels += level
        spikes += _rises(times[start:end], part, level, threshold)
    return Report(int(statistics.median(levels)), max(values), threshold, tuple(spikes))


def _interval(times: Sequence[float]) -> float:
    gaps = [b - a for a, b in itertools.pairwise(times) if b > a]
    return statistics.median(gaps) if gaps else 1.0


def _threshold(values: Sequence[int]) -> int:
    """Second differences know nothing of ramps; their median nothing of spikes."""
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    noise = 1.4826 * statistics.median(bends) / 6**0.5 if bends else 0.0
    least = min(LEAST_BYTES, max(max(values) * LEAST_PART, 2 << 20))
    return max(int(least), int(NOISES * noise))


def _stretches(times: Sequence[float], gap: float) -> list[tuple[int, int]]:
    """Runs without a hole in the log: across one nothing is known."""
    cuts = [0, *(n for n in range(1, len(times)) if times[n] - times[n - 1] > gap), len(times)]
    return list(itertools.pairwise(cuts))


def _levels(times: Sequence[float], values: Sequence[int], window: float) -> list[int]:
    """The higher one of the levels before and after each reading."""
    before = _trailing(times, values, window)
    after = _trailing([-t for t in reversed(times)], values[::-1], window)[::-1]
    return [max(a, b) for a, b in zip(before, after, strict=True)]


def _trailing(times: Sequence[float], values: Sequence[int], window: float) -> list[int]:
    """The low quantile of the window that ends before each reading."""
    first = min(values[:_EDGE])
    inside: deque[tuple[float, int]] = deque()
    ordered: list[int] = []
    out: list[int] = []
    for t, value in zip(times, values, strict=True):
        while inside and t - inside[0][0] > window:
            _, old = inside.popleft()
            del ordered[bisect.bisect_left(ordered, old)]
        enough = len(ordered) >= _EDGE
        out.append(ordered[int(QUANTILE * (len(ordered) - 1))] if enough else first)
        inside.append((t, value))
        bisect.insort(ordered, value)
    return out


def _rises(
    times: Sequence[float], values: Sequence[int], levels: Sequence[int], threshold: int
) -> list[Rise]:
    """Readings above the threshold, joined while more than half of it remains."""
    rises: list[Rise] = []
    run: list[int] = []

    def end() -> None:
        high = [n for n in run if values[n] - levels[n] >= threshold]
        if high:
            top = max(high, key=lambda n: values[n] - levels[n])
            rise = values[top] - levels[top]
            rises.append(Rise(times[run[0]], times[run[-1]], rise, levels[top], values[top]))
        run.clear()

    for n, (value, level) in enumerate(zip(values, levels, strict=True)):
        if value - level > threshold / 2:
            run.append(n)
        elif run:
            end()
    end()
    return rises

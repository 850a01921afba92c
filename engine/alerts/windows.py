"""Figures of the last minutes and hours, in buckets of a second, bounded by the widest window."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

BUCKET_SECONDS: Final = 1.0


@dataclass
class _Bucket:
    t: float
    sum: float
    count: int
    low: float
    high: float
    last: float


@dataclass
class Series:
    """One measurement of one device, job or host. Times may stand still or go back: what comes
    late is booked now, so that a clock set back loses nothing."""

    keep: float
    buckets: deque[_Bucket] = field(default_factory=deque)

    def add(self, t: float, value: float) -> None:
        last = self.buckets[-1] if self.buckets else None
        if last is not None and t - last.t < BUCKET_SECONDS:
            last.sum += value
            last.count += 1
            last.low, last.high = min(last.low, value), max(last.high, value)
            last.last = value
            return
        self.buckets.append(_Bucket(t, value, 1, value, value, value))
        # One bucket older than the window stays: an increase is counted from there.
        while len(self.buckets) > 1 and self.buckets[1].t < t - self.keep:
            self.buckets.popleft()

    def over(self, function: str, seconds: float, now: float) -> float | None:
        """The function over buckets of the last ``seconds``; None without any."""
        recent = [b for b in self.buckets if b.t > now - seconds]
        if function == "increase":
            return self._increase(recent)
        if not recent:
            return 0.0 if function == "count" else None
        count = sum(b.count for b in recent)
        match function:
            case "mean" | "avg":
                return sum(b.sum for b in recent) / count
            case "sum":
                return sum(b.sum for b in recent)
            case "count":
                return float(count)
            case "min":
                return min(b.low for b in recent)
            case _:
                return max(b.high for b in recent)

    def _increase(self, recent: list[_Bucket]) -> float | None:
        """Growth of a counter; one that fell began anew."""
        if not self.buckets:
            return None
        if not recent:
            return 0.0
        first = next((n for n, b in enumerate(self.buckets) if b is recent[0]), 0)
        before = self.buckets[first - 1].last if first else recent[0].low
        grown = 0.0
        for bucket in recent:
            grown += bucket.last - before if bucket.last >= before else bucket.last
            before = bucket.last
        return grown


class Windows:
    """All series that rules look back on."""

    def __init__(self, wanted: Mapping[str, float]) -> None:
        """``wanted``: measurement → its widest window in seconds."""
        self._wanted = dict(wanted)
        self._series: dict[tuple[str, str], Series] = {}

    def wants(self, name: str) -> bool:
        return name in self._wanted

    def add(self, key: str, name: str, t: float, value: float | None) -> None:
        """Book a figure of a measurement that some rule looks back on."""
        if value is None or name not in self._wanted:
            return
        series = self._series.get((key, name))
        if series is None:
            series = self._series[key, name] = Series(self._wanted[name])
        series.add(t, value)

    def over(self, key: str, name: str, function: str, seconds: float, now: float) -> float | None:
        series = self._series.get((key, name))
        if series is None:
            return 0.0 if function == "count" else None
        return series.over(function, seconds, now)

    def forget(self, keys: set[str]) -> None:
        """Drop everything but what belongs to these."""
        for key in [k for k in self._series if k[0] not in keys]:
            del self._series[key]

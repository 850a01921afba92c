"""What was seen over time, kept so that short spikes survive being drawn small.

A :class:`Series` bins samples by wall-clock time. Each bin keeps the highest sample in it and the
last level; columns of a plot are the maximum over their bins (max-pooling), aligned to absolute
time so that a plot moves by whole columns. Two tiers: fine bins for minutes, coarse ones for hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from engine.messages import OWNERS

#: A stacked value: its total and (owner, amount) from bottom to top.
Stack = tuple[float, tuple[tuple[str, float], ...]]

FINE: Final = 0.25  # seconds a fine bin covers
COARSE: Final = 10.0
FINE_BINS: Final = 4800  # 20 minutes
COARSE_BINS: Final = 4320  # 12 hours


def stack(by_owner: Mapping[str, float]) -> Stack:
    """A stack in the fixed order of owners; unknown owners count as ``other``."""
    parts = [(owner, by_owner[owner]) for owner in OWNERS if by_owner.get(owner, 0) > 0]
    extra = sum(v for k, v in by_owner.items() if k not in OWNERS and v > 0)
    if extra:
        parts.append(("other", extra))
    return (sum(v for _k, v in parts), tuple(parts))


def raised(level: Stack, peak: float, peaks: Mapping[str, float]) -> Stack:
    """``level`` grown to ``peak``: the rise goes to the owner whose own peak rose most."""
    rise = peak - level[0]
    if rise <= 0:
        return level
    now = dict(level[1])
    risen = {o: peaks[o] - now.get(o, 0) for o in peaks if peaks[o] > now.get(o, 0)}
    owner = max(risen, key=lambda o: risen[o]) if risen else "other"
    now[owner] = now.get(owner, 0) + rise
    return stack(now)


def scalar(name: str, value: float) -> Stack:
    """A stack of one part, so that temperatures are drawn by the same routine."""
    return (value, ((name, value),))


class _Tier:
    """Bins of one width; the newest ``limit`` are kept."""

    __slots__ = ("bins", "limit", "seconds")

    def __init__(self, seconds: float, limit: int) -> None:
        self.seconds = seconds
        self.limit = limit
        self.bins: dict[int, tuple[Stack, Stack]] = {}  # index → (highest, last level)

    def add(self, t: float, peak: Stack, level: Stack) -> None:
        index = int(t / self.seconds)
        old = self.bins.get(index)
        if old is not None:
            if old[0][0] > peak[0]:
                peak = old[0]
        elif len(self.bins) >= self.limit:
            del self.bins[next(iter(self.bins))]
        self.bins[index] = (peak, level)


class Series:
    """One quantity over time.

    Args:
        hold: seconds for which a level is taken to last when no new sample comes; afterwards the
            plot is blank, because nothing is known.
    """

    def __init__(self, hold: float = 15.0) -> None:
        self.hold = hold
        self.first: float | None = None
        self.last: float | None = None
        self.level: Stack | None = None
        self.top: Stack | None = None  # the highest sample ever
        self.owners: set[str] = set()  # all that were ever seen, so that a legend holds still
        self.ended: float | None = None  # nothing is held beyond this moment
        self._fine = _Tier(FINE, FINE_BINS)
        self._coarse = _Tier(COARSE, COARSE_BINS)
        # What was drawn last: count, bins per column, last column, columns.
        self._drawn: tuple[int, int, int, list[Stack | None]] | None = None

    def add(self, t: float, level: Stack, peak: Stack | None = None) -> None:
        """Book a sample: the level at ``t`` and the highest value since the sample before."""
        if self.first is None:
            self.first = t
        top = peak if peak is not None and peak[0] > level[0] else level
        if self.top is None or top[0] > self.top[0]:
            self.top = top
        self._fine.add(t, top, level)
        self._coarse.add(t, top, level)
        if self.last is not None and t < self.last - 1.0:
            self._drawn = None  # late news: every column may have changed
        self.last = t if self.last is None else max(self.last, t)
        self.level = level
        self.owners.update(owner for owner, _amount in level[1])
        self.ended = None

    def end(self, t: float) -> None:
        """Say that there will be no more samples: what was held is given back."""
        self.ended = t
        self._drawn = None

    def columns(self, now: float, count: int, seconds: float) -> list[Stack | None]:
        """``count`` columns of ``seconds`` each, the last one holding ``now``; None is unknown."""
        tier = self._coarse if seconds >= COARSE else self._fine
        per = max(1, round(seconds / tier.seconds))
        last = int(now / (per * tier.seconds))
        kept = self._drawn
        # Only the newest columns can have changed since the last picture.
        if kept is not None and kept[:2] == (count, per) and 0 <= last - kept[2] < count - 2:
            ready = kept[3][last - kept[2] : -2]
        else:
            ready = []
        first = last - count + 1 + len(ready)
        out = [*ready, *self._fill(tier, per, first, last)]
        self._drawn = (count, per, last, out)
        return out

    def _fill(self, tier: _Tier, per: int, first: int, last: int) -> list[Stack | None]:
        bins = tier.bins
        out: list[Stack | None] = []
        held: Stack | None = None
        held_at = 0
        keep = max(1, int(self.hold / tier.seconds))
        # Levels from before the left edge still hold at it.
        start = first * per
        for index in range(start - 1, start - 1 - keep, -1):
            if index in bins:
                held, held_at = bins[index][1], index
                break
        stop = None if self.ended is None else int(self.ended / tier.seconds)
        for column in range(start, (last + 1) * per, per):
            best: Stack | None = None
            for index in range(column, column + per):
                found = bins.get(index)
                if found is None:
                    continue
                held, held_at = found[1], index
                if best is None or found[0][0] > best[0]:
                    best = found[0]
            if best is None and held is not None and column - held_at <= keep:
                best = held if stop is None or column <= stop else None
            out.append(best)
        return out

    def highest(self, since: float | None = None) -> Stack | None:
        """The highest sample of all, or of those kept since a moment."""
        if since is None:
            return self.top
        fine = self._fine.bins
        tier = self._fine if fine and next(iter(fine)) * FINE <= since else self._coarse
        oldest = int(since / tier.seconds)
        found = (top for index, (top, _level) in tier.bins.items() if index >= oldest)
        return max(found, key=lambda top: top[0], default=None)

    def peak(self, now: float, span: float) -> float | None:
        """The highest value of the last ``span`` seconds."""
        tier = self._fine if span <= FINE * FINE_BINS else self._coarse
        oldest = int((now - span) / tier.seconds)
        found = [top[0] for index, (top, _l) in reversed(tier.bins.items()) if index >= oldest]
        return max(found, default=None)


SPANS: Final = (60.0, 120.0, 300.0, 600.0, 1200.0)  # seconds a live plot may cover


def column_seconds(span: float, count: int) -> float:
    """Seconds a column covers when ``count`` of them show ``span``: whole fine bins."""
    return max(round(span / max(count, 1) / FINE) * FINE, FINE)


def span_for(firsts: Iterable[float | None], now: float) -> float:
    """The shortest span that shows everything since the first sample, up to 10 minutes."""
    started = [t for t in firsts if t is not None]
    age = now - min(started) if started else 0.0
    return next((span for span in SPANS[:3] if age <= span * 0.95), SPANS[3])

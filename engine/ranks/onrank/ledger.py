"""A rank's memory by owner: what is booked, what is measured, peaks, and spikes.

Booked owners (weights, gathered, kv, conditioning, vae) are sums of tensors that exist. The rest
is measured: ``activations`` is the rise during a window of work beyond what was booked in it,
``context``, ``slack`` and ``other`` come from the probe. On a CPU rank ``slack`` is resident memory
nobody booked (heap the C library keeps, libraries loaded late). Nothing is guessed; what cannot be
measured is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engine.ranks.onrank.oom import MemoryCapError
from engine.ranks.onrank.probe import Probe


@dataclass(frozen=True)
class SpikeFound:
    """A rise above the limit; fields as of ``engine.messages.Spike``."""

    owner: str
    bytes: int
    level: int
    peak: int
    threshold: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Threshold:
    """Bytes above which a rise is flagged.

    A plan's threshold contains a predicted context; where the measured one (with slack and other)
    differs, the limit moves along. An ``absolute`` one is the operator's own and stays.
    """

    bytes: int
    predicted_context: int = 0
    absolute: bool = False


class Ledger:
    """Books and measurements of one rank. Not thread-safe: the rank's main thread keeps it.

    Args:
        cap: bytes that the rank may hold, where no allocator sees to it: on CPU ranks. It is
            checked with every entry, and after a unit of work with what that took.
    """

    def __init__(
        self, probe: Probe, threshold: Threshold | None = None, *, cap: int | None = None
    ) -> None:
        self.probe = probe
        self.cap = cap
        self.threshold = threshold
        self._booked: dict[str, int] = {}
        self._peaks: dict[str, int] = {}  # since the last report
        self._peak_total = 0
        self._all_time = 0
        self._all_time_by_owner: dict[str, int] = {}
        self._high = 0  # most that was booked at once in the window
        self._begin_window()
        self._spikes: dict[str, SpikeFound] = {}  # the largest of each owner

    # Books

    def book(self, owner: str, size: int) -> None:
        """Owner holds ``size`` bytes from now on."""
        self._booked[owner] = size
        self._raise(owner, size)
        self._high = max(self._high, self.booked)
        self._check({})

    def _check(self, passing: dict[str, int]) -> None:
        """Raise ``MemoryCapError`` if what is booked and ``passing`` are more than the cap."""
        if self.cap is not None and self.booked + sum(passing.values()) > self.cap:
            held = {owner: size for owner, size in self._booked.items() if size}
            for owner, size in passing.items():
                held[owner] = held.get(owner, 0) + size
            raise MemoryCapError(held, self.cap)

    def add(self, owner: str, change: int) -> None:
        """Owner takes (or, negative, gives back) bytes."""
        self.book(owner, self._booked.get(owner, 0) + change)

    def held(self, owner: str) -> int:
        return self._booked.get(owner, 0)

    @property
    def booked(self) -> int:
        return sum(self._booked.values())

    # Measurements

    def by_owner(self) -> dict[str, int]:
        """Bytes now. Owners that hold nothing are left out."""
        unbooked = max(0, self.probe.level() - self.booked)
        slack, other = (0, unbooked) if self.probe.exact else (unbooked, 0)
        found = {
            **self._booked,
            "context": self.probe.context or 0,
            "slack": slack + self.probe.slack(),
            "other": other + self.probe.outside(),
        }
        return {owner: size for owner, size in found.items() if size}

    def total(self) -> int:
        return sum(self.by_owner().values())

    def in_use(self) -> int:
        """Total less what the allocator keeps without using it."""
        return self.total() - self.probe.slack()

    @contextmanager
    def window(self, label: str, owner: str = "activations") -> Iterator[None]:
        """Measure one unit of work; what it takes beyond the books is ``owner``'s peak."""
        before, booked = self.probe.level(), self.booked
        self._begin_window()
        began = time.perf_counter()
        yield
        self._fold()
        rise = max(0, self._window_peak - before)
        own = max(0, rise - (self._high - booked))
        self._raise(owner, self._booked.get(owner, 0) + own)
        self.observe(
            f"{owner}: {label}",
            self._start,
            self._start + max(rise, self._high - booked),
            time.perf_counter() - began,
            share=own,
        )
        self._note_total(self.total())
        self._check({owner: own})

    def _begin_window(self) -> None:
        self._start = self.in_use()
        self._start_booked = self._high = self.booked
        self._start_level = self.probe.level()
        self._window_peak = self._marked_peak = 0
        self.probe.reset_peak()

    def mark(self) -> tuple[int, int]:
        """In use now, and the highest since the last mark or the window's start.

        Where the probe is not exact both come from the books: the window's start and what was
        booked since.
        """
        if not self.probe.exact:
            now = self._start + self.booked - self._start_booked
            return now, now
        self._fold()
        offset = self._start - self._start_level
        peak, self._marked_peak = self._marked_peak, 0
        return offset + self.probe.level(), offset + peak

    def _fold(self) -> None:
        """Keep the probe's peak so far and begin a new one."""
        peak = self.probe.peak()
        self._window_peak = max(self._window_peak, peak)
        self._marked_peak = max(self._marked_peak, peak)
        self.probe.reset_peak()

    def observe(
        self, owner: str, level: int, peak: int, seconds: float, *, share: int | None = None
    ) -> None:
        """Note a peak; keep it as a spike if it is above the limit and its owner's largest so far.

        ``owner`` may say more after a colon (``"gathered: layer 7"``). ``share`` is its own part
        of the rise, all of it by default.
        """
        self._note_total(peak)
        limit = self.limit()
        share = peak - level if share is None else share
        if limit is None or peak <= limit or share <= 0:
            return
        kind = owner.partition(":")[0]
        if kind not in self._spikes or share > self._spikes[kind].bytes:
            self._spikes[kind] = SpikeFound(owner, share, level, peak, limit, seconds)

    def limit(self) -> int | None:
        """The threshold in terms of the measured total."""
        chosen = self.threshold
        if chosen is None or chosen.absolute:
            return None if chosen is None else chosen.bytes
        unmodelled = max(0, self._start - self._start_booked)  # context, slack and other
        return chosen.bytes - chosen.predicted_context + unmodelled

    def _note_total(self, size: int) -> None:
        self._peak_total = max(self._peak_total, size)
        self._all_time = max(self._all_time, size)

    def take_spikes(self) -> list[SpikeFound]:
        """The largest spike of each owner since the last call."""
        found = list(self._spikes.values())
        self._spikes.clear()
        return found

    # Reports

    def _raise(self, owner: str, size: int) -> None:
        self._peaks[owner] = max(self._peaks.get(owner, 0), size)
        self._all_time_by_owner[owner] = max(self._all_time_by_owner.get(owner, 0), size)

    def report(self) -> dict[str, Any]:
        """Fields of a ``ledger`` report; begins a new period for peaks."""
        self.probe.refresh()
        now = self.by_owner()
        for owner, size in now.items():
            self._raise(owner, size)
        total = sum(now.values())
        self._note_total(total)
        data = {
            "by_owner": now,
            "peak_by_owner": {o: s for o, s in self._peaks.items() if s},
            "total": total,
            "peak": self._peak_total,
        }
        self._peaks, self._peak_total = dict(now), total
        return data

    @property
    def peak_bytes(self) -> int:
        """Highest total so far."""
        return self._all_time

    @property
    def peak_by_owner(self) -> dict[str, int]:
        """Highest bytes of each owner so far; they need not have been at the same moment."""
        return {owner: size for owner, size in self._all_time_by_owner.items() if size}


class Throttle:
    """Lets something through at most ``rate`` times a second, and always when it is forced."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap, self._clock, self._last = 1 / rate, clock, float("-inf")

    def due(self, *, force: bool = False) -> bool:
        now = self._clock()
        if not force and now - self._last < self._gap:
            return False
        self._last = now
        return True

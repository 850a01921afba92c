"""Unshards, measured: one record for every time that a unit's weights become whole.

It does without FSDP, whose import takes half a second: ranks that gather nothing have it as well.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.messages import UnshardRecord
from engine.model.dit import DiT
from engine.placement.onrank.clock import over

OnUnit = Callable[[str, int, int], None]


class Books(Protocol):
    """The part of a rank's ledger that unshards are booked in (``engine.ranks.onrank.ledger``)."""

    def add(self, owner: str, change: int) -> None: ...
    def mark(self) -> tuple[int, int]: ...
    def observe(self, owner: str, level: int, peak: int, seconds: float) -> None: ...


class Source(Protocol):
    """Where weights come from, module by module (``engine.checkpoint.onrank.load.DiTSource``)."""

    def units(self, dit: DiT) -> list[tuple[str, list[nn.Module]]]: ...
    def fill_share(self, shares: Mapping[str, Tensor], rank: int, ranks: int) -> None: ...


@dataclass
class _Open:
    """A unit between the start of its gather and its use."""

    level: int
    peak: int
    started: float
    seconds: float | None = None
    events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None


class UnshardMeter:
    """Collects one ``UnshardRecord`` per unshard and books gathered bytes.

    Durations are those of the all-gather: the call's on gloo, the device's own on NCCL. The
    transient is the allocator's peak above the level before on CUDA. On CPU no allocator keeps
    statistics, so it is counted from the tensors' own sizes.
    """

    def __init__(self, books: Books) -> None:
        self.books = books
        self.events = 0
        self.max_bytes = 0
        self._open: dict[str, _Open] = {}
        self._done: list[tuple[str, int, int, _Open]] = []

    def begin(self, unit: str) -> None:
        """The gather's buffer is about to be allocated."""
        level = self._mark()
        self._open[unit] = _Open(level, level, time.time())

    def buffer(self, buffer: Tensor) -> None:
        """A gather buffer lives until its last reference goes."""
        size = buffer.nbytes
        self.books.add("gathered", size)
        weakref.finalize(buffer, self.books.add, "gathered", -size)
        self._mark()

    def gathered(
        self,
        unit: str,
        seconds: float,
        events: tuple[torch.cuda.Event, torch.cuda.Event] | None,
    ) -> None:
        """The all-gather was called (and on gloo is done)."""
        self._open[unit].seconds = seconds
        self._open[unit].events = events

    def ready(self, unit: str, size: int, padded: int) -> None:
        """The unit's parameters are whole and about to be used."""
        self.books.add("gathered", padded)
        self._mark()
        found = self._open.pop(unit, None)
        if found is None:
            return  # nothing was gathered: in a group of one the shards are whole
        self._done.append((unit, size, found.peak - found.level, found))
        self.events += 1
        self.max_bytes = max(self.max_bytes, size)
        self.books.observe(
            f"gathered: {unit}", found.level, found.peak, time.time() - found.started
        )

    def over(self, padded: int) -> None:
        """The unit is sharded again."""
        self.books.add("gathered", -padded)

    def take(self) -> list[UnshardRecord]:
        """Records since the last call, in order of use; on CUDA of gathers that have ended."""
        over = next(
            (n for n, (*_, found) in enumerate(self._done) if not _ended(found)), len(self._done)
        )
        records = [
            UnshardRecord(unit, size, transient, found.started, _seconds(found))
            for unit, size, transient, found in self._done[:over]
        ]
        del self._done[:over]
        return records

    def _mark(self) -> int:
        level, peak = self.books.mark()
        for found in self._open.values():
            found.peak = max(found.peak, peak)
        return level


def _ended(found: _Open) -> bool:
    return found.events is None or over(found.events[1])


def _seconds(found: _Open) -> float:
    if found.events is not None:
        return float(found.events[0].elapsed_time(found.events[1])) / 1e3
    return found.seconds or 0.0

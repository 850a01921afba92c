"""Which lines of a source pass a filter, found piece by piece, the newest first.

Without a filter nothing is looked at. With one, what is there already is sifted backwards in
small pieces, and what comes is sifted as it comes; the reader meanwhile sees what was found.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from typing import Final

from console.widgets.logs_meaning import classes_of
from console.widgets.logs_source import Source
from engine.triage.glance import Glance
from engine.triage.query import Predicate

PIECE: Final = 200  # lines sifted at once
SHARE: Final = 0.008  # seconds that new lines get at most before the screen is drawn
AROUND: Final = 8  # lines before and after that tell what a line means


class Sieve:
    """Numbers of lines that pass, ascending. One thread only, but for ``Backwards``.

    Args:
        wanted: what passes; None: everything.
        by_class: the filter asks what triage says of a line.
        glance: of the same query, where there is one.
    """

    def __init__(
        self,
        source: Source,
        wanted: Predicate | None,
        by_class: bool = False,
        glance: Glance | None = None,
    ) -> None:
        self.source = source
        self.wanted = wanted
        self.by_class = by_class
        self.glance = glance
        first, end = source.span()
        self.low = self.high = end  # lines between these were sifted
        self._before = array("q")  # found going back: descending
        self._after = array("q")  # found going on: ascending
        self._oldest = first

    # -- what passed -------------------------------------------------------------------------

    def __len__(self) -> int:
        if self.wanted is None:
            first, end = self.source.span()
            return end - first
        return len(self._before) + len(self._after)

    def at(self, index: int) -> int:
        """The number of the line at a place."""
        if self.wanted is None:
            return self.source.span()[0] + index
        count = len(self._before)
        return self._before[count - 1 - index] if index < count else self._after[index - count]

    def place(self, number: int) -> int:
        """How many lines that pass have a number below ``number``."""
        if self.wanted is None:
            first, end = self.source.span()
            return min(max(number, first), end) - first
        count = len(self._before)
        if self._after and number > self._after[0]:
            return count + bisect_left(self._after, number)
        # Descending: those above stand at its head, and ``number`` itself after them.
        return count - bisect_right(self._before, -number, key=lambda found: -found)

    def has(self, number: int) -> bool:
        """Whether a line passes, as far as was sifted."""
        first, end = self.source.span()
        if not first <= number < end:
            return False
        if self.wanted is None:
            return True
        at = self.place(number)
        return at < len(self) and self.at(at) == number

    # -- sifting -----------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Lines that were not looked at yet."""
        if self.wanted is None:
            return 0
        first, end = self.source.span()
        return max(self.low - first, 0) + max(end - self.high, 0)

    def take_new(self, seconds: float = SHARE) -> None:
        """Sift what has come, for so long; the rest waits for the next call."""
        until = time.perf_counter() + seconds
        first, end = self.source.span()
        self._forget(first)
        while self.wanted is not None and self.high < end and time.perf_counter() < until:
            stop = min(end, self.high + PIECE)
            self._after.extend(self.sift(max(self.high, first), stop))
            self.high = stop

    def go_back(self, limit: int = PIECE) -> None:
        """Sift a piece of what was there."""
        first = self.source.span()[0]
        start = max(self.low - limit, first)
        if self.wanted is not None and start < self.low:
            self.take_back(start, self.sift(start, self.low))

    def take_back(self, start: int, found: list[int]) -> None:
        """Take what another thread found from ``start`` on."""
        self._before.extend(reversed(found))
        self.low = start

    def sift(self, start: int, end: int) -> list[int]:
        """Numbers of lines in between that pass. Any thread."""
        wanted = self.wanted
        if wanted is None:
            return list(range(start, end))
        if not self.by_class:
            if self.glance is not None:
                return self.source.passing(start, end, wanted, self.glance)
            return [n for n, record in self.source.between(start, end) if wanted(record)]
        near = list(self.source.between(start - AROUND, end + AROUND))
        classes = classes_of([record.text for _, record in near])
        return [
            number
            for (number, record), class_ in zip(near, classes, strict=True)
            if start <= number < end and wanted(dataclasses.replace(record, class_=class_))
        ]

    def _forget(self, first: int) -> None:
        """Lines that the source no longer has."""
        if first <= self._oldest:
            return
        self._oldest = first
        while self._before and self._before[-1] < first:
            self._before.pop()
        gone = bisect_left(self._after, first)
        if gone:
            del self._after[:gone]
        self.low, self.high = max(self.low, first), max(self.high, first)


class Backwards:
    """Sifts a long file on a thread of its own; ``collect`` in the sieve's thread.

    Whoever draws holds ``screen`` meanwhile: it gets it within a piece, and the two do not wait
    for each other at every line.
    """

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self._found: deque[tuple[int, list[int]]] = deque()
        self._stop = threading.Event()
        self.screen = threading.Lock()
        self._low = sieve.low
        self.thread = threading.Thread(target=self._run, name="log-filter", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        first = self._sieve.source.span()[0]
        while self._low > first and not self._stop.is_set():
            start = max(self._low - PIECE, first)
            with self.screen:
                self._found.append((start, self._sieve.sift(start, self._low)))
            self._low = start
            self._stop.wait(0.0003)  # the screen comes first

    def collect(self) -> bool:
        """Hand over what was found; whether there was something."""
        any_found = bool(self._found)
        while self._found:
            self._sieve.take_back(*self._found.popleft())
        return any_found

    def stop(self) -> None:
        """End it; what it holds is dropped."""
        self._stop.set()
        self.thread.join()

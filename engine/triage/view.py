"""Lines of a block as they are judged: cleaned, joined where a terminal cut them, in context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.triage.catalogue import CONTEXT
from engine.triage.literals import Wording
from engine.triage.normalise import body
from engine.triage.search import NARROWEST


class View(NamedTuple):
    """A text to try patterns on, and the lines it is made of."""

    text: str
    low: str  # the same in lower case
    first: int
    last: int
    starts_before: int  # a match counts if it starts before this character …
    ends_after: int  # … and ends after this one

    @classmethod
    def of(cls, text: str, place: int) -> View:
        """One line alone."""
        return cls(text, text.lower(), place, place, len(text) + 1, -1)

    def shows(self, patterns: Iterable[Wording]) -> bool:
        """Whether one of the patterns matches where it counts."""
        for pattern in patterns:
            hit = pattern.search(self.text, self.low)
            if hit and hit.start() < self.starts_before and hit.end() > self.ends_after:
                return True
        return False


class Views:
    """The views of a block's lines, each made once and on demand."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._bodies: dict[int, str] = {}
        self._alone: dict[int, View] = {}
        self._joined: dict[int, list[View]] = {}
        self._around: dict[int, View] = {}

    def body(self, place: int) -> str:
        """The message of a line."""
        known = self._bodies.get(place)
        if known is None:
            known = self._bodies[place] = body(self._lines[place])
        return known

    def match(
        self, place: int, patterns: Iterable[Wording], text: str | None = None
    ) -> View | None:
        """The view in which a pattern touches this line, or this line's changed ``text``."""
        alone = self._single(place) if text is None else View.of(text, place)
        if alone.shows(patterns):
            return alone
        if text is not None:
            joined = self._joins(place, text)
        elif place in self._joined:
            joined = self._joined[place]
        else:
            joined = self._joined[place] = self._joins(place, alone.text)
        for view in joined:
            if view.shows(patterns):
                return view
        return None

    def near(self, place: int, patterns: Iterable[Wording]) -> bool:
        """Whether one of the patterns matches within ``CONTEXT`` lines."""
        around = self._around.get(place)
        if around is None:
            low, high = max(0, place - CONTEXT), min(len(self._lines), place + CONTEXT + 1)
            text = "\n".join([self.body(n) for n in range(low, high)])
            around = self._around[place] = View.of(text, place)
        return around.shows(patterns)

    def _single(self, place: int) -> View:
        known = self._alone.get(place)
        if known is None:
            known = self._alone[place] = View.of(self.body(place), place)
        return known

    def _joins(self, place: int, here: str) -> list[View]:
        """A line with the next and with the one before, where it may have been cut there."""
        views: list[View] = []
        if self._goes_on(place):
            after = self.body(place + 1)
            views += (
                View(text, text.lower(), place, place + 1, len(here), -1)
                for text in (f"{here} {after}", here + after)
            )
        if place and self._goes_on(place - 1):
            ahead = self.body(place - 1)
            text = f"{ahead} {here}"
            views.append(View(text, text.lower(), place - 1, place, len(text) + 1, len(ahead) + 1))
        return views

    def _goes_on(self, place: int) -> bool:
        """Whether a line may have been cut by a terminal: long, and the next has no prefix."""
        if len(self._lines[place]) < NARROWEST or place + 1 >= len(self._lines):
            return False
        following = self._lines[place + 1].strip()
        return len(self.body(place + 1)) == len(following) > 0

"""The cheap search: which plain texts of the catalogue occur in which lines."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from engine.triage.catalogue import Entry, LiteralIndex, Patterns
from engine.triage.normalise import strip_escapes

#: Shorter lines are not taken for lines cut by a terminal's width.
NARROWEST: Final = 60
#: Widths of terminals, for a cut that is seen only once.
_WIDTHS: Final = frozenset({79, 80, 99, 100, 119, 120, 131, 132, 159, 160, 199, 200})
#: Characters on each side of a cut that are looked at again, joined.
_SEAM: Final = 48
_WORD: Final = re.compile(rb"[a-z_]{3,}")


class Haystack:
    """Lines as one text to search. ``places`` are the numbers the lines go by."""

    def __init__(self, lines: Sequence[str], places: Sequence[int]) -> None:
        self._places = places
        self._text, self._starts = _flatten(lines)
        words = set(_WORD.findall(self._text))
        # Ends and beginnings of lines that look cut by a terminal's width, joined.
        self._cuts = list(_cuts(lines))
        self._seams, self._seam_starts = b"", [0]
        if self._cuts:
            self._seams, self._seam_starts = _flatten(
                lines[n][-_SEAM:] + lines[n + 1].lstrip()[:_SEAM] for n in self._cuts
            )
            words.update(_WORD.findall(self._seams))
        self._vocabulary = b"\n".join(words)

    def trials(self, index: LiteralIndex[Entry]) -> Iterator[tuple[Entry, Patterns, Sequence[int]]]:
        """(entry, its patterns to try, where). The vocabulary, which is small, is asked first."""
        for literal in index.present(self._vocabulary):
            found = _lines_with(literal, self._text, self._starts)
            if self._cuts:
                found += [
                    self._cuts[n] for n in _lines_with(literal, self._seams, self._seam_starts)
                ]
            if found:
                places = [self._places[n] for n in found]
                for entry, patterns in index.trials[literal]:
                    yield entry, patterns, places


def _cuts(lines: Sequence[str]) -> Iterator[int]:
    """Lines that go on in the next: as wide as a neighbour, or as a terminal."""
    widths = [len(line) for line in lines]
    for n, (width, following) in enumerate(pairwise(widths)):
        if width < NARROWEST or following > width:
            continue
        if following == width or width in _WIDTHS or (n and widths[n - 1] == width):
            yield n


def _flatten(lines: Iterable[str]) -> tuple[bytes, list[int]]:
    """One lower-cased text, line ends as spaces, and where each line starts in it.

    Bytes: their ``lower`` touches ASCII alone, is fast, and moves nothing.
    """
    raw = [
        (strip_escapes(line) if "\x1b" in line or "[0m" in line else line).encode(
            "utf-8", "replace"
        )
        for line in lines
    ]
    starts = list(accumulate((len(line) + 1 for line in raw[:-1]), initial=0))
    return b" ".join(raw).lower().replace(b"\n", b" ").replace(b"\r", b" "), starts


def _lines_with(literal: bytes, text: bytes, starts: list[int]) -> list[int]:
    """The lines in which ``literal`` begins."""
    found: list[int] = []
    place = text.find(literal)
    while place >= 0:
        line = bisect_right(starts, place) - 1
        found.append(line)
        if line + 1 >= len(starts):
            break
        place = text.find(literal, starts[line + 1])
    return found

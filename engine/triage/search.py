"""The cheap search: which plain texts of the catalogue occur in which lines."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from engine.triage.index import Entry, LiteralIndex, Trial, spaced
from engine.triage.normalise import strip_escapes

#: Shorter lines are not taken for lines cut by a terminal's width.
NARROWEST: Final = 60
#: Widths of terminals, for a cut that is seen only once.
_WIDTHS: Final = frozenset({79, 80, 99, 100, 119, 120, 131, 132, 159, 160, 199, 200})
#: Characters on each side of a cut that are looked at again, joined.
_SEAM: Final = 48
#: Lines looked through at once: what occurs somewhere in many lines is rare in each few.
_SLICE: Final = 24


class Haystack:
    """Lines to search."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._text = _Text(lines)
        # Ends and beginnings of lines that look cut by a terminal's width, joined.
        self._cuts = list(_cuts(lines))
        self._seams = _Text([lines[n][-_SEAM:] + lines[n + 1].lstrip()[:_SEAM] for n in self._cuts])

    def trials(
        self, index: LiteralIndex[Entry], places: Sequence[int]
    ) -> Iterator[tuple[int, list[Trial[Entry]]]]:
        """(line, what is worth trying there) for those of these lines, in order, that hold any."""
        hits = set(self._text.hits(index, places))
        if self._cuts:
            wanted = set(places)
            seams = [n for n, cut in enumerate(self._cuts) if cut in wanted]
            hits.update((self._cuts[n], literal) for n, literal in self._seams.hits(index, seams))
        found: dict[int, dict[str, Trial[Entry]]] = {}
        for line, literal in sorted(hits):
            held = found.setdefault(line, {})
            for entry, patterns in index.literals[literal].trials:
                had = held.get(entry.id)
                held[entry.id] = (entry, patterns if had is None else had[1] | patterns)
        for line, trials in found.items():
            yield line, list(trials.values())


class _Text:
    """Lines as one lower-cased text, line ends as spaces."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._text, self._starts = _flatten(lines)
        self._spaced = spaced(self._text)

    def hits(self, index: LiteralIndex[Entry], places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """(line, number of a literal that begins in it), for these lines."""
        wordless = [n for n in index.wordless if index.literals[n].text in self._text]
        for low, high in _runs(places):
            begin, end = self._starts[low], self._starts[high]
            # A text may go on in the next line; it counts where it begins.
            stop = end + index.longest
            told = index.told(set(self._spaced[begin:stop].split()))
            for number in (*wordless, *told):
                literal = index.literals[number].text
                place = self._text.find(literal, begin, stop)
                while 0 <= place < end:
                    line = bisect_right(self._starts, place) - 1
                    yield line, number
                    place = self._text.find(literal, self._starts[line + 1], stop)


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive lines (first, the one after the last) of which these consist, each but short."""
    if not places:
        return
    first = after = places[0]
    for place in places:
        if place != after or place - first >= _SLICE:
            yield first, after
            first = place
        after = place + 1
    yield first, after


def _cuts(lines: Sequence[str]) -> Iterator[int]:
    """Lines that go on in the next: as wide as a neighbour, or as a terminal."""
    widths = [len(line) for line in lines]
    for n, (width, following) in enumerate(pairwise(widths)):
        if width < NARROWEST or following > width:
            continue
        if following == width or width in _WIDTHS or (n and widths[n - 1] == width):
            yield n


def _flatten(lines: Sequence[str]) -> tuple[bytes, list[int]]:
    """One lower-cased text, line ends as spaces, where each line starts in it, and where it ends.

    Bytes: their ``lower`` touches ASCII alone, is fast, and moves nothing.
    """
    text = "\n".join(lines)
    if "\x1b" in text or "[0m" in text:
        text = "\n".join(
            strip_escapes(line) if "\x1b" in line or "[0m" in line else line for line in lines
        )
    data = text.encode("utf-8", "replace")
    raw = data.split(b"\n")
    if len(raw) != len(lines):  # a line with an end inside
        raw = [line.replace("\n", " ").encode("utf-8", "replace") for line in lines]
        data = b"\n".join(raw)
    starts = [0, *accumulate([size + 1 for size in map(len, raw)])]
    return data.lower().replace(b"\n", b" ").replace(b"\r", b" "), starts

"""The cheap search: which plain texts of the catalogue occur in which lines."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from engine.triage.catalogue import Entry, LiteralIndex, Patterns, Worded
from engine.triage.normalise import strip_escapes

#: Shorter lines are not taken for lines cut by a terminal's width.
NARROWEST: Final = 60
#: Widths of terminals, for a cut that is seen only once.
_WIDTHS: Final = frozenset({79, 80, 99, 100, 119, 120, 131, 132, 159, 160, 199, 200})
#: Characters on each side of a cut that are looked at again, joined.
_SEAM: Final = 48
#: From so many words of the catalogue on a text is looked through in slices of so many lines: what
#: occurs somewhere in the whole is rare in each.
_MANY: Final = 24
_SLICE: Final = 64
_WORD: Final = re.compile(rb"[a-z_]{3,}")


class Haystack:
    """Lines as one text to search."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._text, self._starts = _flatten(lines)
        # By slice, its words; a text may go on in the next slice.
        self._slices = [set(_WORD.findall(self._text, *span)) for span in self._spans()]
        words: set[bytes] = set().union(*self._slices)
        # Ends and beginnings of lines that look cut by a terminal's width, joined.
        self._cuts = list(_cuts(lines))
        self._seams, self._seam_starts = b"", [0]
        if self._cuts:
            self._seams, self._seam_starts = _flatten(
                lines[n][-_SEAM:] + lines[n + 1].lstrip()[:_SEAM] for n in self._cuts
            )
            words.update(_WORD.findall(self._seams))
        self._vocabulary = b"\n".join(words)

    def trials(
        self, index: LiteralIndex[Entry], near: Iterable[int] | None = None
    ) -> Iterator[tuple[Entry, Patterns, Sequence[int]]]:
        """(entry, its patterns to try, where). The vocabulary, which is small, is asked first.

        With ``near``, line numbers, only what lies in the slices around them is looked at.
        """
        slices: Sequence[int] = range(len(self._slices))
        if near is not None:
            last = len(slices) - 1
            slices = sorted({min(last, max(0, n // _SLICE)) for n in near})
        words = index.present(self._vocabulary)
        found: dict[bytes, list[int]] = {}
        for literal, lines in self._found(words, slices, index.longest):
            found.setdefault(literal, []).extend(lines)
        if self._cuts:
            for literal in _told(words, self._vocabulary):
                if lines := _lines_with(literal, self._seams, self._seam_starts):
                    found.setdefault(literal, []).extend(self._cuts[n] for n in lines)
        for literal, lines in found.items():
            for entry, patterns in index.trials[literal]:
                yield entry, patterns, lines

    def _found(
        self, words: Sequence[Worded], slices: Sequence[int], longest: int
    ) -> Iterator[tuple[bytes, list[int]]]:
        """(literal, the lines in which it begins), of the literals of these words."""
        whole = len(slices) == len(self._slices)
        rare = [(word, literals) for word, literals in words if word or not whole]
        if whole and (len(rare) < _MANY or len(slices) < 2):
            rare = []
        elif whole:
            words = [(word, literals) for word, literals in words if not word]
        else:
            words = []
        for literal in _told(words, self._vocabulary):
            if found := _lines_with(literal, self._text, self._starts):
                yield literal, found
        if not rare:
            return
        for n in slices:
            low = n * _SLICE
            begin = self._starts[low]
            after = low + _SLICE
            end = self._starts[after] if after < len(self._starts) else len(self._text)
            # A text may go on in the next slice; it counts where it begins.
            here = self._slices[n].union(_WORD.findall(self._text, end - longest, end + longest))
            vocabulary = b"\n".join(here)
            part = self._text[begin : end + longest]
            starts = [start - begin for start in self._starts[low:after]]
            for literal in _told(rare, vocabulary):
                if found := _lines_with(literal, part, starts, end - begin):
                    yield literal, [low + line for line in found]

    def _spans(self) -> list[tuple[int, int]]:
        """Where each slice begins and ends in the text."""
        begins = self._starts[::_SLICE]
        return list(pairwise([*begins, len(self._text)]))


def _told(words: Iterable[Worded], vocabulary: bytes) -> Iterator[bytes]:
    """The literals all of whose words occur."""
    for word, literals in words:
        if word in vocabulary:
            for literal, others in literals:
                for other in others:
                    if other not in vocabulary:
                        break
                else:
                    yield literal


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
    lines = list(lines)
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
    starts = [0, *accumulate(len(line) + 1 for line in raw[:-1])]
    return data.lower().replace(b"\n", b" ").replace(b"\r", b" "), starts


def _lines_with(
    literal: bytes, text: bytes, starts: list[int], end: int | None = None
) -> list[int]:
    """The lines in which ``literal`` begins (before ``end``)."""
    found: list[int] = []
    place = text.find(literal)
    while place >= 0 and (end is None or place < end):
        line = bisect_right(starts, place) - 1
        found.append(line)
        if line + 1 >= len(starts):
            break
        place = text.find(literal, starts[line + 1])
    return found

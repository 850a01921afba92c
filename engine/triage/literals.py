"""Plain text that a pattern cannot match without.

A cheap search for it decides whether the regular expression is tried at all. Only what every
match contains counts: text outside of classes and quantified pieces, or, of a group, one of its
alternatives each.
"""

from __future__ import annotations

import re
from typing import Final

MINIMUM: Final = 3
_SPECIAL: Final = frozenset("dDsSwWbBAZ")
_WORD: Final = re.compile(r"[a-z_]{3,}")


def required_runs(pattern: str) -> tuple[str, ...]:
    """Lower-cased texts of which every match contains at least one; () when there are none.

    >>> required_runs(r"CUDA error: out of memory\\b")
    ('cuda error: out of memory',)
    >>> required_runs(r"(HIP|CUDA) .*")
    ('hip ', 'cuda ')
    """
    return _best(alternatives(pattern))


def words_of(literal: str) -> list[str]:
    """The word-like runs of a literal, the longest first, for a look at a vocabulary."""
    return sorted(set(_WORD.findall(literal)), key=lambda word: (-len(word), word))


def _best(alternatives: list[str]) -> tuple[str, ...]:
    """Of each alternative its best piece; () as soon as one has none."""
    found: list[str] = []
    for alternative in alternatives:
        choices = [c for c in _pieces(alternative) if c and _worth(c) >= MINIMUM]
        if not choices:
            return ()
        # Of equals the one text before the many, then the later: a line's subject ("rank 3 …")
        # is common, what befell it is not.
        best: tuple[str, ...] = max(reversed(choices), key=lambda c: (_worth(c), -len(c)))
        found.extend(best)
    return tuple(dict.fromkeys(found))


def _worth(choice: tuple[str, ...]) -> int:
    return min((len(run.strip()) for run in choice), default=0)


def _pieces(sequence: str) -> list[tuple[str, ...]]:
    """Each required piece of a pattern without top-level alternatives, as a choice of texts."""
    pieces: list[tuple[str, ...]] = []
    current: list[str] = []

    def cut() -> None:
        if current:
            pieces.append(("".join(current).lower(),))
        current.clear()

    place = 0
    while place < len(sequence):
        sign = sequence[place]
        if sign == "\\":
            place += 1
            if sequence[place] in _SPECIAL:
                cut()
            else:
                current.append(sequence[place])
        elif sign == "(":
            cut()
            end = _end_of_group(sequence, place)
            inside = sequence[place + 1 : end]
            if not _optional(sequence, end + 1) and not inside.startswith("?"):
                pieces.append(_best(alternatives(inside)))
            place = end
        elif sign == "[":
            cut()
            place = _end_of_class(sequence, place)
        elif sign in "?*{":
            if current:
                current.pop()  # the piece before may be absent
            cut()
            if sign == "{":
                place = sequence.index("}", place)
        elif sign in ".^$+":
            cut()
        else:
            current.append(sign)
        place += 1
    cut()
    return pieces


def _optional(sequence: str, place: int) -> bool:
    return place < len(sequence) and sequence[place] in "?*{"


def alternatives(pattern: str) -> list[str]:
    """The pattern cut at its top-level bars."""
    parts: list[str] = []
    start = place = 0
    while place < len(pattern):
        sign = pattern[place]
        if sign == "\\":
            place += 1
        elif sign == "[":
            place = _end_of_class(pattern, place)
        elif sign == "(":
            place = _end_of_group(pattern, place)
        elif sign == "|":
            parts.append(pattern[start:place])
            start = place + 1
        place += 1
    return [*parts, pattern[start:]]


def _end_of_class(pattern: str, start: int) -> int:
    place = start + 1
    if pattern[place] == "^":
        place += 1
    if pattern[place] == "]":
        place += 1
    while pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place


def _end_of_group(pattern: str, start: int) -> int:
    depth = 0
    place = start
    while True:
        sign = pattern[place]
        if sign == "\\":
            place += 1
        elif sign == "[":
            place = _end_of_class(pattern, place)
        elif sign == "(":
            depth += 1
        elif sign == ")":
            depth -= 1
            if not depth:
                return place
        place += 1

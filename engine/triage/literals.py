"""Plain text that a pattern cannot match without.

A cheap search for it decides whether the regular expression is tried at all. Only what every
match contains counts: text outside of classes and quantified pieces, or, of a group, one of its
alternatives each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MINIMUM: Final = 3
_SPECIAL: Final = frozenset("dDsSwWbBAZ")
_WORD: Final = re.compile(r"[a-z_]+")


@dataclass(frozen=True, eq=False)
class Wording:
    """A compiled pattern that is tried only where the plain texts are that it needs."""

    pattern: re.Pattern[str]

    @cached_property
    def needs(self) -> tuple[tuple[str, ...], ...]:
        """``requirements`` of the pattern."""
        return requirements(self.pattern.pattern)

    def search(self, text: str, low: str) -> re.Match[str] | None:
        """The first match in ``text``; ``low`` is the same text in lower case."""
        for choice in self.needs:
            for run in choice:
                if run in low:
                    break
            else:
                return None
        return self.pattern.search(text)


def required_runs(pattern: str) -> tuple[str, ...]:
    """Lower-cased texts of which every match contains at least one; () when there are none.

    >>> required_runs(r"CUDA error: out of memory\\b")
    ('cuda error: out of memory',)
    >>> required_runs(r"(HIP|CUDA) .*")
    ('hip', 'cuda')
    """
    return next(iter(requirements(pattern)), ())


def requirements(pattern: str) -> tuple[tuple[str, ...], ...]:
    """Choices of lower-cased texts, the rarest first; a match has at least one of each choice.

    >>> requirements(r"(HIP|CUDA) error: \\d+ bytes")
    ((' error: ',), (' bytes',), ('hip', 'cuda'))
    >>> requirements(r"out of memory|OOM\\b")
    (('out of memory', 'oom'),)
    """
    first, *others = alternatives(pattern)
    if not others:
        return _choices(first)
    best = [_choices(alternative)[:1] for alternative in (first, *others)]
    if not all(best):
        return ()
    return (tuple(dict.fromkeys(run for choices in best for run in choices[0])),)


def words_of(literal: str) -> list[str]:
    """The word-like runs of a literal, the longest first, for a look at a text's words.

    A dot stands where a word begins or ends within the literal, and so in every text that holds it.
    Words of less than three letters count where there are no others.

    >>> words_of("ran out of ")
    ['.out.', 'ran.']
    """
    words = {
        (len(found[0]), "." * (found.start() > 0) + found[0] + "." * (found.end() < len(literal)))
        for found in _WORD.finditer(literal)
    }
    chosen = [word for letters, word in words if letters >= MINIMUM] or [
        word for _, word in words if len(word) >= MINIMUM
    ]
    return sorted(chosen, key=lambda word: (-len(word.strip(".")), word.strip("."), word))


def _choices(alternative: str) -> tuple[tuple[str, ...], ...]:
    """The required pieces of an alternative that are worth a search, the best first."""
    choices = dict.fromkeys(c for c in reversed(_pieces(alternative)) if _worth(c) >= MINIMUM)
    # Of equals the one text before the many, then the later: a line's subject ("rank 3 …") is
    # common, what befell it is not.
    return tuple(sorted(choices, key=lambda c: (-_worth(c), len(c))))


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
                pieces.append(required_runs(inside))
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

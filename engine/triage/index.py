"""Which plain texts of the catalogue some lines may hold, told from their words alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, Protocol, TypeVar

from engine.triage.literals import Wording, words_of

#: Tokens remembered, and how long one may be: 2 MiB at most.
_REMEMBERED: Final = 1 << 15
_LONGEST_REMEMBERED: Final = 32
#: So many first characters of a word are looked for before the whole, in so many tokens at once.
_START: Final = 4
_TOGETHER: Final = 256
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz_")
_APART: Final = bytes(code if code in _LETTERS else 32 for code in range(256))


class Worded(Protocol):
    """An entry of the catalogue: signatures and harmless texts alike."""

    @property
    def id(self) -> str: ...
    @property
    def patterns(self) -> tuple[Wording, ...]: ...


Entry = TypeVar("Entry", bound=Worded)
#: An entry, and those of its patterns that are worth trying.
Trial = tuple[Entry, frozenset[Wording]]


def spaced(text: bytes) -> bytes:
    """A lower-cased text with spaces for all but letters and ``_``: its split is its tokens."""
    return text.translate(_APART)


class _Words:
    """Which of some words (as of ``words_of``) lie within the tokens of a text.

    Tokens seen before are remembered.
    """

    def __init__(self, words: Iterable[bytes]) -> None:
        self._words = frozenset(words)
        self._short = [word for word in self._words if len(word) < _START]
        self._by_start: dict[bytes, list[bytes]] = {}
        for word in self._words.difference(self._short):
            self._by_start.setdefault(word[:_START], []).append(word)
        self._starts = frozenset(self._by_start)
        self._dull: set[bytes] = set()
        self._known: dict[bytes, frozenset[bytes]] = {}

    def within(self, tokens: set[bytes]) -> set[bytes]:
        found: set[bytes] = set()
        fresh: list[bytes] = []
        for token in tokens - self._dull:
            words = self._known.get(token)
            if words is None:
                fresh.append(token)
            else:
                found |= words
        for place in range(0, len(fresh), _TOGETHER):
            found |= self._look(fresh[place : place + _TOGETHER])
        return found

    def __len__(self) -> int:
        return len(self._dull) + len(self._known)

    def _look(self, tokens: list[bytes]) -> set[bytes]:
        """The same of tokens that are not known yet."""
        text = b".%b." % b".".join(tokens)
        parts = {text[place : place + _START] for place in range(len(text) - _START + 1)}
        asked = chain(self._short, *(self._by_start[part] for part in parts & self._starts))
        found = {word for word in asked if word in text}
        if len(self) + len(tokens) > _REMEMBERED:
            self._dull, self._known = set(), {}
        for token in tokens:
            if len(token) > _LONGEST_REMEMBERED:
                continue
            marked = b".%b." % token
            if words := frozenset([word for word in found if word in marked]):
                self._known[token] = words
            else:
                self._dull.add(token)
        return found


@dataclass(frozen=True)
class Literal(Generic[Entry]):
    """A plain text (lower-cased), its words, and what is worth trying where it occurs."""

    text: bytes
    words: frozenset[bytes]
    trials: tuple[Trial[Entry], ...]


class LiteralIndex(Generic[Entry]):
    """The plain texts of many entries. ``longest`` is the length of the longest, in bytes."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        found: dict[str, dict[str, tuple[Entry, set[Wording]]]] = {}
        for entry in entries:
            for pattern in entry.patterns:
                for run in pattern.needs[0]:
                    tried = found.setdefault(run, {})
                    tried.setdefault(entry.id, (entry, set()))[1].add(pattern)
        # Those of one word side by side; of equal evidence in a line the first in this order leads.
        groups: dict[str, list[str]] = {}
        for run in found:
            groups.setdefault(next(iter(words_of(run)), "").strip("."), []).append(run)
        self.literals: list[Literal[Entry]] = []
        #: The literals without a word to look for.
        self.wordless: list[int] = []
        self._by_word: dict[bytes, list[int]] = {}
        for number, run in enumerate(chain.from_iterable(groups.values())):
            words = [word.encode() for word in words_of(run)]
            same = self._by_word.setdefault(words[0], []) if words else self.wordless
            same.append(number)
            self.literals.append(
                Literal(
                    run.encode(),
                    frozenset(words),
                    tuple((entry, frozenset(patterns)) for entry, patterns in found[run].values()),
                )
            )
        self.longest = max((len(literal.text) for literal in self.literals), default=0)
        self._words = _Words(word for literal in self.literals for word in literal.words)
        self._first_words = frozenset(self._by_word)

    @property
    def remembered(self) -> int:
        """How many tokens are remembered now."""
        return len(self._words)

    def told(self, tokens: set[bytes]) -> list[int]:
        """The literals with words, by number, all of whose words lie within these tokens."""
        words = self._words.within(tokens)
        return [
            number
            for word in words & self._first_words
            for number in self._by_word[word]
            if self.literals[number].words <= words
        ]

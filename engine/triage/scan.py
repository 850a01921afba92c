"""Lines → evidence. A cheap search for plain text first, regular expressions only where it hits.

Lines are judged in blocks; each is seen with the same ``CONTEXT`` lines around it wherever the
block's border falls, so a stream and a whole file give the same evidence.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from engine.triage.catalogue import CONTEXT, Benign, Catalogue, Entry, Patterns, Signature
from engine.triage.normalise import Level, Moment, body, level_of, moment_of, rank_of, strip_escapes
from engine.triage.search import NARROWEST, Haystack

BLOCK: Final = 2_000
#: From this strength on even a line that calls itself information is evidence.
UNMISTAKABLE: Final = 0.95
#: A block's characters, so that long lines do not make a block huge.
BLOCK_CHARACTERS: Final = 1 << 20


@dataclass(frozen=True)
class Evidence:
    """One signature seen at one place."""

    signature: Signature
    first: int
    last: int
    rank: int | None
    moment: Moment | None
    text: str  # the body, or two joined, that matched


class Scanner:
    """Feed lines, get evidence; ``pending`` shows what the last ones hold."""

    def __init__(self, known: Catalogue) -> None:
        self._known = known
        self._lines: list[str] = []
        self._numbers: list[int] = []
        self._judged = 0  # how many of the buffered lines are judged already
        self._characters = 0

    def feed(self, number: int, text: str) -> Iterable[Evidence]:
        """Take one line (or a piece of a very long one); what a full block showed."""
        self._lines.append(text)
        self._numbers.append(number)
        self._characters += len(text)
        if len(self._lines) >= BLOCK or self._characters >= BLOCK_CHARACTERS:
            return self._judge(len(self._lines) - CONTEXT)
        return ()

    def pending(self) -> Iterator[Evidence]:
        """What the lines not judged yet would show, were there no more to come."""
        if self._judged < len(self._lines):
            block = _Block(self._lines, self._numbers, self._known)
            yield from block.judge(self._judged, len(self._lines))

    @property
    def judged(self) -> int:
        """The number of the last line judged for good."""
        return self._numbers[self._judged - 1] if self._judged else 0

    def _judge(self, until: int) -> Iterator[Evidence]:
        if until <= self._judged:
            return
        block = _Block(self._lines, self._numbers, self._known)
        yield from block.judge(self._judged, until)
        kept = max(0, until - CONTEXT)
        self._judged = until - kept
        del self._lines[:kept]
        del self._numbers[:kept]
        self._characters = sum(map(len, self._lines))


class _Block:
    """One block of lines under the glass."""

    def __init__(self, lines: list[str], numbers: list[int], known: Catalogue) -> None:
        self._lines = lines
        self._numbers = numbers
        self._known = known
        self._bodies: dict[int, str] = {}
        self._levels: dict[int, Level | None] = {}
        # By line: which entries to try there, and with which of their patterns.
        self._suspects: dict[int, dict[str, tuple[Signature, Patterns]]] = {}
        self._harmless: dict[int, dict[str, tuple[Benign, Patterns]]] = {}
        self._search()

    def judge(self, start: int, until: int) -> Iterator[Evidence]:
        wanted = sorted(place for place in self._suspects if start <= place < until)
        muted, masks = self._benign(wanted)
        for place in wanted:
            classes = muted.get(place)
            for item, patterns in self._suspects[place].values():
                if classes is not None and (not classes or item.incident in classes):
                    continue
                found = self._evidence(place, item, patterns, masks.get(place, ()))
                if found is not None:
                    yield found

    # -- the cheap search

    def _search(self) -> None:
        everything = Haystack(self._lines)
        for signature, patterns, places in everything.trials(self._known.suspicious):
            _collect(self._suspects, signature, patterns, places)
        if not self._suspects:
            return
        # What is harmless matters only near a suspect.
        around = {place + step for place in self._suspects for step in (-CONTEXT, 0, CONTEXT)}
        for benign, patterns, places in everything.trials(self._known.harmless, around):
            _collect(self._harmless, benign, patterns, places)

    # -- context

    def _body(self, place: int) -> str:
        known = self._bodies.get(place)
        if known is None:
            known = self._bodies[place] = body(self._lines[place])
        return known

    def _around(self, place: int) -> list[str]:
        low, high = max(0, place - CONTEXT), min(len(self._lines), place + CONTEXT + 1)
        return [self._body(n) for n in range(low, high)]

    def _benign(
        self, suspects: list[int]
    ) -> tuple[dict[int, frozenset[str]], dict[int, list[re.Pattern[str]]]]:
        """Lines muted (and for which classes; empty means all), and patterns to cut out.

        Only what lies near a suspect line is looked at.
        """
        muted: dict[int, frozenset[str]] = {}
        masks: dict[int, list[re.Pattern[str]]] = {}
        for place, items in self._harmless.items():
            n = bisect_left(suspects, place - CONTEXT)
            if n == len(suspects) or suspects[n] > place + CONTEXT:
                continue
            for item, patterns in items.values():
                low, high = place - item.before, place + item.after
                n = bisect_left(suspects, low)
                if n == len(suspects) or suspects[n] > high:
                    continue
                if self._match(place, patterns) is None or not self._has(place, item.near):
                    continue
                if item.spans_only:
                    masks.setdefault(place, []).extend(item.patterns)
                    continue
                for line in range(low, high + 1):
                    before = muted.get(line)
                    if before is None:
                        muted[line] = item.classes
                    else:
                        both = before and item.classes
                        muted[line] = before | item.classes if both else frozenset()
        return muted, masks

    def _has(self, place: int, near: tuple[re.Pattern[str], ...]) -> bool:
        if not near:
            return True
        around = "\n".join(self._around(place))
        return any(pattern.search(around) for pattern in near)

    # -- one candidate

    def _heard(self, place: int, item: Signature) -> bool:
        """Whether what a line calls itself lets it be evidence."""
        if place not in self._levels:
            self._levels[place] = level_of(strip_escapes(self._lines[place]))
        level = self._levels[place]
        if level is None or item.calm:
            return True
        return not item.loud if level == "warning" else item.strength >= UNMISTAKABLE

    def _match(
        self, place: int, patterns: Patterns, text: str | None = None
    ) -> tuple[str, int, int] | None:
        """(text, first place, last place) of a match that touches this line."""
        here = self._body(place) if text is None else text
        for pattern in patterns:
            if pattern.search(here):
                return here, place, place
        if self._goes_on(place):
            after = self._body(place + 1)
            for joined in (f"{here} {after}", here + after):
                for pattern in patterns:
                    hit = pattern.search(joined)
                    if hit and hit.start() < len(here):
                        return joined, place, place + 1
        if place and self._goes_on(place - 1):
            ahead = self._body(place - 1)
            joined = f"{ahead} {here}"
            for pattern in patterns:
                hit = pattern.search(joined)
                if hit and hit.end() > len(ahead) + 1:
                    return joined, place - 1, place
        return None

    def _goes_on(self, place: int) -> bool:
        """Whether a line may have been cut by a terminal: long, and the next has no prefix."""
        if len(self._lines[place]) < NARROWEST or place + 1 >= len(self._lines):
            return False
        following = self._lines[place + 1].strip()
        return len(self._body(place + 1)) == len(following) > 0

    def _evidence(
        self, place: int, item: Signature, patterns: Patterns, masks: Iterable[re.Pattern[str]]
    ) -> Evidence | None:
        if not self._heard(place, item):
            return None
        text = self._body(place)
        for mask in masks:
            text = mask.sub(" ", text)
        found = self._match(place, patterns, text)
        if found is None:
            return None
        matched, first, last = found
        if any(pattern.search(matched) for pattern in item.absent):
            return None
        if not self._has(place, item.near):
            return None
        if item.near_absent and self._has(place, item.near_absent):
            return None
        raw = strip_escapes(self._lines[place])
        return Evidence(
            item,
            self._numbers[first],
            self._numbers[last],
            rank_of(raw),
            moment_of(raw),
            matched[:2_000],
        )


def _collect(
    table: dict[int, dict[str, tuple[Entry, Patterns]]],
    entry: Entry,
    patterns: Patterns,
    places: Iterable[int],
) -> None:
    for place in places:
        held = table.setdefault(place, {})
        had = held.get(entry.id)
        held[entry.id] = (entry, patterns if had is None else had[1] | patterns)

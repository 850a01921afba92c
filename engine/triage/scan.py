"""Lines → evidence. A cheap search for plain text first, regular expressions only where it hits.

Lines are judged in blocks; each is seen with the same ``CONTEXT`` lines around it wherever the
block's border falls, so a stream and a whole file give the same evidence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engine.triage.catalogue import CONTEXT, Catalogue, Signature
from engine.triage.literals import Wording
from engine.triage.normalise import Level, Moment, level_of, moment_of, rank_of, strip_escapes
from engine.triage.search import Haystack
from engine.triage.view import View, Views

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
        self._views = Views(lines)

    def judge(self, start: int, until: int) -> Iterator[Evidence]:
        """The evidence of these lines; the others are context."""
        haystack = Haystack(self._lines)
        suspects = dict(haystack.trials(self._known.suspicious, range(start, until)))
        if not suspects:
            return
        muted, masks = self._benign(haystack, list(suspects))
        for place, trials in suspects.items():
            classes = muted.get(place)
            if classes is not None and not classes:
                continue
            raw = strip_escapes(self._lines[place])
            level = level_of(raw)
            for item, patterns in trials:
                if classes is not None and item.incident in classes:
                    continue
                if not _heard(level, item):
                    continue
                view = self._shown(place, item, patterns, masks.get(place))
                if view is not None:
                    yield Evidence(
                        item,
                        self._numbers[view.first],
                        self._numbers[view.last],
                        rank_of(raw),
                        moment_of(raw),
                        view.text[:2_000],
                    )

    def _benign(
        self, haystack: Haystack, suspects: list[int]
    ) -> tuple[dict[int, frozenset[str]], dict[int, list[Wording]]]:
        """Lines muted (and for which classes; empty means all), and patterns to cut out.

        Only what lies near a suspect line is looked at.
        """
        muted: dict[int, frozenset[str]] = {}
        masks: dict[int, list[Wording]] = {}
        for reach in self._known.harmless:
            near = _reached(suspects, reach.after, reach.before, len(self._lines))
            for place, trials in haystack.trials(reach.index, near):
                for item, patterns in trials:
                    low, high = place - item.before, place + item.after
                    n = bisect_left(suspects, low)
                    if n == len(suspects) or suspects[n] > high:
                        continue
                    if self._views.match(place, patterns) is None:
                        continue
                    if item.near and not self._views.near(place, item.near):
                        continue
                    if item.spans_only:
                        masks.setdefault(place, []).extend(item.patterns)
                        continue
                    for line in range(low, high + 1):
                        before = muted.get(line, item.classes)
                        both = before and item.classes
                        muted[line] = before | item.classes if both else frozenset()
        return muted, masks

    def _shown(
        self, place: int, item: Signature, patterns: Iterable[Wording], masks: list[Wording] | None
    ) -> View | None:
        """Where a signature is seen, all of its conditions held."""
        text = None
        if masks:
            text = self._views.body(place)
            for mask in masks:
                text = mask.pattern.sub(" ", text)
        view = self._views.match(place, patterns, text)
        if view is None or any(pattern.search(view.text, view.low) for pattern in item.absent):
            return None
        if item.near and not self._views.near(place, item.near):
            return None
        if item.near_absent and self._views.near(place, item.near_absent):
            return None
        return view


def _reached(suspects: Sequence[int], before: int, after: int, count: int) -> list[int]:
    """The lines so close before and after suspects, of ``count`` lines, in order."""
    if not before and not after:
        return list(suspects)
    return sorted(
        {
            line
            for place in suspects
            for line in range(max(0, place - before), min(count, place + after + 1))
        }
    )


def _heard(level: Level | None, item: Signature) -> bool:
    """Whether what a line calls itself lets it be evidence."""
    if level is None or item.calm:
        return True
    return not item.loud if level == "warning" else item.strength >= UNMISTAKABLE

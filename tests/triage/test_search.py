"""The cheap search: it may find too much, never too little."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from engine.triage import catalogue
from engine.triage.index import Entry, LiteralIndex
from engine.triage.literals import Wording
from engine.triage.search import Haystack

#: A text cut in two by the end of a line, also where what is looked through at once ends (24).
CUT = ["RuntimeError: CUDA out of", "memory. Tried to allocate 2 GiB"]
CUT_AT = (47, 200, 959)


def _examples() -> list[str]:
    return [line for s in catalogue().signatures for e in s.examples for line in e.split("\n")]


def test_every_text_of_the_catalogue_is_found_in_the_line_where_it_begins() -> None:
    known = catalogue()
    generator = random.Random(7)
    examples = _examples()
    lines = [
        generator.choice(examples)
        if generator.random() < 0.2
        else f"block {n} step {n % 4} took 2 s"
        for n in range(1_500)
    ]
    for place in CUT_AT:
        lines[place : place + 2] = CUT
    _nothing_is_missed(known.suspicious, lines)
    for reach in known.harmless:
        _nothing_is_missed(reach.index, lines)
    found = _ids(known.suspicious, lines, range(len(lines)))
    for place in CUT_AT:
        assert "cuda_oom.bare" in found[place], (
            "what goes on in the next line counts where it began"
        )


def _nothing_is_missed(index: LiteralIndex[Entry], lines: Sequence[str]) -> None:
    ids = _ids(index, lines, range(len(lines)))
    low = [line.lower() for line in lines]
    for literal in index.literals:
        text = literal.text.decode()
        for n, line in enumerate(low):
            if text in line:
                assert ids[n].issuperset(entry.id for entry, _ in literal.trials), (text, n)


def _ids(
    index: LiteralIndex[Entry], lines: Sequence[str], places: Sequence[int]
) -> dict[int, set[str]]:
    ids: dict[int, set[str]] = defaultdict(set)
    for place, trials in Haystack(lines).trials(index, places):
        ids[place].update(entry.id for entry, _ in trials)
    return ids


def test_asked_for_some_lines_the_search_tells_of_them_what_it_tells_of_all() -> None:
    known = catalogue()
    lines = [line for example in _examples()[:300] for line in (example, "block 3 took 2 s")]
    everything = _ids(known.suspicious, lines, range(len(lines)))
    some = sorted(random.Random(7).sample(range(len(lines)), 90))
    assert _ids(known.suspicious, lines, some) == {n: everything[n] for n in some if everything[n]}


def test_texts_that_never_repeat_are_forgotten_and_nothing_is_missed_after_them() -> None:
    known = catalogue()
    generator = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz_"
    for _ in range(4):
        lines = [
            " ".join("".join(generator.choices(letters, k=9)) for _ in range(10_000)),
            "RuntimeError: CUDA out of memory.",
        ]
        assert "cuda_oom.bare" in _ids(known.suspicious, lines, [0, 1])[1]
        assert known.suspicious.remembered <= 1 << 15


def test_what_a_pattern_needs_stands_in_all_that_it_matches() -> None:
    known = catalogue()
    examples = [*_examples(), *(e for b in known.benign for e in b.examples)]
    wordings: list[Wording] = [
        pattern
        for s in known.signatures
        for pattern in (*s.patterns, *s.absent, *s.near, *s.near_absent)
    ]
    wordings += [pattern for b in known.benign for pattern in (*b.patterns, *b.near)]
    for wording in wordings:
        for text in examples:
            if wording.pattern.search(text):
                assert wording.search(text, text.lower()), (wording.pattern.pattern, text)

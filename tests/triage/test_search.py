"""The cheap search: it may find too much, never too little."""

from __future__ import annotations

import random

from engine.triage import catalogue
from engine.triage.search import Haystack


def test_every_text_of_the_catalogue_is_found_in_the_line_where_it_begins() -> None:
    known = catalogue()
    generator = random.Random(7)
    examples = [line for s in known.signatures for e in s.examples for line in e.split("\n")]
    lines = [
        generator.choice(examples)
        if generator.random() < 0.2
        else f"block {n} step {n % 4} took 2 s"
        for n in range(1_500)
    ]
    lines[63:65] = ["RuntimeError: CUDA out of", "memory. Tried to allocate 2 GiB"]  # two slices
    index = known.suspicious
    ids: dict[str, set[int]] = {}
    for entry, _, places in Haystack(lines).trials(index):
        ids.setdefault(entry.id, set()).update(places)
    low = [line.lower() for line in lines]
    for literal, trials in index.trials.items():
        text = literal.decode()
        for n, line in enumerate(low):
            if text in line:
                assert all(n in ids[entry.id] for entry, _ in trials), (text, n)
    assert 63 in ids["cuda_oom.bare"], "what goes on in the next slice counts where it begins"

"""Excerpts of public logs that no rule was written from: does triage still read them right?

``fresh.jsonl`` was collected and labelled before the rules were looked at again (``docs/triage.md``
has the blind figure). It is a floor: it shall not sink.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.triage import accuracy

ROWS = [
    json.loads(line)
    for line in Path(__file__).with_name("fresh.jsonl").read_text(encoding="utf-8").splitlines()
]


def test_of_fresh_excerpts_nearly_all_incidents_and_hardly_anything_harmless_is_told() -> None:
    figures = accuracy(ROWS)
    assert figures["n"] >= 60
    assert figures["benign_n"] >= 150
    assert figures["recall_any"] >= 0.95, figures["labels"]
    assert figures["benign_flagged"] <= figures["benign_n"] // 100, figures["benign_flagged_ids"]

"""How well and how fast `engine.triage` reads logs.

    python -m benchmarks.triage accuracy EXCERPTS.jsonl --seed 5 --half develop
    python -m benchmarks.triage accuracy EXCERPTS.jsonl --seed 5 --half aside --save
    python -m benchmarks.triage speed

``EXCERPTS.jsonl`` holds one labelled excerpt per line: ``id``, ``label``, ``source``, ``lines``,
``also_acceptable``. The seed cuts it into two halves, grouped by ``source`` (excerpts of one thread
never lie on both sides) and dealt out label by label. Rules are written against ``develop``;
``aside`` is read by the machine only. Results hold figures and ids, never lines.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
BENIGN = "benign"


def split(rows: list[dict[str, Any]], seed: int) -> dict[str, list[dict[str, Any]]]:
    """Two halves: groups of one source, shuffled by ``seed``, dealt to the smaller side."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["source"]].append(row)
    by_label: dict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    for _, group in sorted(groups.items()):
        by_label[group[0]["label"]].append(group)
    generator = random.Random(seed)  # noqa: S311
    halves: dict[str, list[dict[str, Any]]] = {"develop": [], "aside": []}
    for _, members in sorted(by_label.items()):
        generator.shuffle(members)
        dealt = {"develop": 0, "aside": 0}
        first, second = generator.sample(["develop", "aside"], 2)
        for group in members:
            side = first if dealt[first] <= dealt[second] else second
            halves[side].extend(group)
            dealt[side] += len(group)
    return halves


def accuracy(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Recall per label, benign excerpts flagged, and how many findings were acceptable."""
    from engine.triage import classify

    labels: dict[str, dict[str, Any]] = {}
    flagged: list[str] = []
    right_findings = all_findings = 0
    for row in rows:
        found = classify(row["lines"])
        label = row["label"]
        tally = labels.setdefault(label, {"n": 0, "any": 0, "leading": 0, "missed": []})
        tally["n"] += 1
        if label == BENIGN:
            if found:
                flagged.append(row["id"])
            all_findings += len(found)
            continue
        accepted = {label, *row.get("also_acceptable", ())}
        classes = [finding.class_ for finding in found]
        right_findings += sum(name in accepted for name in classes)
        all_findings += len(classes)
        hit = any(name in accepted for name in classes)
        tally["any"] += hit
        leading = bool(classes) and classes[0] in accepted
        tally["leading"] += leading
        if not leading:
            tally["missed"].append({"id": row["id"], "found": classes})
    alerts = {name: tally for name, tally in labels.items() if name != BENIGN}
    n = sum(t["n"] for t in alerts.values())
    benign = labels.get(BENIGN, {"n": 0})["n"]
    return {
        "n": n,
        "recall_any": sum(t["any"] for t in alerts.values()) / n if n else None,
        "recall_leading": sum(t["leading"] for t in alerts.values()) / n if n else None,
        "precision_of_findings": right_findings / all_findings if all_findings else None,
        "benign_n": benign,
        "benign_flagged": len(flagged),
        "benign_flagged_ids": flagged,
        "labels": dict(sorted(alerts.items())),
    }


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    judge = verbs.add_parser("accuracy")
    judge.add_argument("excerpts", type=Path)
    judge.add_argument("--seed", type=int, default=5)
    judge.add_argument("--half", choices=("develop", "aside"), default="develop")
    judge.add_argument("--save", action="store_true")
    lines = verbs.add_parser("split", help="ids of a half, or its lines for development")
    lines.add_argument("excerpts", type=Path)
    lines.add_argument("--seed", type=int, default=5)
    lines.add_argument("--lines", action="store_true", help="the develop half's whole rows")
    given = parser.parse_args(arguments)

    halves = split(_read(given.excerpts), given.seed)
    if given.verb == "split":
        for row in halves["develop"]:
            sys.stdout.write(
                json.dumps(row if given.lines else row["id"], ensure_ascii=False) + "\n"
            )
        return 0
    report = accuracy(halves[given.half])
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

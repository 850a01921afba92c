"""How well and how fast `engine.triage` reads logs.

    python -m benchmarks.triage accuracy EXCERPTS.jsonl --seed 5 --half develop
    python -m benchmarks.triage accuracy EXCERPTS.jsonl --seed 5 --half aside --save
    python -m benchmarks.triage accuracy FRESH.jsonl --half all --save fresh
    python -m benchmarks.triage chatter
    python -m benchmarks.triage speed

``EXCERPTS.jsonl`` holds one labelled excerpt per line: ``id``, ``label``, ``source``, ``lines``,
``also_acceptable``. The seed cuts it into two halves, grouped by ``source`` (excerpts of one thread
never lie on both sides) and dealt out label by label. Rules are written against ``develop``;
``aside`` is read by the machine only. Results hold figures and ids, never lines.

``chatter`` reads what the installed packages say at "info", "warning" and on the screen: the texts
that their sources hand to loggers, ``warnings.warn`` and ``print``, each as a log of one line.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import platform
import random
import statistics
import sys
import sysconfig
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
    generator = random.Random(seed)
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


NOISE = (
    "[INFO] 2025-12-25 10:30:{0:02d} executor.py:145 - rank {1} block {2} step {0} took {3:.3f} s",
    "node-2:{1}:{2} [0] NCCL INFO Channel {0:02d}/0 : 0[0] -> 1[1] via P2P/CUMEM/read {3:.2f}",
    " {0}%|███▌      | {1}/{2} [00:12<00:30, {3:.2f}it/s]",
    "INFO 01-01 10:00:{0:02d} [loggers.py:{1}] throughput: {2}.0 tokens/s, cache usage: {3:.1f}%",
    '10.0.{0}.{2}:{1} - - "POST /generate HTTP/1.1" 200 OK {3:.2f}',
)
INCIDENT = ("cuda_oom.allocator", "peer.connection", "peer.launcher", "nccl.wrapper")


def speed(count: int = 100_000, seed: int = 5, repeats: int = 5) -> dict[str, Any]:
    """Lines per second of CPU: noise; noise with incidents of 300 lines; errors strewn all over.

    ``errors`` has nothing but errors, of every kind. Each is read ``repeats`` times: told are the
    best, which other work on the machine disturbed least, and the median.
    """
    from engine.triage import catalogue, classify

    generator = random.Random(seed)

    def noise() -> str:
        line = generator.choice(NOISE)
        return line.format(
            generator.randrange(60),
            generator.randrange(999),
            generator.randrange(99),
            generator.random() * 100,
        )

    quiet = [noise() for _ in range(count)]
    examples = {s.id: s.examples for s in catalogue().signatures}
    few = [line for name in INCIDENT for line in examples[name]]
    every = [line for lines in examples.values() for line in lines]
    incidents = list(quiet)
    for place in range(count // 6, count, count // 3):
        incidents[place : place + 300] = [generator.choice(few) for _ in range(300)]
    strewn = [generator.choice(every) if generator.random() < 0.02 else line for line in quiet]
    errors = [generator.choice(every) for _ in range(count // 20)]
    figures: dict[str, Any] = {"lines": count, "repeats": repeats}
    logs = {"noise": quiet, "incidents": incidents, "strewn": strewn, "errors": errors}
    for name, lines in logs.items():
        log = [line.replace("\n", " ") for line in lines]
        seconds: list[float] = []
        for _ in range(repeats):
            begin = time.process_time()
            classify(log)
            seconds.append(time.process_time() - begin)
        figures[f"{name}_lines_per_second"] = round(len(log) / min(seconds))
        figures[f"{name}_lines_per_second_median"] = round(len(log) / statistics.median(seconds))
    return figures


#: Calls that say something, and how their text looks in a log.
SAYING = {
    "info": "INFO 11-12 10:00:00 [mod.py:12] {}",
    "debug": "DEBUG 11-12 10:00:00 [mod.py:12] {}",
    "warning": "WARNING 11-12 10:00:00 [mod.py:12] {}",
    "warning_once": "WARNING 11-12 10:00:00 [mod.py:12] {}",
    "warn": "UserWarning: {}",
    "print": "{}",
}


def chatter(shortest: int = 16) -> dict[str, Any]:
    """How many harmless texts of the installed packages are flagged, by the call that says them."""
    from engine.triage import classify

    said: dict[str, set[str]] = {name: set() for name in SAYING}
    for path in Path(sysconfig.get_paths()["purelib"]).rglob("*.py"):
        if "tests" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, RecursionError):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            text = _text(node.args[0]) if name in SAYING else None
            if text is not None and len(text) >= shortest:
                said[name].add(" ".join(text.split()))
    figures: dict[str, Any] = {"n": 0, "flagged": 0, "by_call": {}}
    for name, texts in said.items():
        flagged = sum(bool(classify([SAYING[name].format(text)])) for text in texts)
        figures["by_call"][name] = {"n": len(texts), "flagged": flagged}
        figures["n"] += len(texts)
        figures["flagged"] += flagged
    return figures


def _text(node: ast.expr) -> str | None:
    """What an expression says, with a word where something is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("%s", "model").replace("%d", "4")
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "model" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        left = _text(node.left)
        right = _text(node.right) if isinstance(node.op, ast.Add) else ""
        return None if left is None else left + (right or "")
    return None


def _save(report: dict[str, Any], name: str = "") -> None:
    """Add a report to today's file (of that name): figures and ids only."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"triage-{today}{name}.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    held["python"] = platform.python_version()
    held.update(report)
    path.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")


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
    judge.add_argument("--half", choices=("develop", "aside", "all"), default="develop")
    judge.add_argument("--save", nargs="?", const="", metavar="NAME", help="kept as NAME")
    pace = verbs.add_parser("speed")
    pace.add_argument("--save", action="store_true")
    talk = verbs.add_parser("chatter")
    talk.add_argument("--save", action="store_true")
    lines = verbs.add_parser("split", help="ids of a half, or its lines for development")
    lines.add_argument("excerpts", type=Path)
    lines.add_argument("--seed", type=int, default=5)
    lines.add_argument("--lines", action="store_true", help="the develop half's whole rows")
    given = parser.parse_args(arguments)

    if given.verb == "speed":
        figures = speed()
        print(json.dumps(figures, indent=1))
        if given.save:
            _save({"speed": figures}, "-speed")
        return 0
    if given.verb == "chatter":
        figures = chatter()
        print(json.dumps(figures, indent=1))
        if given.save:
            _save({"chatter": figures})
        return 0
    rows = _read(given.excerpts)
    halves = {**split(rows, given.seed), "all": rows}
    if given.verb == "split":
        for row in halves["develop"]:
            sys.stdout.write(
                json.dumps(row if given.lines else row["id"], ensure_ascii=False) + "\n"
            )
        return 0
    report = accuracy(halves[given.half])
    print(json.dumps(report, indent=1))
    if given.save is not None:
        _save({f"accuracy_{given.save or given.half}": {"seed": given.seed, **report}})
    return 0


if __name__ == "__main__":
    sys.exit(main())

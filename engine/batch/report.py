"""A batch's report, from the store alone: JSON, CSV, Markdown, and beside an earlier one."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.batch import progress
from engine.batch.rows import ALIAS, DONE, BatchRow, ItemRow
from engine.batch.store import BatchStore
from engine.media.segment import PART

FORMAT: Final = 1
_INTERVENTIONS: Final = frozenset({"paused", "resumed", "stopped", "retried", "halted"})
_COLUMNS: Final = (
    *("name", "state", "attempts", "crashes", "seconds", "fps", "peak_bytes", "frames"),
    *("size", "audio_seconds", "cause", "error", "output", "sha256", "bytes", "job", "post"),
    *("post_error", "twin", "retries", "key"),
)


def build(store: BatchStore, row: BatchRow) -> dict[str, Any]:
    """The whole report; JSON-safe. Times are Unix seconds, lengths seconds, sizes bytes."""
    items = store.items(row.id)
    tries: dict[str, list[dict[str, Any]]] = {}
    for attempt in store.attempts(row.id):
        told = {
            "job": attempt.job,
            "devices": attempt.devices,
            "began": attempt.began,
            "ended": attempt.ended,
            "outcome": attempt.outcome,
            "cause": attempt.cause,
            "origin": attempt.origin,
            "error": attempt.error,
        }
        tries.setdefault(attempt.key, []).append(told)
    names = {item.key: item.name for item in items}
    notes = store.notes(row.id)
    return {
        "format": FORMAT,
        "batch": row.id,
        "name": row.name,
        "state": row.state,
        "note": row.note,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "seconds": row.worked,
        "folders": {k: row.spec.get(k) for k in ("audio_dir", "image_dir", "out_dir")},
        "version": row.spec.get("version"),
        "lines": row.lines,
        "totals": totals(items, tries, row.worked),
        "items": [_item(item, tries.get(item.key, []), names) for item in items],
        "interventions": [
            {"t": note.t, "kind": note.kind, "text": note.text}
            for note in notes
            if note.kind in _INTERVENTIONS
        ],
        "remarks": [
            {"kind": note.kind, "name": note.name, "text": note.text}
            for note in notes
            if note.kind not in _INTERVENTIONS
        ],
    }


def totals(
    items: Sequence[ItemRow], tries: Mapping[str, Sequence[Mapping[str, Any]]], worked: float
) -> dict[str, Any]:
    """Counts and sums. What an earlier batch made (adopted) has no seconds of work here."""
    made = [item for item in items if item.state == DONE and item.seconds]
    frames = sum(item.frames or 0 for item in made)
    work = sum(item.seconds or 0.0 for item in made)
    again = [t for of in tries.values() for t in of if t["outcome"] == "retry"]
    return {
        "items": len(items),
        **progress.counts(items),
        "frames": frames,
        "work_seconds": work,
        "seconds_per_item": work / len(made) if made else None,
        "fps": frames / worked if worked and frames else None,
        "peak_bytes": max((i.peak_bytes for i in items if i.peak_bytes), default=None),
        "retries": sum(max(0, item.attempts - 1) for item in items if item.alias_of is None),
        "retry_causes": dict(Counter(str(t["cause"]) for t in again)),
        "retries_internal": sum(t["origin"] == "internal" for t in again),
        "retries_external": sum(t["origin"] == "external" for t in again),
        "crashes": sum(item.crashes for item in items),
        "post_failed": sum(item.post == "failed" for item in items),
    }


def write(report: Mapping[str, Any], folder: Path) -> Path:
    """Write the three files into ``folder``; the path of the JSON one.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"report-{report['batch']}"
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    for ending, body in ((".csv", as_csv(report)), (".md", as_markdown(report)), (".json", text)):
        path = base.with_name(base.name + ending)
        temporary = path.with_name(path.name + PART)
        temporary.write_text(body, encoding="utf-8", newline="")
        os.replace(temporary, path)  # noqa: PTH105 (says what it does)
    return base.with_name(base.name + ".json")


def read(path: Path) -> dict[str, Any] | None:
    """A JSON report as ``write`` wrote it; None if the file is none."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(body, dict) and body.get("format") == FORMAT and "totals" in body
    return body if whole else None


def as_csv(report: Mapping[str, Any]) -> str:
    """One line per item. Texts that a spreadsheet would run as a formula are kept from it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for item in report["items"]:
        row = {**item, "retries": "; ".join(_retry(t) for t in _retried(item))}
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    return out.getvalue()


def as_markdown(report: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> str:
    """A page for a person."""
    sums = report["totals"]
    lines = [
        f"# Batch {report['name'] or report['batch']}: {report['state']}",
        "",
        f"{_states(sums)}; {_length(report['seconds'])} in all"
        + (f", {sums['fps']:.3g} frames a second" if sums["fps"] else "")
        + (f", peak {_gib(sums['peak_bytes'])}" if sums["peak_bytes"] else "")
        + ".",
    ]
    if report["note"]:
        lines += ["", f"**{_text(report['note'])}**"]
    if report["lines"]:
        lines += ["", f"Devices: {report['lines']['kind']}, {_text(report['lines']['why'])}."]
    lines += ["", "| item | state | tries | time | fps | peak | what was wrong |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for item in report["items"]:
        wrong = [item["error"], item["post_error"], *(_retry(t) for t in _retried(item))]
        fps = "n/a" if item["fps"] is None else f"{item['fps']:.3g}"
        cells = [item["name"], item["state"], str(item["attempts"]), _length(item["seconds"])]
        cells += [fps, _gib(item["peak_bytes"]), "; ".join(w for w in wrong if w)]
        lines.append("| " + " | ".join(_text(cell) for cell in cells) + " |")
    causes = ", ".join(f"{cause} {count}" for cause, count in sums["retry_causes"].items())
    lines += ["", "## Retries and interventions", ""]
    lines.append(
        f"{sums['retries']} retries"
        + (f" ({causes})" if causes else "")
        + f": {sums['retries_internal']} of the jobs' own doing, {sums['retries_external']} of the "
        f"host's; the engine died under {sums['crashes']} items."
    )
    lines += [f"- {_text(entry['text'])}" for entry in report["interventions"]]
    if report["remarks"]:
        lines += ["", "## Left out, or worth a look", ""]
        lines += [f"- {_text(entry['text'])}" for entry in report["remarks"]]
    looks = [
        f"- {_text(item['name'])}: {_text(finding['text'])}"
        for item in report["items"]
        for finding in item["findings"]
        if item["state"] == DONE and finding.get("level") == "warning"
    ]
    if looks:
        lines += ["", "## Done, with a remark", "", *looks]
    if earlier is not None:
        lines += ["", f"## Beside {earlier.get('name') or earlier.get('batch')}", ""]
        lines += ["| | earlier | now | change |", "|---|---|---|---|"]
        for row in compare(report, earlier):
            change = "n/a" if row["change"] is None else f"{row['change']:+.1%}"
            old, new = _number(row["earlier"]), _number(row["now"])
            lines.append(f"| {row['what']} | {old} | {new} | {change} |")
    return "\n".join(lines) + "\n"


def compare(report: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Totals side by side, then the time of each item that both did; changes are shares."""
    names = ("items", "done", "failed", "seconds_per_item", "fps", "peak_bytes", "retries")
    old, new = earlier.get("totals") or {}, report["totals"]
    rows = [_pair(name, old.get(name), new.get(name)) for name in names]
    before = {item["name"]: item for item in earlier.get("items") or ()}
    for item in report["items"]:
        was = before.get(item["name"])
        if was and was.get("seconds") and item["seconds"]:
            rows.append(_pair(f"seconds of {item['name']}", was["seconds"], item["seconds"]))
    return rows


def _pair(what: str, old: float | None, new: float | None) -> dict[str, Any]:
    change = None if not old or new is None else new / old - 1
    return {"what": what, "earlier": old, "now": new, "change": change}


def _item(
    item: ItemRow, tries: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": item.name,
        "key": item.key,
        "state": item.state,
        "attempts": item.attempts,
        "crashes": item.crashes,
        "seconds": item.seconds,
        "fps": item.fps,
        "peak_bytes": item.peak_bytes,
        "frames": item.frames,
        "size": item.request.get("size"),
        "audio": item.audio,
        "image": item.image,
        "audio_seconds": item.audio_seconds,
        "cause": item.cause,
        "error": item.error,
        "output": item.output if item.state in (DONE, ALIAS) else None,
        "sha256": item.sha256,
        "bytes": item.bytes,
        "job": item.job,
        "post": item.post,
        "post_error": item.post_error,
        "twin": names.get(item.alias_of or ""),
        "findings": item.findings,
        "tries": list(tries),
    }


def _retried(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Tries that were not the last, and claims whose engine died."""
    return [t for t in item["tries"] if t["outcome"] in ("retry", "crashed", "quarantined")]


def _retry(attempt: Mapping[str, Any]) -> str:
    return f"{attempt['cause']} ({attempt['origin']})"


def _states(sums: Mapping[str, Any]) -> str:
    order = ("done", "alias", "failed", "quarantined", "waiting", "running", "verifying")
    found = [f"{sums[state]} {state}" for state in order if sums.get(state)]
    return f"{sums['items']} items: " + (", ".join(found) or "none")


def _cell(value: Any) -> Any:
    text = "" if value is None else value
    if isinstance(text, str) and text[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{text}"
    return text


def _text(text: Any) -> str:
    """For a cell of a table: one line, no markup of strangers."""
    kept = "".join(c if c.isprintable() else " " for c in str(text))
    return kept.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")[:300]


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _gib(count: int | None) -> str:
    return "n/a" if count is None else f"{count / 2**30:.2f} GiB"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.4g}" if value < 1e6 else f"{value:,.0f}"

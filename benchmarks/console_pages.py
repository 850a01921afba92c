"""Every page of the console against its budgets: CPU and bytes, keys under load, a week's memory.

``python -m benchmarks.console_pages [--json FILE]``; ``make bench`` runs it too.
All events are *synthetic* and replayed; no engine and no GPU take part.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.console import drain, hardware, painted_first, spawn, versions
from benchmarks.ending import leaving_nothing
from console import actions

#: (size, devices, jobs, budget of CPU in ms per tick, budget of bytes per tick)
SIZES: Final = (
    ((200, 50), 8, 1000, 15.0, 16 * 1024),
    ((80, 24), 4, 3, None, 4 * 1024),
)
#: Letters that appear nowhere in the stream or the console: each is seen on the screen once.
LETTERS: Final = "ĀāĂăĄąĆćĈĉĊċČčĎďĐđĒēĔĕĖėĘęĚěĜĝĞğĠġĢģĤĥĦħĨĩĪīĬĭĮįİıĲĳĴĵĶķ"
KEY_MS: Final = 50.0


def child(
    what: str, size: tuple[int, int], devices: int, jobs: int, *, page: str = "overview",
    ticks: int = 5, limit: float = 120.0,
) -> Any:  # fmt: skip
    """What one load measured of itself; None if it came to no end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        process, master = spawn(command(what, out, devices, jobs, page, ticks), size)
        reader = drain(master)
        try:
            process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(master)
        reader.join(1)
        return json.loads(out.read_text(encoding="utf-8")) if out.exists() else None


def command(what: str, out: Path, devices: int, jobs: int, page: str, ticks: int) -> list[str]:
    return [
        sys.executable, "-m", "benchmarks.console_pages_child", "--what", what, "--page", page,
        "--devices", str(devices), "--jobs", str(jobs), "--ticks", str(ticks), "--out", str(out),
    ]  # fmt: skip


def steady(ticks: int) -> list[dict[str, Any]]:
    """CPU and bytes per tick of each page at each size."""
    rows = []
    for size, devices, jobs, cpu_ms, tick_bytes in SIZES:
        for page in actions.PAGES:
            marks = child("page", size, devices, jobs, page=page.name, ticks=ticks)
            row: dict[str, Any] = {
                "page": page.name, "size": f"{size[0]}x{size[1]}", "devices": devices,
                "jobs": jobs, "budget_cpu_ms": cpu_ms, "budget_bytes": tick_bytes,
                "cpu_ms_median": None, "bytes_mean": None,
            }  # fmt: skip
            if marks:
                cpu = [(b[0] - a[0]) * 1000 for a, b in itertools.pairwise(marks)]
                sent = [b[1] - a[1] for a, b in itertools.pairwise(marks)]
                row |= {"cpu_ms_median": round(statistics.median(cpu), 2),
                        "cpu_ms_max": round(max(cpu), 2),
                        "bytes_mean": round(statistics.fmean(sent))}  # fmt: skip
            rows.append(row)
    return rows


def keys(count: int) -> dict[str, Any]:
    """Seconds from a key's byte in the pty to its letter in what comes back.

    The letters go into the filter of the job table on the overview at 200x50: eight devices, 1,000
    jobs that are filtered anew at each, 5,000 log lines a second coming in.
    """
    took: list[float] = []
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        process, master = spawn(command("keys", out, 8, 1000, "overview", 60), (200, 50))
        seen, arrived = bytearray(), threading.Condition()

        def read() -> None:
            while True:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    return
                with arrived:
                    seen.extend(data)
                    arrived.notify()

        threading.Thread(target=read, daemon=True).start()
        ready = out.with_suffix(".ready")
        begun = time.monotonic()
        while not ready.exists() and time.monotonic() - begun < 30:
            time.sleep(0.05)
        time.sleep(2)
        os.write(master, b"/")
        time.sleep(0.5)
        for at in range(count):
            letter = LETTERS[at % len(LETTERS)].encode()
            with arrived:
                seen.clear()
                sent = time.perf_counter()
                os.write(master, letter)
                if arrived.wait_for(lambda word=letter: word in seen, timeout=2):  # type: ignore[misc]
                    took.append((time.perf_counter() - sent) * 1000)
                else:
                    lost += 1
            time.sleep(0.03)
            os.write(master, b"\x7f")  # the filter is empty again
            time.sleep(0.12 + 0.013 * (at % 7))  # at every phase of the frame's clock
        out.with_suffix(".ended").touch()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        told = json.loads(out.read_text(encoding="utf-8")) if out.exists() else None
        os.close(master)
    took.sort()
    return {
        "what": "key to paint, typed into the job filter", "size": "200x50", "devices": 8,
        "jobs": 1000, "log_lines_per_second": told and told["lines_per_second"],
        "keys": len(took), "not_seen_in_2_s": lost, "budget_p99_ms": KEY_MS,
        "p50_ms": round(took[len(took) // 2], 1) if took else None,
        "p99_ms": round(took[min(int(len(took) * 0.99), len(took) - 1)], 1) if took else None,
        "max_ms": round(took[-1], 1) if took else None,
    }  # fmt: skip


def measure(ticks: int, typed: int) -> dict[str, Any]:
    """All of it."""
    return {
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "first_paint": painted_first(5),
        "pages": steady(ticks),
        "keys": keys(typed),
        "page_shown": child("pages", (200, 50), 8, 1000),
        "week": child("week", (120, 40), 8, 3, limit=300.0),
        "load_after": [round(x, 2) for x in os.getloadavg()],
    }


def table(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    lines = [
        f"first paint, {name}: {paint['median_ms']} ms ({paint['cpu_ms_median']} ms CPU)"
        + (f", budget {paint['budget_ms']} ms" if paint["budget_ms"] else "")
        for name, paint in result["first_paint"].items()
    ]
    for row in result["pages"]:
        name = f"{row['page']}, {row['size']}, {row['devices']} devices"
        if row["cpu_ms_median"] is None:
            lines.append(f"{name:<44} n/a")
            continue
        cpu, sent = row["cpu_ms_median"], row["bytes_mean"] / 1024
        over = [
            word for word, value, budget in (
                ("CPU", cpu, row["budget_cpu_ms"]), ("bytes", row["bytes_mean"],
                                                     row["budget_bytes"]))
            if budget is not None and value > budget
        ]  # fmt: skip
        said = "OVER: " + ", ".join(over) if over else "holds"
        lines.append(f"{name:<44}{cpu:>8.1f} ms{sent:>8.1f} KiB a tick  {said}")
    key = result["keys"]
    over = key["p99_ms"] is None or key["p99_ms"] > key["budget_p99_ms"]
    lines.append(
        f"key to paint under {key['log_lines_per_second']} lines/s: p50 {key['p50_ms']} ms, "
        f"p99 {key['p99_ms']} ms  {'OVER' if over else 'holds'} ({key['keys']} keys)"
    )
    for page, times in (result["page_shown"] or {}).items():
        lines.append(f"page {page}: first {times['first_ms']} ms, again {times['again_ms']} ms")
    if result["week"]:
        days = ", ".join(f"{mib:.0f}" for mib in result["week"]["resident_mib_by_day"])
        lines.append(f"a simulated week, MiB at the end of each day: {days}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--ticks", type=int, default=8, help="ticks on each page")
    parser.add_argument("--keys", type=int, default=150, help="keys typed under load")
    options = parser.parse_args()
    result = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "command": "python " + " ".join(["-m", "benchmarks.console_pages", *sys.argv[1:]]),
        "stream": "synthetic events, replayed", "hardware": hardware(), "versions": versions(),
        **measure(options.ticks, options.keys),
    }  # fmt: skip
    print(table(result))
    if options.json:
        text = json.dumps(result, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

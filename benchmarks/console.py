"""What the console costs, measured in a real pty against its budgets.

``python -m benchmarks.console [--json FILE] [--seconds N] [--paints N]``

First paint: from exec of the interpreter to the moment the whole first picture has been read from
the pty, the footer last. CPU and bytes: a replayed *synthetic* event stream (no engine, no GPU) at
1 Hz; CPU is the whole process's, bytes are what the terminal was sent.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import importlib.metadata
import itertools
import json
import os
import platform
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ending import leaving_nothing

ROOT = Path(__file__).resolve().parent.parent
LAST = b"commands"  # the end of the first picture: a word of the footer
FIRST = "from console.app import AvatopApp; AvatopApp(lambda: __import__('time').sleep(9)).run()"

EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("commands")
Empty().run()
"""


@dataclass(frozen=True)
class Scene:
    """One steady state to measure."""

    name: str
    size: tuple[int, int]
    devices: int
    jobs: int
    cpu_ms: float | None  # budget per tick
    tick_bytes: float | None


SCENES = (
    Scene("200x50, 8 devices, 1,000 jobs", (200, 50), 8, 1000, 15.0, 16 * 1024),
    Scene("120x40, 4 devices, 3 jobs", (120, 40), 4, 3, None, None),
    Scene("80x24, 4 devices, 3 jobs", (80, 24), 4, 3, None, 4 * 1024),
)


def spawn(
    command: list[str], size: tuple[int, int], **env: str
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a program with a pty of ``size`` (columns, rows) as its terminal; ``env`` is added."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **env}
    environ.setdefault("LANG", "C.UTF-8")
    # As after an installation or a first run: bytecode is compiled once, not on every start.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "avatop-bench-bytecode")
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environ,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    return process, master


def first_paint(
    command: list[str], size: tuple[int, int], limit: float = 20.0
) -> tuple[float, float] | None:
    """Seconds from exec to the last part of the first picture, wall and CPU; None: never came.

    CPU time tells more than wall time on a machine that is busy with something else.
    """
    begun = time.perf_counter()
    process, master = spawn(command, size)
    seen = b""
    found = None
    try:
        while time.perf_counter() - begun < limit:
            if not select.select([master], [], [], 0.5)[0]:
                continue
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
            if LAST in seen:
                found = (time.perf_counter() - begun, cpu_seconds(process.pid))
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(master)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(master: int) -> threading.Thread:
    """Read and forget what the program writes, as a terminal does."""

    def read() -> None:
        while True:
            try:
                if not os.read(master, 65536):
                    return
            except OSError:
                return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def steady(scene: Scene, ticks: int) -> dict[str, Any]:
    """CPU, Python's calls and bytes per tick of one scene: median and worst.

    Calls are counted in a run of their own, as counting takes time; unlike CPU time they do not
    depend on how fast the machine happens to be.
    """
    marks, counted = _marks(scene, ticks), _marks(scene, max(ticks // 2, 4), "--count")
    cpu = [(b[0] - a[0]) * 1000 for a, b in itertools.pairwise(marks)]
    calls = [b[0] - a[0] for a, b in itertools.pairwise(counted)]
    sent = [b[1] - a[1] for a, b in itertools.pairwise(marks)]
    return {
        "scene": scene.name, "ticks": len(cpu),
        "cpu_ms_median": round(statistics.median(cpu), 2), "cpu_ms_max": round(max(cpu), 2),
        "calls_median": round(statistics.median(calls)),
        "bytes_median": round(statistics.median(sent)), "bytes_max": max(sent),
        "bytes_mean": round(statistics.fmean(sent)),
        "budget_cpu_ms": scene.cpu_ms, "budget_bytes": scene.tick_bytes,
    }  # fmt: skip


def _marks(scene: Scene, ticks: int, *flags: str) -> list[tuple[float, int]]:
    """What was spent and sent up to each tick."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "marks.json"
        command = [
            sys.executable, "-m", "benchmarks.console_child", "--devices", str(scene.devices),
            "--jobs", str(scene.jobs), "--ticks", str(ticks), "--out", str(out), *flags,
        ]  # fmt: skip
        process, master = spawn(command, scene.size)
        reader = drain(master)
        process.wait(timeout=ticks * 3 + 60)
        os.close(master)
        reader.join(1)
        found: list[tuple[float, int]] = json.loads(out.read_text(encoding="utf-8"))
        return found


def hardware() -> dict[str, Any]:
    """Where this was measured."""
    model = "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()
    return {"cpu": model, "cores": os.cpu_count(), "load_1min": round(load[0], 2),
            "system": platform.platform()}  # fmt: skip


def versions() -> dict[str, str]:
    names = ("textual", "rich", "plotext")
    return {"python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in names}}  # fmt: skip


def painted_first(paints: int) -> dict[str, Any]:
    """First paint of the console alone, and of avatop with its engine; and as a measure of the
    machine, of the smallest app that Textual can be. They take turns, so its moods meet all."""
    starts: dict[str, tuple[list[str], int | None]] = {
        "an empty app of Textual's": ([sys.executable, "-c", EMPTY], None),
        "console alone": ([sys.executable, "-c", FIRST], 300),
        "avatop, engine and all": ([sys.executable, "-m", "console"], 300),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in starts}
    for turn in range(paints + 1):
        for name, (command, _) in starts.items():
            times = first_paint(command, (120, 40))
            if turn and times is not None:  # the first compiles the bytecode
                found[name].append(times)
    painted: dict[str, Any] = {}
    for name, (_, budget) in starts.items():
        known = sorted(wall * 1000 for wall, _ in found[name])
        cpu = [cpu * 1000 for _, cpu in found[name]]
        painted[name] = {
            "median_ms": round(statistics.median(known), 1) if known else None,
            "min_ms": round(known[0], 1) if known else None,
            "max_ms": round(known[-1], 1) if known else None,
            "cpu_ms_median": round(statistics.median(cpu)) if cpu else None,
            "runs": len(known), "asked": paints, "budget_ms": budget,
        }  # fmt: skip
    return painted


def measure(paints: int, seconds: int) -> dict[str, Any]:
    """All figures."""
    painted = painted_first(paints)
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "command": "python " + " ".join(["-m", "benchmarks.console", *sys.argv[1:]]),
        "stream": "synthetic events, replayed at 1 Hz",
        "hardware": hardware(), "versions": versions(),
        "first_paint": painted, "steady": [steady(scene, seconds) for scene in SCENES],
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The result as a person reads it."""

    def verdict(value: float | None, budget: float | None) -> str:
        if budget is None or value is None:
            return ""
        return "holds" if value <= budget else "OVER"

    lines = [f"{'what':<52}{'measured':>14}{'budget':>12}"]
    for name, paint in result["first_paint"].items():
        value, budget = paint["median_ms"], paint["budget_ms"]
        shown = "n/a" if value is None else f"{value:.0f} ms"
        lines.append(f"{'first paint, ' + name:<52}{shown:>14}"
                     f"{'' if budget is None else f'{budget} ms':>12}  "
                     f"{verdict(value, budget)} ({paint['cpu_ms_median']} ms CPU)")  # fmt: skip
    for row in result["steady"]:
        cpu, sent = row["cpu_ms_median"], row["bytes_mean"]
        budget_cpu, budget_bytes = row["budget_cpu_ms"], row["budget_bytes"]
        lines.append(f"{row['scene'] + ': CPU per tick':<52}{cpu:>11.1f} ms"
                     f"{'' if budget_cpu is None else f'{budget_cpu:.0f} ms':>12}  "
                     f"{verdict(cpu, budget_cpu)} ({row['calls_median']:,} calls)")  # fmt: skip
        lines.append(f"{row['scene'] + ': bytes per tick':<52}{sent / 1024:>10.1f} KiB"
                     f"{'' if budget_bytes is None else f'{budget_bytes / 1024:.0f} KiB':>12}  "
                     f"{verdict(sent, budget_bytes)}")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--seconds", type=int, default=20, help="ticks of each steady state")
    parser.add_argument("--paints", type=int, default=7, help="starts for the first paint")
    options = parser.parse_args()
    result = measure(options.paints, options.seconds)
    print(table(result))
    if options.json:
        text = json.dumps(result, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

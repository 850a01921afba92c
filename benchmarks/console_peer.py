"""avatop and nvitop in a terminal of their own each, on the same devices, one after the other.

``python -m benchmarks.console_peer [--json FILE] [--seconds N] [--starts N]``, on a host with GPUs
and with nvitop installed. No job runs: both look at idle devices once a second. avatop's figures
hold its console and its engine, which nvitop has no need of; the console's alone stand beside them.

What a program cannot show here (nvitop without NVML) is told as n/a with what it said.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.console import hardware, spawn, versions
from benchmarks.ending import leaving_nothing

SIZES: Final = ((200, 50), (80, 24))
LIMIT: Final = 20.0  # seconds a program may take until its devices are shown
SETTLE: Final = 60.0  # seconds at most until what is done once at the start is over
QUIET: Final = 0.1  # of a core: less over two seconds means that it is


@dataclass(frozen=True)
class Program:
    """One console. ``shown``: what it has written once the devices' readings are on the screen."""

    name: str
    module: str
    shown: re.Pattern[bytes]
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", self.module, *self.options]


#: Degrees of a GPU, or avatop's word for a host without one.
PROGRAMS: Final = (
    Program("avatop", "console", re.compile(rb"\d+(\x1b\[[0-9;]*[mH])* ?\xc2\xb0C|no GPU")),
    Program("nvitop", "nvitop", re.compile(rb"\d+C\b"), ("--monitor", "full")),
)


class Started:
    """A program in a pty, what it wrote, and when."""

    def __init__(self, program: Program, size: tuple[int, int], env: Mapping[str, str]) -> None:
        self._begun = time.perf_counter()
        self.process, self._master = spawn(program.command, size, **env)
        self._program = program
        self.written = b""

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        for each in reversed(self.family()):
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        os.close(self._master)

    def read(self, seconds: float) -> bool:
        """Take what it writes for so long; False once it has ended."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.written += os.read(self._master, 1 << 16)
                except OSError:
                    return False
        return True

    def first_picture(self) -> float | None:
        """Seconds from exec to the devices' readings; None: they never came."""
        while time.perf_counter() - self._begun < LIMIT:
            lives = self.read(0.005)
            if self._program.shown.search(self.written):
                return time.perf_counter() - self._begun
            if not lives:
                return None
        return None

    def family(self) -> list[psutil.Process]:
        """The program and what it started."""
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def settle(self) -> None:
        """Wait until what is done once (avatop's ranks are prepared) is done."""
        until = time.perf_counter() + SETTLE
        while time.perf_counter() < until:
            family = self.family()
            before = sum(_cpu(p) for p in family)
            self.read(2.0)
            if len(family) == len(self.family()) and sum(map(_cpu, family)) - before < 2 * QUIET:
                return

    def cost(self, seconds: float) -> dict[str, float]:
        """Share of one core, bytes a second, resident memory; of all and of the first alone."""
        family = self.family()
        before, sent, begun = [_cpu(p) for p in family], len(self.written), time.perf_counter()
        self.read(seconds)
        passed = time.perf_counter() - begun
        used = [_cpu(p) - b for p, b in zip(family, before, strict=True)]
        return {
            "cpu_percent": round(100 * sum(used) / passed, 2),
            "console_cpu_percent": round(100 * used[0] / passed, 2),
            "bytes_per_second": round((len(self.written) - sent) / passed),
            "resident_mib": round(sum(p.memory_info().rss for p in family) / (1 << 20), 1),
            "console_resident_mib": round(family[0].memory_info().rss / (1 << 20), 1),
            "processes": len(family),
        }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(program: Program, size: tuple[int, int], starts: int, seconds: float) -> dict[str, Any]:
    """One program at one size."""
    row: dict[str, Any] = {"program": program.name, "size": f"{size[0]}x{size[1]}"}
    if importlib.util.find_spec(program.module) is None:
        return row | {"told": f"{program.module} is not installed"}
    took: list[float] = []
    for at in range(starts + 1):  # the first start compiles the bytecode
        with (
            tempfile.TemporaryDirectory() as folder,
            Started(program, size, {"AVATOP_STATE_DIR": folder}) as started,
        ):
            first = started.first_picture()
            if first is None:
                said = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", started.written)
                return row | {"told": said.decode("utf-8", "replace").strip()[:300]}
            if at:
                took.append(first)
            if at == starts:
                started.settle()
                row |= started.cost(seconds)
    return row | {"first_picture_ms": round(statistics.median(took) * 1000), "starts": len(took)}


def table(rows: list[dict[str, Any]]) -> str:
    """The result as a person reads it."""
    heads = ("", "first picture", "CPU", "(console)", "bytes/s", "resident", "(console)")
    lines = [f"{heads[0]:<18}" + "".join(f"{head:>15}" for head in heads[1:])]
    for row in rows:
        name = f"{row['program']} {row['size']}"
        if "told" in row:
            lines.append(f"{name:<18}  n/a: {row['told'].splitlines()[0] if row['told'] else ''}")
            continue
        cells = (
            f"{row['first_picture_ms']} ms", f"{row['cpu_percent']} %",
            f"{row['console_cpu_percent']} %", f"{row['bytes_per_second']:,}",
            f"{row['resident_mib']} MiB", f"{row['console_resident_mib']} MiB",
        )  # fmt: skip
        lines.append(f"{name:<18}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


def devices() -> str | None:
    """What the driver says it has."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return re.sub(r" \(UUID:[^)]*\)", "", done.stdout).strip() or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--seconds", type=float, default=20.0, help="over which costs are taken")
    parser.add_argument("--starts", type=int, default=5, help="starts for the first picture")
    options = parser.parse_args()
    rows = [
        measure(program, size, options.starts, options.seconds)
        for size in SIZES
        for program in PROGRAMS
    ]
    print(table(rows))
    if options.json:
        result = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "command": "python -m benchmarks.console_peer " + " ".join(sys.argv[1:]),
            "devices": devices(), "hardware": hardware(), "versions": versions(), "rows": rows,
        }  # fmt: skip
        text = json.dumps(result, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

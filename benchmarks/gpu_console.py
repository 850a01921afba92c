"""The console in a terminal on a real GPU server, while it works: what a person sees of each page.

Run on a host with four GPUs, from the repository's root::

    python -m benchmarks.gpu_console --ckpt CKPT --out shots --json gpu-console.json

It submits a pipelined job, opens ``avatop attach`` in a pseudo-terminal of 200 by 50, goes through
all pages by their keys, and writes what stood on the screen. Beside each it takes the same page as
SVG in three sizes by ``avatop shot``, which draws the live engine with the same widgets. While the
console is open its processor time and the bytes it writes are taken, and where nvitop is installed,
nvitop's in the same terminal on the same devices. ``--cpu`` rehearses all of it on CPU ranks.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pexpect
import psutil
import pyte

from benchmarks.gpu import ROOT, SAMPLE, command, environment, host, long_voice

COLUMNS, ROWS = 200, 50
SIZES: Final = ("80x24", "120x40", "200x50")
#: Key of each page, and its name for ``avatop shot``.
PAGES: Final = {
    "1": "overview",
    "2": "jobs",
    "3": "tune",
    "4": "processes",
    "5": "logs",
    "6": "checkpoint",
    "7": "incidents",
    "8": "recordings",
    "9": "batch",
    "0": "release",
}
#: The job outlives the walk: at 52 frames a second this is more than a minute and a half.
VOICE_SECONDS: Final = 320.0
#: Seconds over which a program's cost in the terminal is taken.
WATCH_SECONDS: Final = 15.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", type=Path, default=SAMPLE / "ckpt", help="14B-shaped weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for screens and pictures")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--cpu", action="store_true", help="a rehearsal on CPU ranks")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whatever ends it, its engine ends too
    with tempfile.TemporaryDirectory() as name:
        result = look(args, Path(name))
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


def look(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One job, one console over it, every page of it."""
    gpus, size = ("cpu", "128*128") if args.cpu else ("0,1,2,3", "704*384")
    flags = ["--mode", "tpp", "--variant", "balanced", "--gpus", gpus, "--num_gpus_dit", "4"]
    flags += ["--mirror", "off", "--retries", "0"]
    if not args.cpu:
        flags += ["--host_memory", "300GiB"]
    line = command(args.ckpt, folder, "live", flags, clips=args.clips, size=size)
    line[line.index("run")] = "submit"
    line[line.index("--audio") + 1] = str(long_voice(folder, VOICE_SECONDS))
    env = environment(folder, "live")
    result: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "host": host()}
    asked = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
    result["submitted"] = asked.returncode == 0 or asked.stderr.decode()[-800:]
    try:
        avatop = (sys.executable, "-m", "console", "attach")
        with Terminal(avatop, env) as terminal:
            result["first_job_on_screen"] = terminal.until("clip", 120)
            result["cost"] = {"avatop": terminal.cost()}
            result["pages"] = walk(terminal, args.out)
            result["shots"] = shoot(args.out, env)
        if find_spec("nvitop"):
            with Terminal((sys.executable, "-m", "nvitop"), env) as terminal:
                terminal.read(3.0)
                result["cost"]["nvitop"] = terminal.cost()
                terminal.write(args.out / "nvitop.txt")
    finally:
        stop = (sys.executable, "-m", "console", "stop")
        subprocess.run(stop, cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
    return result


def walk(terminal: Terminal, out: Path) -> dict[str, Any]:
    """Every page by its key: how long until it stood, and the screen as text."""
    told: dict[str, Any] = {}
    for key, page in PAGES.items():
        told[page] = {"seconds": terminal.press(key)}
        terminal.read(1.5)  # a page of its own data: what arrives belongs to the picture
        terminal.write(out / f"{page}.txt")
    terminal.press("2")
    terminal.press("m")
    terminal.read(1.5)
    terminal.write(out / "modes.txt")
    return told


def shoot(out: Path, env: Any) -> dict[str, Any]:
    """Every page of the running engine as SVG, by the command that the docs name."""

    def one(what: tuple[str, str]) -> tuple[str, Any]:
        page, size = what
        target = out / f"{page}-{size}.svg"
        line = (sys.executable, "-m", "console", "shot", page, "--size", size, "-o", str(target))
        done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
        told = True if done.returncode == 0 else done.stderr.decode(errors="replace")[-300:]
        return target.name, told

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(one, [(page, size) for page in PAGES.values() for size in SIZES]))


class Terminal:
    """A program in a pseudo-terminal of its own, and the screen that it has drawn."""

    def __init__(self, line: Sequence[str], env: Any) -> None:
        self._line, self._env = line, env
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.bytes = 0

    def __enter__(self) -> Terminal:
        env = {**self._env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self._child = pexpect.spawn(
            self._line[0], list(self._line[1:]), cwd=str(ROOT), env=env, dimensions=(ROWS, COLUMNS)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close(force=True)

    def read(self, seconds: float) -> None:
        """Take what is drawn for so long, as a terminal does."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                data = self._child.read_nonblocking(1 << 16, timeout=left)
            except pexpect.TIMEOUT:
                return
            except pexpect.EOF:
                return
            self.bytes += len(data)
            self._stream.feed(data)

    def until(self, text: str, seconds: float) -> float | None:
        """Seconds until ``text`` stands on the screen; None if it never did."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            self.read(0.05)
            if any(text in row for row in self._screen.display):
                return round(time.monotonic() - began, 2)
        return None

    def press(self, key: str) -> float | None:
        """Seconds from a key to the next change of the screen."""
        before = list(self._screen.display)
        began = time.monotonic()
        self._child.send(key)
        while time.monotonic() - began < 5:
            self.read(0.005)
            if self._screen.display != before:
                return round(time.monotonic() - began, 3)
        return None

    def cost(self) -> dict[str, float]:
        """Share of one processor and bytes a second, over ``WATCH_SECONDS``."""
        process = psutil.Process(self._child.pid)
        used, wrote, began = _seconds(process), self.bytes, time.monotonic()
        while (left := WATCH_SECONDS - (time.monotonic() - began)) > 0:
            self.read(left)
        passed = time.monotonic() - began
        return {
            "cpu_percent": round(100 * (_seconds(process) - used) / passed, 2),
            "bytes_per_second": round((self.bytes - wrote) / passed),
            "rss_bytes": process.memory_info().rss,
        }

    def write(self, path: Path) -> None:
        path.write_text("\n".join(row.rstrip() for row in self._screen.display) + "\n")


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    raise SystemExit(main())

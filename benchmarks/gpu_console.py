"""The console in a terminal on a real GPU server, while it works: what a person sees of each page.

Run on a host with GPUs, from the repository's root::

    python -m benchmarks.gpu_console --ckpt CKPT --gpus 0,1,2,3 --out shots --json gpu-console.json

It submits two pipelined jobs, a short one to learn from and a long one, opens ``avatop attach`` in
a pseudo-terminal of 200 by 50, goes through all pages by their keys, and writes what stood on the
screen. Beside each it takes the same page as SVG in three sizes by ``avatop shot``, which draws the
live engine with the same widgets. While the console is open its processor time and the bytes it
writes are taken, and where nvitop is installed, nvitop's in the same terminal on the same devices.
Then a rank is ended by SIGKILL, and the pages that tell it are taken; at last the job makes room
for a batch, with a rollout under way, and their pages are taken. ``--cpu`` rehearses all of it on
CPU ranks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pexpect
import psutil
import pyte

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import ROOT, SAMPLE, command, environment, first, host, long_voice
from benchmarks.gpu_batch import pairs
from benchmarks.gpu_rollback import CANDIDATE, STABLE, STAGES

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
#: Name of a picture → its page, and the keys pressed there: all modes of the running job, and its
#: plan on devices of 24 GB.
PRESSED: Final = {
    "modes": ("jobs", "m"),
    "misfit": ("tune", "down,enter,2,2,full_stop,1,5,G,i,B,enter"),
}
#: The job outlives the walk: at 52 frames a second this is nearly three minutes.
VOICE_SECONDS: Final = 380.0
#: Clips of the job before it, from which the plan learns a clip's time.
LEARNED_CLIPS: Final = 4
#: Pairs of the batch: two for each of a few lines.
ITEMS: Final = 6
#: Clips that are there before anything is drawn: the job runs steadily.
CLIPS_FIRST: Final = 3
#: Seconds until a first clip of the batch must be there.
BATCH_SECONDS: Final = 90.0
#: Seconds until a killed rank's job must commit its next clip.
RESUME_SECONDS: Final = 60.0
#: Pages that tell of a killed rank.
TROUBLE: Final = ("overview", "incidents", "processes", "logs")
#: Pages that tell what passes while one looks, and for how long they are looked at.
MOVING: Final = ("overview", "jobs")
LOOK_SECONDS: Final = 20.0
#: Seconds over which a program's cost in the terminal is taken.
WATCH_SECONDS: Final = 15.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", type=Path, default=SAMPLE / "ckpt", help="14B-shaped weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for screens and pictures")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--gpus", default="0,1,2,3")
    parser.add_argument("--clips", type=int, default=180)
    parser.add_argument("--pages", action="store_true", help="the job's pages alone")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal on CPU ranks")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        result = look(args, Path(name))
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


def look(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One job, one console over it, every page of it; then a batch and a rollout."""
    settings = folder / "releases.toml"
    settings.write_text(STAGES)
    env = environment(folder, "live", AVATOP_RELEASES_FILE=str(settings))
    result: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "host": host()}
    submitted(args, folder, env, "learned", LEARNED_CLIPS)
    job = submitted(args, folder, env, "live", args.clips)
    result["submitted"] = job
    try:
        avatop = (sys.executable, "-m", "console", "attach")
        with Terminal(avatop, env) as terminal:
            result["first_job_on_screen"] = terminal.until(120, "clip")
            result["clips_on_screen"] = terminal.until(
                90, *(f" {n}/{args.clips}" for n in range(CLIPS_FIRST, args.clips + 1))
            )
            result["cost"] = {"avatop": terminal.cost()}
            result["pages"] = walk(terminal, args.out)
            result["shots"] = shoot(args.out, env, (*PAGES.values(), *PRESSED), MOVING)
        if find_spec("nvitop"):
            with Terminal((sys.executable, "-m", "nvitop"), env) as terminal:
                terminal.read(3.0)
                result["cost"]["nvitop"] = terminal.cost()
                terminal.write(args.out / "nvitop.txt")
        with Terminal(avatop, env) as terminal:
            result["trouble"] = trouble(args, env, terminal, job)
        if args.pages:
            return result
        with Terminal(avatop, env) as terminal:
            result["production"] = produce(args, folder, env, terminal, job)
            pages = ("jobs", "batch", "release", "recordings", "overview")
            result["shots_production"] = shoot(args.out / "production", env, pages)
    finally:
        avatop_says(env, "stop")
    return result


def avatop_says(env: Any, *words: str) -> Any:
    """A command's JSON, or the end of what it complained of."""
    line = (sys.executable, "-m", "console", *words, "--json")
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, timeout=90, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return f"exit {done.returncode}: {done.stderr.decode(errors='replace')[-600:]}"


def submitted(args: argparse.Namespace, folder: Path, env: Any, name: str, clips: int) -> Any:
    """Queue a pipelined job: its number, or what was said instead."""
    gpus, size = ("cpu", "128*128") if args.cpu else (args.gpus, "704*384")
    ranks = str(len(args.gpus.split(",")))
    flags = ["--mode", "tpp", "--variant", "balanced", "--gpus", gpus, "--num_gpus_dit", ranks]
    line = command(args.ckpt, folder, name, [*flags, *beside(args)], clips=clips, size=size)
    line[line.index("--audio") + 1] = str(long_voice(folder, VOICE_SECONDS))
    words = [word for word in line[line.index("run") + 1 :] if word != "--json"]
    body = avatop_says(env, "submit", *words)
    return body["job"] if isinstance(body, dict) else body


def beside(args: argparse.Namespace) -> list[str]:
    """Flags of every job here."""
    limit = [] if args.cpu else ["--host_memory", "300GiB"]
    return ["--retries", "1", *limit]


def trouble(
    args: argparse.Namespace, env: Any, terminal: Terminal, job: int | str
) -> dict[str, Any]:
    """The second rank of the job ended by SIGKILL: until it is told, and until the next clip."""
    out = args.out / "trouble"
    out.mkdir(exist_ok=True)
    rank = next((p for p in psutil.process_iter() if _is_rank(p, job, 1)), None)
    if rank is None:
        return {"failed": f"rank 1 of job {job} was not found"}
    rank.kill()
    began = time.monotonic()
    committed = _clips(env, job)
    told: dict[str, Any] = {"clips_committed": committed, "next_clip_seconds": None}
    told["alert_seconds"] = terminal.until(20, "SIGKILL")
    terminal.press("7")
    terminal.read(1.5)
    terminal.write(out / "incidents.txt")
    told["shots"] = shoot(out, env, TROUBLE)
    terminal.press("1")
    after = (f" {n}/{args.clips}" for n in range(committed + 1, args.clips + 1))
    left = RESUME_SECONDS - (time.monotonic() - began)
    if terminal.until(left, *after) is not None:
        told["next_clip_seconds"] = round(time.monotonic() - began, 1)
    terminal.write(out / "overview.txt")
    told["shots_after"] = shoot(out, env, ("jobs",))
    return told


def _is_rank(process: psutil.Process, job: int | str, number: int) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return words[:5] == ["avatop-rank", "--job", str(job), "--rank", str(number)]


def _clips(env: Any, job: int | str) -> int:
    """How many clips of a job are committed."""
    rows = avatop_says(env, "jobs")
    return next((row["clip"] for row in rows["jobs"] if row["id"] == job), 0)


def produce(
    args: argparse.Namespace, folder: Path, env: Any, terminal: Terminal, job: Any
) -> dict[str, Any]:
    """Two releases and a rollout; the job goes, a batch comes and has made its first clip."""
    gpus, size = ("cpu", "128*128") if args.cpu else (args.gpus, "704*384")
    (args.out / "production").mkdir(exist_ok=True)
    model = ("--ckpt_dir", str(args.ckpt))
    told: dict[str, Any] = {}
    for words in (
        ("release", "add", STABLE, *model),
        ("release", "promote", STABLE),
        ("release", "add", CANDIDATE, *model, "--sample_shift", "2.5"),
        ("release", "start", CANDIDATE, "--force", "--by-hand"),
        ("cancel", str(job)),
    ):
        said = avatop_says(env, *words)
        told[" ".join(words[:3])] = said if isinstance(said, str) else True
    for _ in range(2):  # one for each version: their jobs alternate
        asked = (
            "--mode",
            "single",
            "--gpus",
            gpus.split(",")[0],
            "--size",
            size,
            "--num_clip",
            "2",
        )
        told["job of a release"] = avatop_says(
            *(env, "submit", *model, *asked, *beside(args), "--image", str(first("portraits"))),
            *("--audio", str(long_voice(folder, 17.0)), "--prompt", "a person speaks"),
        )
    pairs(folder, ITEMS)
    lines = ("--mode", "single") if args.cpu else ("--lines", str(len(gpus.split(","))))
    told["batch"] = avatop_says(
        *(env, "batch", "start", *(str(folder / n) for n in ("sounds", "faces", "made"))),
        *("--detach", *model, "--size", size, "--num_clip", "2", "--prompt", "a person speaks"),
        *(*lines, "--gpus", gpus, *beside(args)),
    )
    terminal.press("9")
    told["first_item_seconds"] = terminal.until(BATCH_SECONDS, f"1/{ITEMS}")
    for key in ("9", "0", "2"):
        terminal.press(key)
        terminal.read(1.5)
        terminal.write(args.out / "production" / f"{PAGES[key]}.txt")
    return told


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


def shoot(out: Path, env: Any, pages: Iterable[str], moving: Sequence[str] = ()) -> dict[str, Any]:
    """Every page of the running engine as SVG, by the command that the docs name.

    Args:
        moving: those that are looked at for ``LOOK_SECONDS`` before.
    """

    def one(what: tuple[str, str]) -> tuple[str, Any]:
        name, size = what
        page, keys = PRESSED.get(name, (name, ""))
        target = out / f"{name}-{size}.svg"
        line = [sys.executable, "-m", "console", "shot", page, "--size", size, "-o", str(target)]
        line += ["--press", keys] if keys else []
        line += ["--wait", str(LOOK_SECONDS)] if name in moving else []
        done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
        told = True if done.returncode == 0 else done.stderr.decode(errors="replace")[-300:]
        return target.name, told

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(one, [(page, size) for page in pages for size in SIZES]))


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

    def until(self, seconds: float, *texts: str) -> float | None:
        """Seconds until one of ``texts`` stands on the screen; None if none ever did."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            self.read(0.05)
            if any(text in row for row in self._screen.display for text in texts):
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
    raise SystemExit(leaving_nothing(main))

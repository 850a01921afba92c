"""A rollback's seconds on GPUs: from the command to the first job of stable, warm and cold.

Run on a host with two GPUs or more, from the repository's root::

    python -m benchmarks.gpu_rollback --ckpt CKPT --json gpu-rollback.json

Two releases of one model, the second with the LoRA of the checkpoint's folder (``--plain``: with
other parameters alone). Stable makes a video on GPU 0 and its ranks stay warm; the candidate's
first job works on GPU 1 when ``avatop release rollback --running requeue`` takes it back. Told are
the seconds from that command until a new job on GPU 0 is claimed by stable and has its first block
(warm ranks), and the same of the candidate's job, done anew under stable on GPU 1 (which has to
load). ``--cpu`` rehearses it, with one device for both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import ROOT, SAMPLE, environment, first, host, long_voice
from console.version import version
from engine.checkpoint.layout import LORA_FILE
from engine.jobs.paths import Places
from engine.messages import END_STATES, BlockDone, Event, JobChanged, JobRow, LogLine
from engine.remote.spawn import attach_or_spawn

#: One live stage, so that the first job of the rollout is the candidate's.
STAGES: Final = """
[[stage]]
name = "50 %"
share = 0.5
jobs = 1000
[[stage]]
name = "100 %"
share = 1.0
"""
STABLE: Final = "1.0"
CANDIDATE: Final = "1.1"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", type=Path, default=SAMPLE / "ckpt", help="14B-shaped weights")
    parser.add_argument("--lora", type=Path, help="LoRA file (default: the checkpoint's own)")
    parser.add_argument("--plain", action="store_true", help="no LoRA: other parameters alone")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--clips", type=int, default=2, help="of stable's jobs")
    parser.add_argument("--size", default="704*384")
    parser.add_argument("--seconds", type=float, default=100, help="wait no longer, all in all")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal on CPU ranks")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch, ignore_cleanup_errors=True) as name:
        drill = Drill(args, Path(name))
        try:
            drill.play()
        except (Failed, TimeoutError) as error:
            drill.result["failed"] = str(error)
        finally:
            drill.close()
        args.json.write_text(json.dumps(drill.result, indent=1) + "\n")
    print(json.dumps(drill.result, indent=1))
    return 1 if "failed" in drill.result else 0


class Failed(RuntimeError):  # noqa: N818 - says what happened
    """A command did not do its work."""


class Drill:
    """The releases, the jobs, and what is heard of them."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.began = time.monotonic()
        settings = folder / "releases.toml"
        settings.write_text(STAGES)
        self.env = environment(folder, "rollback", AVATOP_RELEASES_FILE=str(settings))
        os.environ.update(self.env)  # also for the engine that is started below
        self.result: dict[str, Any] = {
            "command": " ".join(sys.orig_argv[1:]), "host": host(), "steps": {},
        }  # fmt: skip
        self.heard = Heard()
        # Attached to the end: the engine, and so its warm ranks, stay between the commands.
        self.client = attach_or_spawn(Places.of(), version(), kind="verb")
        self.client.subscribe(self.heard.take)

    def close(self) -> None:
        """End what still runs; the engine leaves after it."""
        for job, row in list(self.heard.rows.items()):
            if row.state not in END_STATES:
                subprocess.run(
                    [sys.executable, "-m", "console", "cancel", str(job)],
                    cwd=ROOT, env=self.env, capture_output=True, timeout=30, check=False,
                )  # fmt: skip
        self.client.close()
        self.result["seconds"] = round(time.monotonic() - self.began, 1)

    def play(self) -> None:
        """From two releases to the way back."""
        model = ("--ckpt_dir", str(self.args.ckpt))
        self.avatop("release", "add", STABLE, *model)
        self.avatop("release", "promote", STABLE)
        lora = self.args.lora or self.args.ckpt / LORA_FILE
        other: tuple[str, ...] = ("--sample_shift", "2.5")
        if lora.exists() and not self.args.plain:
            other = ("--load_lora", "--lora_path_dmd", str(lora))
        self.result["candidate"] = list(other)
        self.avatop("release", "add", CANDIDATE, *model, *other)
        before = self.submit(0, self.args.clips)
        self.avatop("release", "start", CANDIDATE, "--force", "--by-hand")
        taken = self.submit(1, 6)
        self.wait(lambda: self.heard.ended(before), "stable's first job")
        self.wait(lambda: taken in self.heard.block, "the candidate's first block")
        self.result["before"] = {
            "stable": self.told(before, None),
            "candidate": self.told(taken, None),
        }
        self.roll_back(before, taken)

    def roll_back(self, before: int, taken: int) -> None:
        """The command, timed; then what stable's first jobs after it took."""
        began = time.time()
        reply = self.avatop("release", "rollback", "--running", "requeue", "--why", "a proof")
        self.result["rollback"] = {
            "command_seconds": round(time.time() - began, 3),
            "pointer_seconds": reply["pointer_seconds"],
            "engine_seconds": reply["seconds"],
        }
        new = self.submit(0, self.args.clips)
        self.wait(lambda: self.heard.ended(new), "the first new job")
        self.result["new_job"] = self.told(new, began)
        anew = next((job for job in self.heard.rows if job not in (before, taken, new)), None)
        if anew is None:
            return
        try:
            self.wait(lambda: anew in self.heard.block, "the job done anew")
        except TimeoutError as late:
            self.result["steps"]["done anew"] = str(late)
        self.result["done_anew"] = self.told(anew, began)

    def told(self, job: int, since: float | None) -> dict[str, Any]:
        """A job's version, and seconds until it was claimed and had its first block."""
        row = self.heard.rows[job]
        start = row.created if since is None else since
        claimed, block = self.heard.claimed.get(job), self.heard.block.get(job)
        return {
            "job": job, "version": row.version, "state": row.state, "error": row.error,
            "claimed_seconds": None if claimed is None else round(claimed - start, 3),
            "first_block_seconds": None if block is None else round(block - start, 3),
            "claim_to_block_seconds": None
            if claimed is None or block is None
            else round(block - claimed, 3),
            "warm": job in self.heard.warm,
            "peak_bytes": row.peak_bytes,
        }  # fmt: skip

    # -- inside --------------------------------------------------------------------------------

    def submit(self, gpu: int, clips: int) -> int:
        """Queue a job on one GPU; its number."""
        size = "128*128" if self.args.cpu else self.args.size
        where = "cpu" if self.args.cpu else str(gpu)
        body = self.avatop(
            *("submit", "--ckpt_dir", str(self.args.ckpt), "--mode", "single", "--gpus", where),
            *("--image", str(first("portraits")), "--audio", str(long_voice(self.folder, 17.0))),
            *("--prompt", "a person speaks to the camera, soft light", "--base_seed", "7"),
            *("--size", size, "--num_clip", str(clips), "--retries", "0", "--mirror", "off"),
            *(() if self.args.cpu else ("--host_memory", "300GiB")),
        )
        return int(body["job"])

    def avatop(self, *words: str) -> dict[str, Any]:
        """A command's JSON; its seconds are kept."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "console", *words, "--json"],
            cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        took = round(time.monotonic() - began, 2)
        name = " ".join(words[:3] if words[0] == "release" else words[:1])
        self.result["steps"].setdefault(name, []).append(took)
        print(f"{time.monotonic() - self.began:5.0f} s  {name}: {took} s", flush=True)
        if done.returncode:
            raise Failed(f"{name}: exit {done.returncode}: {done.stderr[-800:]}")
        body: dict[str, Any] = json.loads(done.stdout)
        return body

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        with self.heard.changed:
            left = self.args.seconds - (time.monotonic() - self.began)
            if not self.heard.changed.wait_for(holds, max(0.0, left)):
                raise TimeoutError(f"{what} was not there after {self.args.seconds:.0f} s in all")


class Heard:
    """Jobs as the engine tells of them, with the time of what matters. Any thread."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.rows: dict[int, JobRow] = {}
        self.claimed: dict[int, float] = {}
        self.block: dict[int, float] = {}
        self.warm: set[int] = set()  # jobs that began on ranks that waited

    def take(self, event: Event) -> None:
        with self.changed:
            if isinstance(event, JobChanged):
                row = self.rows[event.job.id] = event.job
                if row.version is not None and row.state != "queued":
                    self.claimed.setdefault(row.id, time.time())
            elif isinstance(event, LogLine) and event.job and "ranks are warm" in event.text:
                self.warm.add(event.job)
            elif isinstance(event, BlockDone):
                self.block.setdefault(event.job, time.time())
            self.changed.notify_all()

    def ended(self, job: int) -> bool:
        """Whether it is done. Raises ``Failed`` where it ended otherwise."""
        row = self.rows.get(job)
        if row is not None and row.state in END_STATES and row.state != "done":
            raise Failed(f"job {job} is {row.state}: {row.error}")
        return row is not None and row.state == "done"


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

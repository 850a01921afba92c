"""Proof on GPUs that a killed rank's job goes on to the same bytes; recordings of real servers.

Run on a host with four GPUs (two, for the first part alone), from the repository's root::

    python -m benchmarks.gpu_night --ckpt CKPT --out recordings --json gpu-night.json

First a two-GPU tpp job, undisturbed and with rank 1 killed after its first committed clip: when
NVML sees the memory released, how long until the next block, whether the latents are the same. Then
three recordings, cut by ``avatop export`` from the runs' own state folders: a normal 4-GPU tpp job,
an unshard that runs out of memory under a cap (fsdp, the reference's wrapping, no retries), and the
killed one. Each step is bounded, and one that fails leaves the others'. ``--cpu`` rehearses it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import ROOT, SAMPLE, environment, host, run, used

#: The most that one recording may weigh.
MIB: Final = 1 << 20
#: Bytes by which a device counts as released: above what it held before the job.
SETTLED: Final = 256 * MIB
_POLL: Final = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", type=Path, default=SAMPLE / "ckpt", help="14B-shaped weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for the recordings")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--size", default="704*384")
    parser.add_argument("--first", type=int, default=0, help="first GPU of the two-GPU runs")
    parser.add_argument("--only", help="names of steps, separated by commas")
    parser.add_argument("--cap", type=int, help="bytes of the OOM's cap (default: of its plan)")
    parser.add_argument("--seconds", type=float, default=140, help="start nothing after these")
    parser.add_argument("--step", type=float, default=70, help="seconds that one run may take")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal on CPU ranks")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        night = Night(args, Path(name))
        for step in (night.undisturbed, night.killed, night.normal, night.oom):
            if not args.only or step.__name__ in args.only.split(","):
                night.play(step)
        result = night.result
    print(json.dumps({key: row for key, row in result.items() if key != "runs"}, indent=1))
    return 0 if result.get("killed", {}).get("same_latents") else 1


class Night:
    """The steps, and what they came to."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.began = time.monotonic()
        self.result: dict[str, Any] = {
            "command": " ".join(sys.orig_argv[1:]),
            "host": host(),
            "runs": {},
            "recordings": {},
        }

    def play(self, step: Callable[[], dict[str, Any]]) -> None:
        """One step within the time that is left; the result is on disk after each."""
        name = step.__name__
        if time.monotonic() - self.began > self.args.seconds:
            self.result[name] = {"failed": "no time was left"}
        else:
            self.result[name] = step()
        self.result["seconds"] = round(time.monotonic() - self.began, 1)
        self.args.json.write_text(json.dumps(self.result, indent=1) + "\n")
        brief = json.dumps(self.result[name])[:400]
        print(f"{self.result['seconds']:5.0f} s  {name}: {brief}", flush=True)

    # -- the steps -----------------------------------------------------------------------------

    def undisturbed(self) -> dict[str, Any]:
        """Two GPUs, nothing happens."""
        return self._short(self._run("undisturbed", *self._tpp(2)))

    def killed(self) -> dict[str, Any]:
        """The same, and rank 1 is killed once the first clip is committed."""
        second = self.args.first + 1
        with Killer(self.folder / "state-killed", self.args.step, second) as killer:
            row = self._run("killed", *self._tpp(2))
        events = self._events("killed", "PlanChanged")
        gaps = [e["seconds"] for e in events if e.get("reason") == "resume" and e.get("seconds")]
        before = self.result["undisturbed"].get("latents_sha256")
        self._record("killed", "sigkilled-rank")
        return self._short(row) | {
            "same_latents": before is not None and row.get("latents_sha256") == before,
            "rank_killed": killer.pid is not None,
            "memory_released_seconds": killer.released,
            "resume_seconds": gaps[0] if gaps else None,
        }

    def normal(self) -> dict[str, Any]:
        """Four GPUs, nothing happens."""
        row = self._run("normal", *self._tpp(4))
        self._record("normal", "tpp-4-gpus")
        return self._short(row)

    def oom(self) -> dict[str, Any]:
        """The root unit's unshard does not fit under the cap, and nobody tries again."""
        flags = ("--mode", "fsdp", "--num_gpus_dit", self._ranks(4), *self._gpus(4))
        flags = (*flags, "--fsdp-wrap", "reference", "--retries", "0")
        cap = self.args.cap or self._cap(flags)
        if cap is None:
            return {"failed": "no plan to take a cap from"}
        row = self._run("oom", *flags, AVATOP_DRILL_CAP=str(cap))
        self._record("oom", "unshard-oom")
        told = str(row.get("error") or "")
        return {"cap": cap, "ended_gracefully": "oom" in told, "error": told or row.get("failed")}

    # -- inside --------------------------------------------------------------------------------

    def _run(self, name: str, *flags: str, **extra: str) -> dict[str, Any]:
        row = run(
            self.args.ckpt, self.folder, name, *flags,
            clips=self.args.clips, size=self.args.size, timeout=self.args.step, **extra,
        )  # fmt: skip
        self.result["runs"][name] = row
        return row

    def _ranks(self, count: int) -> str:
        return str(min(count, 2) if self.args.cpu else count)

    def _gpus(self, count: int) -> tuple[str, ...]:
        first = self.args.first if count == 2 else 0
        chosen = ",".join(str(first + n) for n in range(count))
        return ("--gpus", "cpu" if self.args.cpu else chosen)

    def _tpp(self, count: int) -> tuple[str, ...]:
        return ("--mode", "tpp", "--num_gpus_dit", self._ranks(count), *self._gpus(count))

    def _cap(self, flags: tuple[str, ...]) -> int | None:
        """Midway between what the plan keeps and what it needs at the root's unshard."""
        line = [sys.executable, "-m", "console", "plan", "--json", "--ckpt_dir"]
        line += [str(self.args.ckpt), "--size", self.args.size, *flags]
        told = self._avatop("plan", line)
        if told is None:
            return None
        owners = [d["by_owner"] for d in told["devices"]]
        keeps = [sum(o.get(n, 0) for n in ("weights", "kv", "conditioning")) for o in owners]
        fullest = max(range(len(owners)), key=lambda n: keeps[n] + owners[n].get("gathered", 0))
        return int(keeps[fullest] + owners[fullest].get("gathered", 0) / 2)

    def _events(self, name: str, kind: str) -> list[dict[str, Any]]:
        """What the flight recorder kept of a run."""
        from engine.telemetry.recording import RecordingError, open_recording

        try:
            recording = open_recording(self.folder / f"state-{name}" / "recordings")
            stamped = [s.event for s in recording.events()]
        except (OSError, RecordingError):
            return []
        return [dataclasses.asdict(e) for e in stamped if type(e).__name__ == kind]

    def _record(self, name: str, title: str) -> None:
        target = self.args.out.absolute() / f"{title}.zip"
        target.unlink(missing_ok=True)
        line = [sys.executable, "-m", "console", "export", "--json", "-o", str(target)]
        told = self._avatop(name, line)
        size = target.stat().st_size if target.exists() else None
        self.result["recordings"][title] = {
            "bytes": size,
            "small_enough": size is not None and size <= MIB,
            "events": None if told is None else told["events"],
        }

    def _avatop(self, name: str, line: list[str]) -> dict[str, Any] | None:
        try:
            done = subprocess.run(
                line, cwd=ROOT, env=environment(self.folder, name), capture_output=True,
                timeout=40, check=False,
            )  # fmt: skip
            body: dict[str, Any] = json.loads(done.stdout)
        except (ValueError, subprocess.TimeoutExpired) as error:
            self.result["runs"][f"{name}: {line[3]}"] = {"failed": str(error)[:300]}
            return None
        return body

    @staticmethod
    def _short(row: Mapping[str, Any]) -> dict[str, Any]:
        kept = ("failed", "error", "stderr", "latents_sha256", "wall_seconds", "fps_steady")
        return {key: row[key] for key in kept if key in row}


class Killer:
    """Kills rank 1 of the one job of a state folder, and watches its device's memory go."""

    def __init__(self, state: Path, seconds: float, device: int) -> None:
        self._device = device
        self.pid: int | None = None
        self.released: float | None = None
        self._first = state / "jobs" / "000001" / "segments" / "clip_0000.mp4"
        self._state, self._seconds = state, seconds
        self._before = used()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = 0.0
        self._thread.join()

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._first.exists():
            if time.monotonic() - began > self._seconds:
                return
            time.sleep(_POLL)
        rank = self._rank()
        if rank is None:
            return
        rank.kill()
        killed = time.monotonic()
        self.pid = rank.pid
        while self._device < len(self._before) and time.monotonic() - killed < min(
            30.0, self._seconds
        ):
            now = used()
            if now[self._device] <= self._before[self._device] + SETTLED:
                self.released = round(time.monotonic() - killed, 3)
                return
            time.sleep(_POLL)

    def _rank(self) -> psutil.Process | None:
        home = os.fsencode(f"AVATOP_ENGINE_HOME={self._state}")
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or ())
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                continue
            if "--rank 1 " in title and home in environ.split(b"\0"):
                return process
        return None


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

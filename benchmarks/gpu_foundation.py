"""Proof on GPUs that the first modes hold: parity, equal latents, clean deaths, fast synthesis.

Run on a host with two GPUs, from the repository's root::

    python -m benchmarks.gpu_foundation --json benchmarks/results/gpu-foundation.json

Each part is a child process, so one that fails leaves the others' figures standing; what failed is
in the result. ``--parts`` chooses; ``synth`` writes 32.6 GB under ``--scratch``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import ROOT, SAMPLE, first, host, used

PARTS = ("parity", "modes", "console_kill", "rank_kill", "synth")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    measures: dict[str, Callable[[Path], dict[str, Any]]] = {
        "parity": parity,
        "modes": modes,
        "console_kill": console_kill,
        "rank_kill": rank_kill,
        "synth": synth,
    }
    result: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "host": host()}
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        for part in args.parts.split(","):
            began = time.monotonic()
            try:
                result[part] = measures[part](Path(folder))
            except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                result[part] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
            result[part]["wall_seconds"] = round(time.monotonic() - began, 2)
            print(part, json.dumps(result[part])[:1500], flush=True)
            if args.json:  # after each part: what was measured survives a later failure
                args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def parity(_: Path) -> dict[str, Any]:
    """The parity suite on CUDA; every tolerance as on the CPU."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/parity", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"AVATOP_TEST_DEVICE": "cuda"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    tail = done.stdout.strip().splitlines()[-25:]
    return {"exit": done.returncode, "summary": _summary(done.stdout), "tail": tail}


def _summary(text: str) -> dict[str, int]:
    dots = sum(len(m) for m in re.findall(r"^([.FEsx]+) *\[", text, re.M))
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error|skipped)", text)}
    return {"tests": dots, **counts}


def _run(folder: Path, *flags: str) -> dict[str, Any]:
    done = subprocess.run(
        _command(folder, *flags), cwd=ROOT, env=_env(folder), capture_output=True, timeout=280
    )
    if done.returncode:
        raise ValueError(f"{flags}: exit {done.returncode}: {done.stderr.decode()[-1500:]}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def _command(folder: Path, *flags: str, clips: int = 2, size: str = "256*256") -> list[str]:
    return [
        *(sys.executable, "-m", "console", "run", "--json"),
        *("--ckpt_dir", str(SAMPLE / "ckpt"), "--image", str(first("portraits"))),
        *(
            "--audio",
            str(first("speech")),
            "--prompt",
            "a person speaks to the camera, soft light",
        ),
        *("--size", size, "--num_clip", str(clips), "--base_seed", "7"),
        *("--output", str(folder / "out.mp4"), *flags),
    ]


def _env(folder: Path) -> dict[str, str]:
    return os.environ | {"AVATOP_STATE_DIR": str(folder / "state")}


def modes(folder: Path) -> dict[str, Any]:
    """`single` against `fsdp` on two GPUs, bf16 and fp32: are the latents the same bits?"""
    rows: dict[str, Any] = {}
    for dtype in ("bf16", "fp32"):
        for name, flags in {
            "single": ("--mode", "single", "--gpus", "0"),
            "fsdp2": ("--mode", "fsdp", "--num_gpus_dit", "2"),
        }.items():
            outcome = _run(folder, *flags, "--dtype", dtype)
            rows[f"{name} {dtype}"] = {
                key: outcome.get(key)
                for key in (
                    *("latents_sha256", "frames", "seconds", "fps_video", "first_frame_seconds"),
                    *("unshard", "ranks", "av_offset_seconds"),
                )
            }
    equal = {
        dtype: rows[f"single {dtype}"]["latents_sha256"] == rows[f"fsdp2 {dtype}"]["latents_sha256"]
        for dtype in ("bf16", "fp32")
    }
    return {"bitwise_equal": equal, "runs": rows}


def _ranks_of(parent: int) -> list[int]:
    import psutil

    return [
        p.pid
        for p in psutil.Process(parent).children(recursive=True)
        if "avatop-rank" in " ".join(p.cmdline())
    ]


def _long_job(folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A job that would run for minutes, and the pids of its ranks once they hold GPU memory."""
    before = used()
    job = subprocess.Popen(
        _command(
            folder,
            *("--mode", "fsdp", "--num_gpus_dit", "2"),
            *("--sample_steps", "40", "--infer_frames", "12"),
            clips=50,
            size="512*512",
        ),
        cwd=ROOT,
        env=_env(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and job.poll() is None:
        ranks = _ranks_of(job.pid)
        grown = [now - then for now, then in zip(used(), before, strict=True)]
        if len(ranks) == 2 and min(grown) > 400 * 2**20:
            return job, ranks
        time.sleep(0.02)
    job.kill()
    raise ValueError("the job never held memory on both GPUs")


def _watch(ranks: list[int], before: list[int], bound: float = 20.0) -> dict[str, Any]:
    """Seconds until the ranks are gone, and until NVML shows their memory released."""
    import psutil

    began = time.monotonic()
    gone = released = None
    while time.monotonic() - began < bound and (gone is None or released is None):
        alive = [p for p in ranks if psutil.pid_exists(p)]
        now = time.monotonic() - began
        if gone is None and not alive:
            gone = now
        if released is None and all(
            u - b < 64 * 2**20 for u, b in zip(used(), before, strict=True)
        ):
            released = now
        time.sleep(0.005)
    return {"ranks": len(ranks), "gone_seconds": gone, "memory_released_seconds": released}


def console_kill(folder: Path) -> dict[str, Any]:
    """SIGKILL of the process that hosts the engine: when is the GPU free again?"""
    before = used()
    job, ranks = _long_job(folder)
    held = used()
    os.kill(job.pid, signal.SIGKILL)
    watched = _watch(ranks, before)
    job.communicate()
    return {"held_bytes": held, **watched}


def rank_kill(folder: Path) -> dict[str, Any]:
    """SIGKILL of one rank: the group ends, the job says interrupted."""
    before = used()
    job, ranks = _long_job(folder)
    began = time.monotonic()
    os.kill(ranks[0], signal.SIGKILL)
    watched = _watch(ranks, before)
    out, err = job.communicate(timeout=30)
    said = json.loads(out) if out.strip() else {"stderr": err.decode()[-600:]}
    return {
        **watched,
        "exit": job.returncode,
        "answered_seconds": time.monotonic() - began,
        "state": said.get("state"),
        "error": said.get("error"),
    }


def synth(folder: Path) -> dict[str, Any]:
    """The 14B DiT with random weights, 32.6 GB."""
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "console", "ckpt", "synth", "--shape", "14b", "--seed", "0"),
            *("--components", "dit", "--out", str(folder / "14b"), "--json"),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise ValueError(done.stderr.decode()[-1500:])
    began = time.monotonic()
    seen = subprocess.run(
        [*(sys.executable, "-m", "console", "ckpt", "inspect", str(folder / "14b"), "--json")],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return {
        "seconds": seconds,
        **json.loads(done.stdout),
        "inspect_exit": seen.returncode,
        "inspect_seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

"""A night's batch in small on four GPUs: independent lines against one pipeline, by `avatop batch`.

Run on a host with four GPUs, from the repository's root::

    python -m benchmarks.gpu_batch --ckpt CKPT --json gpu-batch.json

The same pairs go through ``--lines 4`` (a job alone on each GPU) and through one balanced tpp
pipeline over all four; then the planner, which has measured both by now, is asked what it would
choose, and that batch is stopped before it works. ``fps`` is over a whole batch, loading included;
``fps_steady`` is what its lines make together once they generate. ``--cpu`` rehearses it.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any, Final

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import ROOT, SAMPLE, Peaks, environment, host, long_voice
from engine.jobs.paths import Places
from engine.remote.client import attach

HOST: Final = ("--host_memory", "300GiB", "--mirror", "off")
FOUR: Final = ("--gpus", "0,1,2,3")
PIPELINE: Final = ("--mode", "tpp", "--variant", "balanced", "--num_gpus_dit", "4")
#: name → flags of `avatop batch`.
BATCHES: Final = {
    "lines": ("--lines", "4", *FOUR, *HOST),
    "pipeline": ("--lines", "pipeline", *PIPELINE, *FOUR, *HOST),
}
CPU: Final = {
    "lines": ("--mode", "single", "--gpus", "cpu"),
    "pipeline": ("--mode", "tpp", "--variant", "balanced", "--num_gpus_dit", "2", "--gpus", "cpu"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt", type=Path, default=SAMPLE / "ckpt", help="14B-shaped weights")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--clips", type=int, default=3, help="of every item, 48 frames each")
    parser.add_argument("--size", default="704*384")
    parser.add_argument("--limit", type=float, default=110, help="seconds one batch may take")
    parser.add_argument("--only", choices=tuple(BATCHES), help="this batch alone")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal on CPU ranks")
    args = parser.parse_args()
    began = time.monotonic()
    result: dict[str, Any] = {
        "command": " ".join(sys.orig_argv[1:]),
        "host": host(),
        "asked": {"items": args.items, "clips": args.clips, "size": args.size},
        "batches": {},
    }
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folder = Path(name)
        pairs(folder, args.items)
        for title in BATCHES:
            if args.only in (None, title):
                row = result["batches"][title] = measure(args, folder, title)
                args.json.write_text(json.dumps(result, indent=1) + "\n")
                print(f"{time.monotonic() - began:5.0f} s  {title}: {brief(row)}", flush=True)
        result["chosen"] = chosen(args, folder)
        print(f"{time.monotonic() - began:5.0f} s  chosen: {json.dumps(result['chosen'])}")
    result["seconds"] = round(time.monotonic() - began, 1)
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    done = [row.get("totals", {}).get("done") == args.items for row in result["batches"].values()]
    return 0 if done and all(done) else 1


def pairs(folder: Path, count: int) -> None:
    """Sounds and portraits by name. Each sound begins elsewhere: none is heard from a cache."""
    faces = sorted(p for p in (SAMPLE / "portraits").iterdir() if p.suffix == ".png")
    with wave.open(str(long_voice(folder, 17.0 + count))) as source:
        shape, data = source.getparams(), source.readframes(source.getnframes())
    second = shape.framerate * shape.nchannels * shape.sampwidth
    for kind in ("sounds", "faces"):
        (folder / kind).mkdir()
    for n in range(count):
        with wave.open(str(folder / "sounds" / f"item{n}.wav"), "wb") as target:
            target.setparams(shape)
            target.writeframes(data[n * second : (n + 17) * second])
        (folder / "faces" / f"item{n}.png").symlink_to(faces[n % len(faces)])


def command(args: argparse.Namespace, folder: Path, out: str, *flags: str) -> list[str]:
    """`avatop batch` of all pairs into one folder."""
    size = "128*128" if args.cpu else args.size
    return [
        *(sys.executable, "-m", "console", "batch", "start"),
        *map(str, (folder / "sounds", folder / "faces", folder / out)),
        *("--json", "--ckpt_dir", str(args.ckpt), "--size", size, "--num_clip", str(args.clips)),
        *("--prompt", "a person speaks to the camera, soft light", "--base_seed", "7"),
        *("--retries", "0"),
        *flags,
    ]


def measure(args: argparse.Namespace, folder: Path, title: str) -> dict[str, Any]:
    """One batch to its end; what failed is told, not raised."""
    flags = (CPU if args.cpu else BATCHES)[title]
    line = command(args, folder, title, *flags)
    began = time.monotonic()
    with Peaks() as peaks:
        process = subprocess.Popen(
            line, cwd=ROOT, env=environment(folder, "batch"), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, said = process.communicate(timeout=args.limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it stops its jobs and tells what was made
            out, said = process.communicate(timeout=30)
    try:
        report = json.loads(out)
    except ValueError:
        return {"failed": f"exit {process.returncode}", "stderr": said[-2000:]}
    return told(report, list(flags)) | {
        "wall_seconds": round(time.monotonic() - began, 1),
        "nvml_peak_bytes": peaks.bytes,
        "stderr": said[-1500:],
    }


def told(report: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """What of a batch's report a table needs."""
    items = report["items"]
    made = [item for item in items if item["state"] == "done"]
    width = len((report["lines"] or {}).get("lines", ()))
    speeds = [item["fps"] for item in made if item["fps"]]
    steady = width * statistics.median(speeds) if speeds else None
    return {
        "flags": flags,
        "state": report["state"],
        "lines": report["lines"],
        "seconds": report["seconds"],
        "totals": report["totals"],
        "fps": report["totals"]["fps"],
        "fps_steady": None if steady is None else round(steady, 2),
        "items": [
            {key: item[key] for key in ("name", "state", "seconds", "fps", "peak_bytes", "error")}
            | {"devices": [attempt["devices"] for attempt in item["tries"]]}
            for item in items
        ],
    }


def chosen(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What ``--lines auto`` lays the same batch on, now that both were measured here."""
    flags = ("--gpus", "cpu") if args.cpu else (*FOUR, *HOST)
    env = environment(folder, "batch")
    line = command(args, folder, "chosen", *flags, "--detach")
    try:
        begun = subprocess.run(
            line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        body: dict[str, Any] = json.loads(begun.stdout)
        stop = [sys.executable, "-m", "console", "batch", "stop", str(body["batch"])]
        subprocess.run(stop, cwd=ROOT, env=env, capture_output=True, timeout=60, check=False)
    except (ValueError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)[:300]}
    ended(folder / "state-batch")
    return dict(body["lines"] or {})


def ended(state: Path) -> None:
    """Until the detached engine has left its state folder: it ends with its work."""
    places = Places(state, state)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (client := attach(places)) is not None:
        client.close()
        time.sleep(0.2)


def brief(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['failed']} {row['stderr'][-600:]}"
    per_item = [round(item["seconds"], 1) if item["seconds"] else None for item in row["items"]]
    peak = (row["totals"]["peak_bytes"] or 0) / 2**30
    return (
        f"{row['state']}, {row['seconds']:.1f} s, {row['fps']} fps over all, {row['fps_steady']} "
        f"steady, items {per_item} s, peak {peak:.1f} GiB, {row['lines']}"
    )


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

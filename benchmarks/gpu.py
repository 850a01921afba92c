"""What the proofs on GPUs share: the host told, a job run by the real command, NVML watched."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_data"
#: Seconds between two readings of NVML while a job runs.
NVML_SECONDS = 0.02
#: One voice for every run, whatever its clips: what is heard depends on the whole of it.
VOICE_SECONDS = 17.0


def host() -> dict[str, Any]:
    """What the figures were measured on."""
    from importlib.metadata import version

    import pynvml

    gpus, driver = [], None
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        gpus = [
            str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)))
            for i in range(pynvml.nvmlDeviceGetCount())
        ]
    return {
        "gpus": gpus,
        "driver": driver,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }


def used() -> list[int]:
    """Bytes in use on every GPU, by NVML; none on a host without."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    return [
        int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(i)).used)
        for i in range(pynvml.nvmlDeviceGetCount())
    ]


def held() -> dict[int, int]:
    """Process → bytes that it holds on all GPUs, by NVML; without those whose bytes it hides."""
    import pynvml

    found: dict[int, int] = {}
    with contextlib.suppress(pynvml.NVMLError):
        for i in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(i)
            for entry in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                found[entry.pid] = found.get(entry.pid, 0) + int(entry.usedGpuMemory or 0)
    return found


class Peaks:
    """The highest readings of NVML while the block runs, per GPU and per process, from a thread."""

    def __init__(self) -> None:
        self.bytes: list[int] = used()
        self.before = list(self.bytes)
        self.processes: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(NVML_SECONDS):
            self.bytes = [max(a, b) for a, b in zip(self.bytes, used(), strict=True)]
            for pid, now in held().items():
                self.processes[pid] = max(now, self.processes.get(pid, 0))


def first(kind: str) -> Path:
    """A portrait or a voice of the sample."""
    found = sorted((SAMPLE / kind).iterdir())
    return next(p for p in found if p.suffix in (".png", ".wav"))


def long_voice(folder: Path, seconds: float) -> Path:
    """The sample's voice, repeated until it is ``seconds`` long."""
    out = folder / f"voice-{seconds:.0f}.wav"
    if not out.exists():
        with wave.open(str(first("speech"))) as source:
            shape, data = source.getparams(), source.readframes(source.getnframes())
        size = int(seconds * shape.framerate) * shape.nchannels * shape.sampwidth
        with wave.open(str(out), "wb") as target:
            target.setparams(shape)
            target.writeframes((data * (size // len(data) + 1))[:size])
    return out


def program() -> str:
    """The module of ``avatop``: with a longer list of devices, where ranks share GPUs."""
    return "benchmarks.crowded" if "AVATOP_BENCH_CROWD" in os.environ else "console"


def command(
    ckpt: Path, folder: Path, name: str, flags: Sequence[str], *, clips: int, size: str
) -> list[str]:
    """`avatop run` of one job."""
    return [
        *(sys.executable, "-m", program(), "run", "--json", "--ckpt_dir", str(ckpt)),
        *("--image", str(first("portraits")), "--audio", str(long_voice(folder, VOICE_SECONDS))),
        *("--prompt", "a person speaks to the camera, soft light", "--base_seed", "7"),
        *("--size", size, "--num_clip", str(clips), "--output", str(folder / f"{name}.mp4")),
        *flags,
    ]


def environment(folder: Path, name: str, **extra: str) -> Mapping[str, str]:
    """A state folder of its own, so that no run learns from another before it starts."""
    return os.environ | {"AVATOP_STATE_DIR": str(folder / f"state-{name}")} | extra


def run(
    ckpt: Path,
    folder: Path,
    name: str,
    *flags: str,
    clips: int,
    size: str = "704*384",
    timeout: float = 200,
    **extra: str,
) -> dict[str, Any]:
    """Run a job and tell what matters of it, NVML's peaks beside; never raises for its failure."""
    began = time.monotonic()
    line = command(ckpt, folder, name, flags, clips=clips, size=size)
    with Peaks() as peaks:
        try:
            done = subprocess.run(
                line,
                cwd=ROOT,
                env=environment(folder, name, **extra),
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            tail = (late.stderr or b"").decode(errors="replace")[-1500:]
            return {"failed": f"no end after {timeout:.0f} s", "stderr": tail}
    wall = time.monotonic() - began
    kept = os.environ.get("AVATOP_BENCH_KEEP")
    if kept:  # what the recorder saw outlives the scratch folder
        state = Path(environment(folder, name)["AVATOP_STATE_DIR"])
        shutil.copytree(state / "recordings", Path(kept) / name, dirs_exist_ok=True)
    nvml = {
        "nvml_peak_bytes": peaks.bytes,
        "nvml_before_bytes": peaks.before,
        "nvml_process_peak_bytes": sorted(peaks.processes.values(), reverse=True),
    }
    try:
        outcome: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        outcome = {}
    if done.returncode:
        tail = done.stderr.decode(errors="replace")[-2500:]
        return {"failed": f"exit {done.returncode}", **nvml, "wall": wall, "stderr": tail} | {
            key: outcome.get(key) for key in ("state", "error")
        }
    state = Path(environment(folder, name)["AVATOP_STATE_DIR"])
    return {
        "flags": list(flags),
        "wall_seconds": round(wall, 1),
        **nvml,
        **told(outcome),
        "at_peak": at_peak(state / "recordings"),
        **unshards(state / "recordings"),
        "history": history(state / "placement-history.jsonl"),
    }


def at_peak(recordings: Path) -> dict[str, dict[str, int]]:
    """Rank → bytes by owner of the report with the highest total, as the recorder kept it."""
    from engine.messages import LedgerUpdated
    from engine.telemetry.recording import RecordingError, open_recording

    best: dict[int, LedgerUpdated] = {}
    try:
        for stamped in open_recording(recordings).events():
            event = stamped.event
            if isinstance(event, LedgerUpdated):
                known = best.get(event.rank)
                if known is None or event.peak > known.peak:
                    best[event.rank] = event
    except (RecordingError, OSError):
        return {}
    return {str(r): {"peak": e.peak, **e.peak_by_owner} for r, e in sorted(best.items())}


def history(path: Path) -> list[dict[str, Any]]:
    """What the planner said before the launch and what it learnt after (``benchmarks.calibration``
    reads it again)."""
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError):
        return []


def unshards(recordings: Path) -> dict[str, dict[str, Any]]:
    """The unit with most bytes and the one with the highest transient (allocator peak minus the
    level before) of all ranks' unshards, as the recorder kept them; nothing where none were."""
    from engine.messages import Unshards
    from engine.telemetry.recording import RecordingError, open_recording

    rows: list[dict[str, Any]] = []
    try:
        for stamped in open_recording(recordings).events():
            if isinstance(stamped.event, Unshards):
                rank = {"rank": stamped.event.rank}
                rows += [rank | dataclasses.asdict(record) for record in stamped.event.records]
    except (RecordingError, OSError):
        return {}
    if not rows:
        return {}
    return {
        "largest_unit": max(rows, key=lambda row: row["bytes"]),
        "largest_transient": max(rows, key=lambda row: row["transient_bytes"] or 0),
    }


def told(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a job's result that a table needs."""
    clips = [clip["fps"] for clip in outcome["clips"]]
    steady = sorted(clips[2:]) or sorted(clips[-1:])
    plan = outcome["plan"]
    return {
        "latents_sha256": outcome["latents_sha256"],
        "frames": outcome["frames"],
        "first_frame_seconds": outcome["first_frame_seconds"],
        "fps_by_clip": [round(fps, 2) for fps in clips],
        "fps_steady": round(steady[len(steady) // 2], 2),
        "unshard": outcome["unshard"],
        "ranks": [
            {
                "rank": rank["rank"],
                "peak_bytes": rank["peak_bytes"],
                "predicted_bytes": rank["predicted_bytes"],
                "error": round(rank["predicted_bytes"] / rank["peak_bytes"] - 1, 4)
                if rank["peak_bytes"]
                else None,
                "by_owner": rank["by_owner"],
            }
            for rank in outcome["ranks"]
        ],
        "plan": {
            key: plan.get(key)
            for key in ("mode", "variant", "dtype", "kv", "kv_dtype", "weights", "unshard", "host")
        },
    }

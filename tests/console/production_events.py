"""Make-believe batches and releases for the console's tests: shapes of real ones, figures that mean
nothing."""

from __future__ import annotations

from typing import Any

from engine.messages import (
    BatchChanged,
    BatchItem,
    Event,
    GateRow,
    JobChanged,
    ReleaseChanged,
)
from tests.console.fake_client import GIB, T0, job

NIGHT = "20261120-220000-ab12"


def item(number: int, state: str = "waiting", **changes: Any) -> BatchItem:
    """One pair; done and running ones have figures."""
    values: dict[str, Any] = {"key": f"{number:064x}", "name": f"clip-{number:03}", "state": state}
    if state == "done":
        values |= {"job": 100 + number, "attempts": 1, "seconds": 192.0 + number, "fps": 47.5,
                   "peak_bytes": 66 * GIB, "output": f"/data/out/clip-{number:03}.mp4"}  # fmt: skip
    if state in ("running", "verifying"):
        values |= {"job": 100 + number, "attempts": 1}
    return BatchItem(**{**values, **changes})


def batch(items: tuple[BatchItem, ...] = (), **changes: Any) -> BatchChanged:
    """A batch whose counts are those of its items."""
    counts: dict[str, int] = {}
    for one in items:
        counts[one.state] = counts.get(one.state, 0) + 1
    values: dict[str, Any] = {
        "batch": NIGHT, "name": "night", "state": "running", "total": len(items), "counts": counts,
        "lines": 4, "eta_seconds": 7215.0, "started": T0 - 4000, "items": items, "t": T0,
    }  # fmt: skip
    return BatchChanged(**{**values, **changes})


def a_night() -> list[Event]:
    """A running batch of 24 pairs with one failure, and one of the night before."""
    oom = "rank 2: CUDA out of memory: 2.10 GiB wanted, 0.74 GiB free of 141 GiB\nat block 7"
    items = (
        *(item(n, "done") for n in range(1, 12)),
        item(12, "failed", job=112, attempts=4, error=oom, seconds=88.0),
        item(13, "quarantined", job=113, attempts=1, error="two engines died under it"),
        *(item(n, "running", attempts=1 + (n == 15)) for n in (14, 15, 16)),
        item(17, "verifying"),
        *(item(n) for n in range(18, 24)),
        item(24, "alias"),
    )
    before = tuple(item(n, "done") for n in range(1, 9))
    rows = [JobChanged(job=job(100 + n, mode="single", ranks=1, clip=3 * n - 30, clips=25,
                               batch=NIGHT), t=T0) for n in (14, 15, 16)]  # fmt: skip
    return [
        batch(before, batch="20261119-220000-cd34", name="evening talks", state="done", lines=1,
              eta_seconds=None, report="/data/evening/report.json"),
        batch(items, note="prompt.txt has no pair"),
        *rows,
        JobChanged(job=job(112, "failed", error=oom, batch=NIGHT), t=T0),
    ]  # fmt: skip


def gate(name: str, verdict: str = "PASS", **changes: Any) -> GateRow:
    """A gate's row as a stage's end gives it."""
    values: dict[str, Any] = {
        "gate": name, "unit": "s", "baseline": 0.992, "candidate": 1.013, "deviation": 0.021,
        "low": 0.008, "high": 0.034, "allowed": 0.1, "n": 8, "verdict": verdict, "armed": True,
        "jobs": (31, 32, 33), "note": "",
    }  # fmt: skip
    return GateRow(**{**values, **changes})


GATES = (
    gate("time_per_clip"),
    gate("peak_memory", "FAIL", unit="GiB", baseline=64.7, candidate=69.9, deviation=0.081,
         low=0.079, high=0.083, allowed=0.03, note="the VAE's workspace is larger"),
    gate("communication: all_reduce 4194304", unit="ms", baseline=0.41, candidate=0.43,
         deviation=0.049, low=-0.11, high=0.22, allowed=0.5),
    gate("psnr", "INCONCLUSIVE", unit="dB", baseline=50.0, candidate=None, deviation=None,
         low=None, high=None, allowed=0.02, n=0, note="LoRA differs: observed only"),
    gate("ssim", "INCONCLUSIVE", unit="", baseline=1.0, candidate=0.964, deviation=-0.036,
         low=-0.05, high=-0.02, allowed=0.02, armed=False),
    gate("error_rate", unit="", baseline=0.0, candidate=0.0, deviation=None, low=None, high=0.17,
         allowed=0.2, n=16, note="no failure in 16 jobs still allows 17 %"),
)  # fmt: skip


def release(version: str, role: str, **changes: Any) -> ReleaseChanged:
    """One release as the engine tells it."""
    values: dict[str, Any] = {
        "release": version.replace(".", "") + "f" * 60, "version": version, "role": role,
        "state": "idle", "t": T0,
    }  # fmt: skip
    return ReleaseChanged(**{**values, **changes})


def a_rollout(state: str = "rolling") -> list[Event]:
    """1.1 on its way against the stable 1.0, and two of before."""
    stage = "25 %"
    return [
        release("0.8", "withdrawn", state="rolled_back", note="out of memory in job 9"),
        release("0.9", "retired"),
        release("1.0", "stable", share=1.0 if state == "paused" else 0.75, state="promoted"),
        release("1.1", "candidate", state=state, stage=stage, gates=GATES,
                share=0.0 if state == "paused" else 0.25,
                note="peak_memory fails" if state == "paused" else ""),
        *(JobChanged(job=job(40 + n, version="1.1", mode="single", ranks=1), t=T0)
          for n in range(2)),
        JobChanged(job=job(44, "queued", version="1.1"), t=T0),
    ]  # fmt: skip

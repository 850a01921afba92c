"""Every mode against ``single`` on CPU ranks, for several seeds: are the latents the same bytes?

``python -m benchmarks.modes_matrix [--json FILE] [--seeds N] [--only NAME]`` runs real groups of
ranks on the sample checkpoint. Keys and values in fp8 alter the latents, so those plans are held to
each other. Exit code 1 if any pair differs, or a video is constant or not finite.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.ending import leaving_nothing
from engine.placement.plan import HostStream, PeerGather, Plan
from tests.placement.harness import Case, Cut, Outcome, plan_for, plan_of, run

_LAYERS: Final = 8  # of the sample checkpoint
_WHOLE: Final = (0, _LAYERS)
#: Plans with keys and values in fp8 are compared with this one, all others with "single".
_COARSE: Final = "fp8 KV: single"


def _steps(*counts: int) -> list[Cut]:
    cuts: list[Cut] = []
    first = 0
    for rank, count in enumerate(counts):
        cuts.append((rank, (first, first + count), _WHOLE))
        first += count
    return cuts


def _ring(*ends: int) -> list[Cut]:
    return [(n, (0, 4), span) for n, span in enumerate(zip((0, *ends[:-1]), ends, strict=True))]


_BALANCED: Final[list[Cut]] = [
    (0, (0, 1), _WHOLE),
    (0, (1, 2), (0, 3)),
    (1, (1, 2), (3, 8)),
    (1, (2, 3), (0, 2)),
    (2, (2, 3), (2, 8)),
    (2, (3, 4), _WHOLE),
]

PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "single": lambda: plan_for("single"),
    "offload, 2 slots": lambda: plan_of(_steps(4), weights=HostStream(2), mode="offload"),
    "offload, half resident": lambda: plan_of(
        _steps(4), weights=HostStream(3, resident_layers=4), mode="offload"
    ),
    "offload, KV on the host": lambda: plan_of(
        _steps(4), weights=HostStream(2), mode="offload", kv="host"
    ),
    "offload, one lead": lambda: plan_of(
        _steps(4), weights=HostStream(2), mode="offload", lead="shared"
    ),
    "tpp, 1 stage": lambda: plan_of(_steps(4)),
    "tpp, 2 stages": lambda: plan_of(_steps(2, 2)),
    "tpp, 3 stages": lambda: plan_of(_steps(1, 2, 1)),
    "tpp, 4 stages": lambda: plan_of(_steps(1, 1, 1, 1)),
    "tpp, 4 stages, VAE apart": lambda: plan_of(_steps(1, 1, 1, 1), vae_rank=4),
    "tpp, 2 stages, VAE with the first": lambda: plan_of(_steps(2, 2), vae_rank=0),
    "tpp streamed, 2 stages": lambda: plan_of(_steps(2, 2), weights=HostStream(2)),
    "ring of 2": lambda: plan_of(_ring(4, 8)),
    "ring of 4, uneven, VAE apart": lambda: plan_of(_ring(1, 4, 6, 8), vae_rank=4),
    "ring of 2, one lead, one epoch": lambda: plan_of(_ring(3, 8), lead="single"),
    "ring of 2, KV on the host": lambda: plan_of(_ring(3, 8), kv="host"),
    "balanced on 3": lambda: plan_of(_BALANCED),
    "fsdp on 2": lambda: plan_for("fsdp", 2),
    "fsdp on 3": lambda: plan_for("fsdp", 3),
    "fsdp on 4": lambda: plan_for("fsdp", 4),
    "fsdp on 2, VAE apart": lambda: plan_for("fsdp", 2, vae=True),
    "fsdp on 2, the reference's wrapping": lambda: plan_of(
        _steps(2, 2), weights=PeerGather((0, 1), "reference"), mode="fsdp"
    ),
    _COARSE: lambda: plan_of(_steps(4), kv_dtype="fp8"),
    "fp8 KV: tpp, 2 stages": lambda: plan_of(_steps(2, 2), kv_dtype="fp8"),
    "fp8 KV: ring of 2": lambda: plan_of(_ring(4, 8), kv_dtype="fp8"),
    "fp8 KV: fsdp on 2": lambda: plan_of(
        _steps(2, 2), weights=PeerGather((0, 1)), mode="fsdp", kv_dtype="fp8"
    ),
    "fp8 KV: offload, KV on the host": lambda: plan_of(
        _steps(4), weights=HostStream(2), mode="offload", kv="host", kv_dtype="fp8"
    ),
}


def digest(outcome: Outcome) -> str:
    """SHA-256 of all final latents in order, little-endian float32."""
    found = hashlib.sha256()
    for block in sorted(outcome.latents):
        found.update(np.ascontiguousarray(outcome.latents[block], "<f4").tobytes())
    return found.hexdigest()


def measure(name: str, seed: int) -> dict[str, Any]:
    """One plan with one seed."""
    plan = PLANS[name]()
    began = time.perf_counter()
    outcomes = run(plan, Case(seed=seed), timeout=300)
    outcome = outcomes[plan.vae_rank]
    latents = np.stack([outcome.latents[block] for block in sorted(outcome.latents)])
    return {
        "plan": name,
        "seed": seed,
        "ranks": plan.world_size,
        "blocks": len(latents),
        "sha256": digest(outcome),
        "finite": bool(np.isfinite(latents).all()),
        "std": float(latents.std()),
        "seconds": round(time.perf_counter() - began, 2),
        "peak_by_owner": [one.peak_by_owner for one in outcomes],
    }


def matrix(names: list[str], seeds: int) -> list[dict[str, Any]]:
    """All plans with all seeds; ``equal`` says whether each gave its reference's latents."""
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        wanted: dict[str, str] = {}
        for name in names:
            row = measure(name, seed)
            group = _COARSE if name.startswith("fp8 KV") else "single"
            row["compared_with"] = group
            row["equal"] = row["sha256"] == wanted.setdefault(group, row["sha256"])
            row["ok"] = row["equal"] and row["finite"] and row["std"] > 0.1
            rows.append(row)
            print(
                f"seed {seed}  {'ok  ' if row['ok'] else 'FAIL'}  {row['seconds']:6.1f} s  {name}"
            )
    return rows


def main() -> int:
    """Run, print, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(PLANS), help="plans to compare")
    asked = parser.parse_args()
    chosen = [n for n in PLANS if not asked.only or n in asked.only or n in ("single", _COARSE)]
    rows = matrix(chosen, asked.seeds)
    failed = [row for row in rows if not row["ok"]]
    if asked.json is not None:
        import torch

        result = {
            "benchmark": "modes_matrix",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": f"python -m benchmarks.modes_matrix --seeds {asked.seeds}",
            "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
            "work": "sample checkpoint, 128*64, 4 steps, 2 clips of 2 blocks, fp32, CPU ranks",
            "seeds": asked.seeds,
            "plans": len(chosen),
            "all_equal": not failed,
            "rows": rows,
        }
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(rows) - len(failed)} of {len(rows)} as they must be")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

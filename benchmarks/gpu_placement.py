"""Proof on four GPUs that every mode runs the 14B shape: equal latents, memory, speed.

Run on a host with four GPUs, from the repository's root::

    python -m benchmarks.gpu_placement --json benchmarks/results/gpu-placement.json

It synthesises 14B-shaped weights under ``--scratch`` (46 GB) unless ``--ckpt`` names them.
Groups of ``GROUPS`` run one after the other, the runs of one group side by side on GPUs of their
own. On two GPUs ``AVATOP_BENCH_CROWD=2`` gives the four ranks of ring and streamed pipelines
(``benchmarks.crowded``). A run that fails leaves the others' figures standing; what failed is in
the result. ``--cpu`` walks through all of it on CPU ranks, as a rehearsal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import ROOT, host, run
from benchmarks.gpu_switch import switched

#: Seconds one run may take.
LIMIT_SECONDS = float(os.environ.get("AVATOP_BENCH_LIMIT", "75"))
#: The same of one that is switched on the way.
SWITCH_SECONDS = float(os.environ.get("AVATOP_BENCH_SWITCH_LIMIT", "120"))

CAP = ("--gpu_memory_cap", "22.15GiB")
HOST = ("--host_memory", "300GiB", "--mirror", "off", "--retries", "0")
FOUR = ("--num_gpus_dit", "4", "--gpus", "0,1,2,3", *HOST)

#: name → (flags, clips). A clip is four blocks.
RUNS: dict[str, tuple[tuple[str, ...], int]] = {
    "single": (("--mode", "single", "--gpus", "0", *HOST), 4),
    "single, mirrored": (("--mode", "single", "--gpus", "0", *HOST[:2], "--mirror", "on"), 8),
    "single, as long": (("--mode", "single", "--gpus", "0", *HOST), 8),
    "single fp8": (("--mode", "single", "--gpus", "1", "--fp8", *HOST), 4),
    "offload, all streamed": (
        ("--mode", "offload", "--gpus", "2", "--resident_layers", "0", *HOST),
        5,
    ),
    "offload, host KV, capped": (
        ("--mode", "offload", "--gpus", "3", "--kv_home", "host", *CAP, *HOST),
        2,
    ),
    "tpp": (("--mode", "tpp", *FOUR), 6),
    "tpp balanced": (("--mode", "tpp", "--variant", "balanced", *FOUR), 8),
    "tpp balanced, as long": (("--mode", "tpp", "--variant", "balanced", *FOUR), 16),
    "tpp balanced, mirrored": (
        ("--mode", "tpp", "--variant", "balanced", *FOUR[:6], "--mirror", "on"),
        16,
    ),
    "tpp ring": (("--mode", "tpp", "--variant", "ring", *FOUR), 6),
    "fsdp": (("--mode", "fsdp", "--prefetch", "1", *FOUR), 4),
    "fsdp, prefetch 0": (("--mode", "fsdp", "--prefetch", "0", *FOUR), 2),
    "fsdp, reference wrapping": (("--mode", "fsdp", "--fsdp-wrap", "reference", *FOUR), 2),
    "fsdp, two GPUs": (
        ("--mode", "fsdp", "--prefetch", "1", "--num_gpus_dit", "2", "--gpus", "0,1", *HOST),
        4,
    ),
    "fsdp, two GPUs, mirrored": (
        (
            *("--mode", "fsdp", "--prefetch", "1", "--num_gpus_dit", "2", "--gpus", "0,1"),
            *(*HOST[:2], "--mirror", "on"),
        ),
        6,
    ),
    "tpp ring, capped": (("--mode", "tpp", "--variant", "ring", *CAP, *FOUR), 4),
    "tpp streamed, capped": (("--mode", "tpp", "--variant", "streamed", *CAP, *FOUR), 4),
    "fsdp fp8, capped": (("--mode", "fsdp", "--fp8", *CAP, *FOUR), 4),
}
_BALANCED: Final = ("--mode", "tpp", "--variant", "balanced", *FOUR)
_TWO: Final = ("--mode", "tpp", "--num_gpus_dit", "2", "--gpus", "0,1", *HOST)
_BACK: Final = {"mode": "tpp", "variant": "balanced", "num_gpus_dit": 4, "gpus": "0,1,2,3"}
#: name → (flags of the start, the switches on the way as request fields, clips).
SWITCHED: dict[str, tuple[tuple[str, ...], tuple[dict[str, Any], ...], int]] = {
    "switch": (_BALANCED, ({"mode": "single", "gpus": "0"}, _BACK), 8),
    "switch, two GPUs": (
        _TWO,
        ({"mode": "single", "gpus": "0"}, {"mode": "tpp", "num_gpus_dit": 2, "gpus": "0,1"}),
        6,
    ),
    "switch, offload": (_BALANCED, ({"mode": "offload", "gpus": "0"}, _BACK), 8),
}
#: Runs of one line go side by side.
GROUPS = (
    ("single", "single fp8"),
    ("tpp balanced",),
    ("fsdp",),
    ("tpp ring, capped",),
    ("fsdp fp8, capped",),
    ("tpp streamed, capped",),
    ("offload, all streamed", "offload, host KV, capped"),
    ("fsdp, two GPUs",),
    ("fsdp, two GPUs, mirrored",),
    ("fsdp, reference wrapping",),
    ("tpp",),
    ("fsdp, prefetch 0",),
    ("tpp balanced, as long",),
    ("tpp balanced, mirrored",),
    ("single, as long",),
    ("single, mirrored",),
    ("switch, two GPUs",),
    ("tpp ring",),
    ("switch",),
    ("switch, offload",),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--ckpt", type=Path, help="14B-shaped weights (default: synthesised)")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--seconds", type=float, default=520, help="start nothing after these")
    parser.add_argument("--only", help="names of groups' first runs, separated by semicolons")
    parser.add_argument("--base", type=Path, help="an earlier result whose latents count, too")
    parser.add_argument("--cpu", action="store_true", help="a rehearsal on CPU ranks, no caps")
    args = parser.parse_args()
    began = time.monotonic()
    earlier = json.loads(args.base.read_text())["runs"] if args.base else {}
    result: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "host": host(), "runs": {}}
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folder = Path(name)
        ckpt = args.ckpt or synthesise(args.scratch / "avatop-14b", result)
        for group in GROUPS:
            if args.only and group[0] not in args.only.split(";"):
                continue
            if time.monotonic() - began > args.seconds:
                result["runs"] |= {n: {"failed": "no time was left"} for n in group}
                continue
            with ThreadPoolExecutor(len(group)) as pool:
                found = pool.map(lambda n: measure(ckpt, folder, n, args.cpu), group)
                for n, row in zip(group, found, strict=True):
                    result["runs"][n] = row
                    print(f"{time.monotonic() - began:5.0f} s  {n}: {brief(row)}", flush=True)
            result["latents"] = compare(result["runs"], earlier)
            args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["latents"]))
    return 0


def measure(ckpt: Path, folder: Path, name: str, cpu: bool) -> dict[str, Any]:
    """One run; its latents stay beside it for the comparison."""
    flags, turns, clips = SWITCHED[name] if name in SWITCHED else (RUNS[name][0], (), RUNS[name][1])
    size = "704*384"
    if cpu:
        pairs = list(zip(flags[::2], flags[1::2], strict=False)) if "--fp8" not in flags else []
        left_out = ("--gpus", "--host_memory", "--gpu_memory_cap")
        pairs = [p for p in pairs if p[0] not in left_out]
        flags, size = (*(word for pair in pairs for word in pair), "--gpus", "cpu"), "128*128"
        turns = tuple({**turn, "gpus": "cpu"} for turn in turns)
    safe = name.replace(",", "").replace(" ", "-")
    dump = folder.parent / f"latents-{safe}.safetensors"
    flags = (*flags, "--dump_latents", str(dump))
    if turns:
        row = switched(
            ckpt, folder, safe, flags, turns, clips=clips, size=size, timeout=SWITCH_SECONDS
        )
    else:
        row = run(ckpt, folder, safe, *flags, clips=clips, size=size, timeout=LIMIT_SECONDS)
    return row if "failed" in row else row | looked_at(dump)


def looked_at(dump: Path) -> dict[str, Any]:
    """Digest of every block's latents, and that they are numbers and not all the same."""
    import hashlib

    import torch
    from safetensors import safe_open

    with safe_open(str(dump), "pt") as file:  # type: ignore[no-untyped-call]
        whole = file.get_tensor("latents")  # [blocks, 16, 3, h, w]
    return {
        "blocks": len(whole),
        "finite": bool(torch.isfinite(whole.float()).all()),
        "spread": round(float(whole.float().std()), 4),
        "block_sha256": [
            hashlib.sha256(b.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
            for b in whole
        ],
    }


def compare(runs: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Which runs gave the same bits as ``single`` (of ``earlier``, if it is not among them).

    One with fp8 weights is held to ``single fp8``, a switched one also to the unswitched mode it
    begins with: that job is as long.
    """
    rows: dict[str, Any] = {}
    for name, row in runs.items():
        single = "single fp8" if "fp8" in name else "single"
        for base in (single, "tpp balanced")[: 2 if name in SWITCHED else 1]:
            ours = (earlier | runs).get(base, {}).get("block_sha256")
            own = row.get("block_sha256")
            if ours and own:
                n = min(len(ours), len(own))
                label = name if base == single else f"{name}, to {base}"
                rows[label] = {"blocks": n, "equal": ours[:n] == own[:n]}
    return rows


def brief(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['failed']} {row.get('error') or ''} {str(row.get('stderr', ''))[-700:]}"
    peak = max(p["peak_bytes"] or 0 for p in row["ranks"]) / 2**30
    errors = [p["error"] for p in row["ranks"]]
    fullest: dict[str, int] = max(
        row["at_peak"].values(), key=lambda held: held["peak"], default={}
    )
    held = {k: round(v / 2**30, 2) for k, v in fullest.items() if v > 2**26}
    nvml = max(row["nvml_peak_bytes"], default=0) / 2**30
    each = [round(n / 2**30, 2) for n in row["nvml_process_peak_bytes"]]
    unit = row.get("largest_unit") or {}
    unshards = (
        f", largest unit {unit['bytes'] / 2**30:.4f} GiB ({unit['unit']}), transient "
        f"{(row['largest_transient']['transient_bytes'] or 0) / 2**30:.2f} GiB "
        f"({row['largest_transient']['unit']})"
        if unit
        else ""
    )
    stops = "".join(
        f", {turn.get('mode')} after {turn.get('from_command_seconds')} s (stood still "
        f"{turn.get('from_clip_end_seconds')} s)"
        for turn in row.get("switches", ())
    )
    return (
        f"{row['fps_steady']} fps, {row['wall_seconds']} s, peak {peak:.2f} GiB "
        f"(NVML {nvml:.2f}, by process {each}), off by {errors}, finite {row.get('finite')}, clips "
        f"{row['fps_by_clip']}, first frame {row['first_frame_seconds']:.1f} s, {held}"
        f"{unshards}{stops}"
    )


def synthesise(folder: Path, result: dict[str, Any]) -> Path:
    if not folder.exists():
        began = time.monotonic()
        subprocess.run(
            [
                *(sys.executable, "-m", "console", "ckpt", "synth", "--shape", "14b"),
                *("--seed", "0", "--out", str(folder), "--json"),
            ],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=300,
        )
        result["synth_seconds"] = round(time.monotonic() - began, 1)
        print(f"synthesised in {result['synth_seconds']} s", flush=True)
    return folder


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

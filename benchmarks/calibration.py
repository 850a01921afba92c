"""How well the planner predicts peaks: without a history, and with one that lacks the very run.

::

    python -m benchmarks.calibration benchmarks/results/gpu-placement.json --json calibration.json
    python -m benchmarks.calibration --sweep --json benchmarks/results/plan-cpu.json

Each stored run tells what was said before its launch, with an empty history, and each rank's
measured peak. Per rank: how far that was off, how far a planner is off that has learnt from all
other configurations (``Corrections.without``), and whether the peak was above prediction and
margin. ``--sweep`` measures first: every mode on CPU ranks of the sample, in five sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.ending import leaving_nothing
from benchmarks.gpu import SAMPLE, host, run
from engine.placement.calibration import Corrections, Run
from engine.placement.history import History

#: What must hold: of an empty history, and with the configuration left out.
EMPTY: Final = 0.10
LEFT_OUT: Final = 0.05
#: Seconds that one run of the sweep may take.
SWEEP_SECONDS: Final = 900

_HALF: Final = ("--dtype", "bf16")
_TPP: Final = ("--mode", "tpp", "--num_gpus_dit")
#: Flags of the sweep's modes on CPU ranks; sizes and clips come beside them.
SWEPT: Final = (
    ("--mode", "single"),
    ("--mode", "single", *_HALF),
    ("--mode", "offload"),
    ("--mode", "offload", "--kv_home", "host"),
    (*_TPP, "2"),
    (*_TPP, "2", "--enable_vae_parallel", "true"),
    (*_TPP, "2", "--variant", "balanced"),
    (*_TPP, "2", "--variant", "ring"),
    (*_TPP, "2", "--variant", "streamed"),
    (*_TPP, "4", "--variant", "balanced"),
    ("--mode", "fsdp", "--num_gpus_dit", "2"),
    ("--mode", "fsdp", "--num_gpus_dit", "2", *_HALF),
    ("--mode", "fsdp", "--num_gpus_dit", "4"),
    ("--mode", "fsdp", "--num_gpus_dit", "4", "--fsdp-wrap", "reference"),
)
SIZES: Final = (("128*128", 2), ("256*256", 2), ("320*192", 3), ("384*384", 2), ("192*192", 1))


@dataclass(frozen=True)
class Stored:
    """One stored run, and its name in its file."""

    name: str
    run: Run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="*", type=Path, help="files of benchmarks.gpu_placement")
    parser.add_argument("--json", type=Path, required=True, help="where the table goes")
    parser.add_argument("--sweep", action="store_true", help="measure CPU ranks, and judge them")
    parser.add_argument("--round", type=int, choices=(1, 2), default=1, help="sizes of the sweep")
    parser.add_argument("--seconds", type=float, default=3600, help="start nothing after these")
    parser.add_argument("--ckpt", type=Path, default=SAMPLE / "ckpt", help="of the sweep")
    args = parser.parse_args()
    found: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:])}
    stored: list[Stored] = []
    hosts = []
    for path in args.results:
        body = json.loads(path.read_text())
        stored += stored_runs(body["runs"])
        hosts += [body["host"]] if "host" in body else body["hosts"]
    if args.sweep:
        found["runs"] = sweep(args.ckpt, args.round, args.seconds, args.json)
        stored += stored_runs(found["runs"])
        found["config"] = json.loads((args.ckpt / "config.json").read_text())
        found["vae_file_bytes"] = (args.ckpt / "Wan2.1_VAE.pth").stat().st_size
        hosts.append(host())
    found |= {"hosts": hosts, **judged(stored)}
    args.json.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    return 0 if all(found["holds"].values()) else 1


def sweep(ckpt: Path, turn: int, seconds: float, out: Path) -> dict[str, Any]:
    """Runs on CPU ranks, one after the other, each with a state folder of its own.

    Each mode is run in one size, all of which come up over the modes; another ``turn`` gives each
    another one. What is measured is in ``out`` after each.
    """
    rows: dict[str, Any] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for n, flags in enumerate(SWEPT):
            if time.monotonic() - began > seconds:
                break
            size, clips = SIZES[(n + 4 * (turn - 1)) % len(SIZES)]
            row = run(
                ckpt, Path(name), str(n), *flags, "--gpus", "cpu", "--mirror", "off",
                "--retries", "0", clips=clips, size=size, timeout=SWEEP_SECONDS,
            )  # fmt: skip
            label = f"{' '.join(flags)} {size}"
            print(label, row.get("failed") or [r["error"] for r in row["ranks"]], flush=True)
            rows[label] = {key: row[key] for key in ("failed", "flags", "history") if key in row}
            out.write_text(json.dumps({"runs": rows}, indent=1) + "\n")
    return rows


def stored_runs(rows: Mapping[str, Any]) -> Iterator[Stored]:
    """The runs that kept what was said before their launch, and ended."""
    with tempfile.TemporaryDirectory() as name:
        for number, (label, row) in enumerate(rows.items()):
            if "failed" in row or row.get("switches"):
                continue  # a switched job's peaks are of several plans
            path = Path(name) / f"{number}.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in row.get("history", ())))
            yield from (Stored(label, one) for one in History(path).runs())


def judged(stored: list[Stored]) -> dict[str, Any]:
    """Every rank's figures, the worst of them, and whether what is promised holds."""
    everything = Corrections([one.run for one in stored])
    rows = []
    for one in stored:
        learnt = everything.without(one.run.configuration)
        others = {r.configuration for r in learnt.runs if _alike(r, one.run)}
        for number, rank in enumerate(one.run.ranks):
            if not rank.peak:
                continue
            owners, margin = learnt.corrected(
                one.run.setting, rank.modelled, rank.encodes, rank.margin
            )
            predicted = sum(owners.values())
            rows.append(
                {
                    "run": one.name,
                    "rank": number,
                    "measured_bytes": rank.peak,
                    "said_bytes": rank.predicted,
                    "said_error": round(rank.predicted / rank.peak - 1, 4),
                    "said_margin_bytes": rank.margin,
                    "said_held": rank.peak <= rank.predicted + rank.margin,
                    "learnt_from": len(others),
                    "learnt_bytes": predicted if others else None,
                    "learnt_error": round(predicted / rank.peak - 1, 4) if others else None,
                    "learnt_margin_bytes": margin if others else None,
                    "learnt_held": rank.peak <= predicted + margin if others else None,
                }
            )
    said = [abs(row["said_error"]) for row in rows]
    learnt = [abs(row["learnt_error"]) for row in rows if row["learnt_error"] is not None]
    return {
        "ranks": rows,
        "worst": {"empty": max(said, default=None), "left_out": max(learnt, default=None)},
        "holds": {
            f"empty history within {EMPTY:.0%}": all(error <= EMPTY for error in said),
            f"configuration left out within {LEFT_OUT:.0%}": all(e <= LEFT_OUT for e in learnt),
            "no peak above prediction and margin": all(
                row["said_held"] and row["learnt_held"] is not False for row in rows
            ),
        },
    }


def _alike(one: Run, other: Run) -> bool:
    """Whether one teaches about the other."""
    return (one.setting.hardware, one.setting.dtype) == (
        other.setting.hardware,
        other.setting.dtype,
    )


def table(found: Mapping[str, Any]) -> str:
    """For a person, and for the docs."""
    lines = ["| run | rank | measured GiB | empty history | left out | of runs | held |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in found["ranks"]:
        learnt = row["learnt_error"]
        held = row["said_held"] and row["learnt_held"] is not False
        lines.append(
            f"| {row['run']} | {row['rank']} | {row['measured_bytes'] / 2**30:.2f} | "
            f"{row['said_error']:+.1%} | {'n/a' if learnt is None else f'{learnt:+.1%}'} | "
            f"{row['learnt_from']} | {'yes' if held else 'no'} |"
        )
    return "\n".join([*lines, "", json.dumps(found["worst"]), json.dumps(found["holds"])])


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))

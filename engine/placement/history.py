"""The file of predictions and of what was measured after them, one JSON line each.

A prediction is written before the launch, so that it cannot be bettered afterwards; the
measurement follows when the run has ended. Torn or foreign lines are passed over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.placement.calibration import Corrections, RankRun, Run, Setting
from engine.placement.plan import Plan

#: Launches that are remembered; the file is cut back to them when it has twice as many lines.
KEPT: Final = 400


class History:
    """Runs of one user on this host. Made when first written; nothing is read until asked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def predicted(self, job: int, plan: Plan, *, size: tuple[int, int], clips: int) -> None:
        """Store what ``plan`` says, before its launch.

        Args:
            size: of the frame, pixels.

        Raises:
            OSError: the file cannot be written.
        """
        self._append(
            {
                "kind": "predicted",
                "job": job,
                "time": time.time(),
                "setting": dataclasses.asdict(setting_of(plan)),
                "size": list(size),
                "steps": plan.sample_steps,
                "clips": clips,
                "ranks": [
                    {
                        "modelled": dict(device.modelled),
                        "encodes": device.rank == plan.encoder_rank,
                        "predicted": device.predicted_bytes,
                        "margin": device.margin_bytes,
                    }
                    for device in plan.devices
                ],
            }
        )

    def measured(
        self,
        job: int,
        ranks: Sequence[Mapping[str, Any]],
        seconds_per_block: float | None = None,
    ) -> None:
        """Store what a run measured, after it.

        Args:
            ranks: per rank ``rank``, ``peak_bytes`` and ``by_owner``, as a result tells them.
            seconds_per_block: of the steady state.

        Raises:
            OSError: the file cannot be written.
        """
        self._append(
            {
                "kind": "measured",
                "job": job,
                "time": time.time(),
                "seconds_per_block": seconds_per_block,
                "ranks": [
                    {
                        "rank": rank["rank"],
                        "peak": rank.get("peak_bytes"),
                        "context": (rank.get("by_owner") or {}).get("context"),
                    }
                    for rank in ranks
                ],
            }
        )

    def runs(self) -> tuple[Run, ...]:
        """Launches in order, measured ones with their measurements."""
        found: dict[int, Run] = {}
        ended: list[Run] = []
        for line in self._lines():
            try:
                job = int(line["job"])
                if line["kind"] == "predicted":
                    if job in found:  # the same number again: an earlier launch that never ended
                        ended.append(found.pop(job))
                    found[job] = _run(line)
                elif line["kind"] == "measured" and job in found:
                    ended.append(_with(found.pop(job), line))
            except (KeyError, TypeError, ValueError):
                continue
        return (*ended, *found.values())[-KEPT:]

    def corrections(self) -> Corrections:
        """What those runs teach."""
        return Corrections([run for run in self.runs() if any(rank.peak for rank in run.ranks)])

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open(encoding="utf-8", errors="replace") as lines:
                for text in lines:
                    try:
                        line = json.loads(text)
                    except ValueError:
                        continue
                    if isinstance(line, dict):
                        yield line
        except OSError:
            return  # a history that cannot be read teaches nothing

    def _append(self, line: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = (json.dumps(line) + "\n").encode()
        with self.path.open("a+b") as file:
            if file.tell():  # a line that a crash cut short must not swallow this one
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    data = b"\n" + data
            file.write(data)
        self._cut()

    def _cut(self) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        if len(lines) > 4 * KEPT:
            kept = self.path.with_suffix(".new")
            kept.write_bytes(b"".join(lines[-2 * KEPT :]))
            kept.replace(self.path)


def setting_of(plan: Plan) -> Setting:
    """What runs of ``plan`` are comparable by."""
    first = plan.devices[0]
    hardware = first.name or first.device.split(":")[0]
    kv = f"{plan.kv} {plan.kv_dtype}"
    return Setting(hardware, plan.mode, plan.variant, plan.dtype, plan.world_size, kv)


def _run(line: Mapping[str, Any]) -> Run:
    width, height = line["size"]
    return Run(
        job=int(line["job"]),
        setting=Setting(**line["setting"]),
        size=(int(width), int(height)),
        steps=int(line["steps"]),
        clips=int(line["clips"]),
        ranks=tuple(
            RankRun(
                modelled={str(k): int(v) for k, v in rank["modelled"].items()},
                encodes=bool(rank["encodes"]),
                predicted=int(rank["predicted"]),
                margin=int(rank["margin"]),
            )
            for rank in line["ranks"]
        ),
    )


def _with(run: Run, line: Mapping[str, Any]) -> Run:
    measured = {int(rank["rank"]): rank for rank in line["ranks"]}
    ranks = tuple(
        dataclasses.replace(
            rank,
            peak=measured.get(number, {}).get("peak"),
            context=measured.get(number, {}).get("context"),
        )
        for number, rank in enumerate(run.ranks)
    )
    seconds = line.get("seconds_per_block")
    return dataclasses.replace(run, ranks=ranks, seconds_per_block=seconds)

"""Ranks that die and ranks that stand still."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

from engine.drills.compare import judge
from engine.drills.report import DrillReport
from engine.drills.stage import Made, Stage
from engine.guard.limits import Limits
from engine.messages import ClipCommitted, Event
from engine.sentence import sentence

#: Seconds after which a silent rank is given up in a drill (60 otherwise).
SILENCE_SECONDS: Final = 5.0
HASTY: Final = Limits(silence=SILENCE_SECONDS)


def sigkill(stage: Stage, report: DrillReport) -> None:
    """SIGKILL for the rank with the VAE, once the first clip is committed."""
    before = stage.undisturbed()
    after = _strike(stage, report, before, int(before.result["plan"]["vae_rank"]), signal.SIGKILL)
    report.notes += stage.lines(after.row.id, "goes on from") or stage.lines(
        after.row.id, "computed again"
    )


def hang(stage: Stage, report: DrillReport) -> None:
    """SIGSTOP for the first rank, once the first clip is committed."""
    before = stage.undisturbed()
    after = _strike(stage, report, before, 0, signal.SIGSTOP)
    folders = sorted(stage.places.incidents.glob(f"job-{after.row.id:06d}-*"))
    told = [p.stem.removeprefix("stacks-") for f in folders for p in f.glob("stacks-rank*.txt")]
    if not folders:
        report.lost.append(sentence("the evidence: no incident was kept"))
    elif told:
        report.notes.append(sentence("Python stacks kept of {told}", told=", ".join(sorted(told))))
    else:
        report.notes.append(
            sentence("an incident was kept without stacks: the only rank was stopped")
        )
    report.notes.append(
        sentence(
            "a silent rank is given up after {silence_seconds:.0f} s here, else 60",
            silence_seconds=SILENCE_SECONDS,
        )
    )


def _strike(
    stage: Stage, report: DrillReport, before: Made, rank: int, number: signal.Signals
) -> Made:
    """The same job again, with a signal for one rank at its first committed clip."""
    struck: list[float] = []

    def first_clip(event: Event) -> bool:
        return isinstance(event, ClipCommitted) and event.job != before.row.id and event.clip == 0

    def strike(event: Event) -> None:
        assert isinstance(event, ClipCommitted)
        pid = stage.rank(event.job, rank)
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, number)
                struck.append(time.monotonic())

    stage.when(first_clip, strike)
    after = stage.end(stage.submit())
    judge(report, before, after)
    if struck and after.row.attempt > before.row.attempt:
        report.recovery_seconds = stage.next_block(after.row.id, struck[0])
        report.notes.append(
            sentence(
                "{name} for rank {rank} after the first committed clip", name=number.name, rank=rank
            )
        )
    else:
        report.recovered = False
        report.notes.append(
            sentence("the job was over before the fault could strike: give it more clips")
        )
    return after

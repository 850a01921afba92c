"""What a rollout does next: pure decisions on stages, gates and shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.messages import GateRow, JobRow
from engine.preflight import Work
from engine.release.settings import Stage
from engine.release.stats import ERROR, FAIL, PASS
from engine.sentence import sentence

Action = Literal["wait", "extend", "advance", "hold", "pause", "rollback"]


@dataclass(frozen=True)
class Decision:
    """What to do, and why in a clause."""

    action: Action
    why: str = ""


def stage_over(stage: Stage, finished: int, seconds: float, extended: int) -> bool:
    """Whether enough jobs of the candidate have ended, or the time is up."""
    span = 1 + extended
    return finished >= stage.jobs * span or seconds >= stage.minutes * 60 * span


def judge(stage: Stage, rows: Sequence[GateRow], extended: int, automatic: bool) -> Decision:
    """At a stage's end: FAIL goes back, PASS of every gate goes on, and nothing else does."""
    counted = [row for row in rows if not row.observed]
    failed = [row for row in counted if row.verdict == FAIL]
    if any(row.armed for row in failed):
        names = ", ".join(row.gate for row in failed if row.armed)
        return Decision(
            "rollback", sentence("{names} breached at stage {stage}", names=names, stage=stage.name)
        )
    if failed:
        names = ", ".join(row.gate for row in failed)
        return Decision(
            "pause", sentence("{names} breached while not armed: a person decides", names=names)
        )
    broken = [row.gate for row in counted if row.verdict == ERROR]
    if broken:
        return Decision(
            "pause", sentence("{gates} could not be measured: a person decides", gates=broken)
        )
    open_gates = [row.gate for row in counted if row.verdict != PASS]
    if open_gates or not counted:
        what = (
            sentence("{gates} inconclusive", gates=open_gates)
            if open_gates
            else sentence("nothing was measured")
        )
        if not stage.paired and extended < stage.extend:
            return Decision(
                "extend", sentence("{what}: stage {stage} goes on", what=what, stage=stage.name)
            )
        return Decision(
            "pause",
            sentence(
                "{what} at the end of stage {stage}: a person decides", what=what, stage=stage.name
            ),
        )
    if not automatic:
        return Decision(
            "hold", sentence("every gate of stage {stage} held: advance by hand", stage=stage.name)
        )
    return Decision("advance", sentence("every gate of stage {stage} held", stage=stage.name))


def takes_candidate(share: float, here: tuple[int, int], all_: tuple[int, int]) -> bool:
    """Whether the next job is the candidate's, by quota: no luck is involved.

    Args:
        share: of new jobs. here: (jobs, the candidate's) assigned in the job's stratum so far.
        all_: the same over all strata, so that rare kinds of jobs do not starve the candidate.
    """
    if share >= 1.0:
        return True
    jobs, own = here
    if int((jobs + 1) * share + 0.5) > own:  # the middle of each period, not its first job
        return True
    jobs, own = all_
    return int((jobs + 1) * share) > own


def stratum(row: JobRow, prepared: Work) -> str:
    """Jobs that may be compared: devices, their number, resolution, steps, length class."""
    devices = ",".join(sorted(prepared.leases))
    steps = prepared.request.sample_steps
    return f"{row.ranks} on {devices}; {row.size}; {steps} steps; {length_class(row.clips)}"


def length_class(clips: int) -> str:
    """Clips of a job, by powers of four: long videos are not compared with short ones."""
    top = 4
    while clips > top:
        top *= 4
    return f"up to {top} clips"

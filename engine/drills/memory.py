"""An allocator's cap below the plan."""

from __future__ import annotations

from typing import Any, Final

from engine.drills.compare import judge
from engine.drills.report import DrillReport
from engine.drills.stage import Stage
from engine.messages import LogLine, Relaunch
from engine.ranks.protocol import DRILL_CAP

#: Of what the fullest rank took. Below it, so that the work cannot fit; not much below, so that
#: another plan can.
_SHARE: Final = 0.97
#: What no cap counts: the CUDA context, what the allocator keeps, what is not the rank's.
_OUTSIDE: Final = ("context", "slack", "other")


def oom(stage: Stage, report: DrillReport) -> None:
    """A cap below what the job takes; ``--gpu_memory_cap`` says which, else 3 % below."""
    asked = stage.request.gpu_memory_cap
    stage.request = stage.request.replace(gpu_memory_cap=None)
    before = stage.undisturbed()
    cap = asked or int(_SHARE * max(_held(rank) for rank in before.result["ranks"]))
    # Relaunched, so that the cap is this job's alone.
    order = Relaunch(job=before.row.id, environment={DRILL_CAP: str(cap)}, by="drill")
    job = stage.taken(stage.ask(order))
    after = stage.end(job)
    judge(report, before, after)
    fault = stage.find(
        lambda e: isinstance(e, LogLine) and e.job == job and "memory ran out" in e.text
    )
    report.notes.append(f"cap {cap:,} bytes on every rank ({cap / 2**30:.3f} GiB)")
    if fault is None:
        report.recovered = False
        report.notes.append("memory did not run out: the job fits under the cap")
        return
    report.recovery_seconds = stage.next_block(job, fault[0])
    report.notes += stage.lines(job, "memory ran out")
    report.notes += stage.lines(job, "out of memory. ") or stage.lines(job, "not tried again")


def _held(rank: dict[str, Any]) -> int:
    """Bytes of a rank that count against a cap, at the least."""
    owners: dict[str, int] = dict(rank["by_owner"] or {})
    outside = sum(owners.get(owner, 0) for owner in _OUTSIDE)
    inside: int = sum(owners.values()) - outside
    peak = rank["peak_bytes"]
    return inside if peak is None else min(inside, max(0, int(peak) - outside)) or inside

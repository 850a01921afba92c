"""An allocator's cap below the plan."""

from __future__ import annotations

from typing import Any, Final

from engine.drills.compare import judge
from engine.drills.report import DrillReport
from engine.drills.stage import Stage
from engine.messages import LogLine, Relaunch
from engine.ranks.protocol import DRILL_CAP
from engine.sentence import sentence

#: Of what is counted on the fullest rank: the work cannot fit, another plan may.
_SHARE: Final = 0.95
_SHARE_ON_CPU: Final = 0.85
#: What no cap counts: the CUDA context, what the allocator keeps, what is not the rank's.
_OUTSIDE: Final = frozenset({"context", "slack", "other"})
#: All that a CPU rank counts by its tensors. The rest it sees as resident pages rise, and they
#: rise less where the heap has room: a cap among them may hold a job or not.
_TENSORS: Final = frozenset({"weights", "gathered", "kv", "conditioning"})


def oom(stage: Stage, report: DrillReport) -> None:
    """A cap below what the job takes; ``--gpu_memory_cap`` says which, else one below its plan."""
    asked = stage.request.gpu_memory_cap
    stage.request = stage.request.replace(gpu_memory_cap=None)
    before = stage.undisturbed()
    devices = before.result["plan"]["devices"]
    cap = asked or max(_below(device) for device in devices)
    # Relaunched, so that the cap is this job's alone.
    order = Relaunch(job=before.row.id, environment={DRILL_CAP: str(cap)}, by="drill")
    job = stage.taken(stage.ask(order))
    after = stage.end(job)
    judge(report, before, after)
    fault = stage.find(
        lambda e: isinstance(e, LogLine) and e.job == job and "memory ran out" in e.text
    )
    report.notes.append(
        sentence("cap {cap:,} bytes on every rank ({gib:.3f} GiB)", cap=cap, gib=cap / 2**30)
    )
    if fault is None:
        report.recovered = False
        report.notes.append(sentence("memory did not run out: the job fits under the cap"))
        return
    report.recovery_seconds = stage.next_block(job, fault[0])
    report.notes += stage.lines(job, "memory ran out")
    report.notes += stage.lines(job, "out of memory. ") or stage.lines(job, "not tried again")


def _below(device: dict[str, Any]) -> int:
    """A cap in bytes that a device's plan breaks for certain."""
    owners: dict[str, int] = device["by_owner"]
    if device["device"].startswith("cuda"):
        share, counted = _SHARE, owners.keys() - _OUTSIDE
    else:
        share, counted = _SHARE_ON_CPU, owners.keys() & _TENSORS
    return int(share * sum(owners[owner] for owner in counted))

"""Which drills there are, and how one is played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.drills import checkpoint, deaths, disk, link, memory, port
from engine.drills.report import DrillReport, NotPermittedError
from engine.drills.stage import Stage
from engine.guard.limits import Limits
from engine.parameters.request import Request
from engine.sentence import sentence

#: Attempts that a drill's job is given at least; to find a plan that fits may take some.
_RETRIES: Final = 4
_PIPELINE: Final = {"mode": "tpp", "num_gpus_dit": "2"}
#: Steps enough that keys and values outweigh all that resident memory tells only roughly: without
#: them the job fits under a cap that it breaks with them, whatever the decoder takes.
_SHARDED: Final = {
    "mode": "fsdp",
    "num_gpus_dit": "2",
    "size": "128*128",
    "sample_steps": "32",
    "infer_frames": "12",
    "num_clip": "1",  # memory runs out before the first
}


@dataclass(frozen=True)
class Drill:
    """One fault.

    ``enter`` prepares this process before anything is started in it, ``leave`` follows the
    engine's end. ``flags`` place a job on CPU ranks that the fault means something to.
    """

    play: Callable[[Stage, DrillReport], None]
    help: str
    enter: Callable[[Path, Request], str | None] | None = None
    leave: Callable[[Path], None] | None = None
    limits: Limits | None = None
    flags: Mapping[str, str] = field(default_factory=lambda: _PIPELINE)


def _slow_network(folder: Path, request: Request) -> None:  # noqa: ARG001 - as all have it
    link.enter()


DRILLS: Final[dict[str, Drill]] = {
    "oom": Drill(
        memory.oom,
        sentence("A memory cap below the plan: the next fitting plan goes on."),
        flags=_SHARDED,
    ),
    "sigkill": Drill(
        deaths.sigkill, sentence("kill -9 for a rank after the first clip: it goes on.")
    ),
    "hang": Drill(
        deaths.hang,
        sentence("A rank stands still: stacks are kept, it goes on."),
        limits=deaths.HASTY,
    ),
    "slow-link": Drill(
        link.slow_link, sentence("The ranks' network becomes slow."), enter=_slow_network
    ),
    "disk-full": Drill(
        disk.disk_full,
        sentence("No byte is free: it goes on later."),
        enter=disk.enter,
        leave=disk.leave,
    ),
    "corrupt-ckpt": Drill(
        checkpoint.corrupt_ckpt, sentence("A flipped bit is refused before any rank.")
    ),
    "port": Drill(port.port, sentence("The rendezvous port is taken: another one at the retry.")),
}


def play(name: str, request: Request, folder: Path) -> DrillReport:
    """Play a drill; its engine, its ranks and its shared memory are gone when this returns.

    Call it from a process's main thread before other threads run: some drills enter namespaces.

    Args:
        name: a key of ``DRILLS``.
        folder: for the drill's state; the caller's to remove.

    Raises:
        DrillError: the drill's own job could not be run.
    """
    drill = DRILLS[name]
    report = DrillReport(drill=name)
    if drill.enter is not None:
        try:
            told = drill.enter(folder, request)
        except NotPermittedError as error:
            report.notes.append(sentence("not played: {error}", error=error))
            return report
        if told is not None:
            report.notes.append(told)
    request = request.replace(retries=max(request.retries, _RETRIES))
    try:
        with Stage(folder, request, drill.limits) as stage:
            drill.play(stage, report)
    finally:
        if drill.leave is not None:
            drill.leave(folder)
    report.leftover_pids, report.leftover_shm = stage.leftover_pids, stage.leftover_shm
    return report

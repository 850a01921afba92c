"""A disk that is full to the last byte while a job writes to it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Final

from engine.drills.compare import judge
from engine.drills.namespace import enter_mounts, mount_tmpfs, unmount
from engine.drills.report import DrillReport
from engine.drills.stage import Stage
from engine.messages import ClipCommitted, Event, Resume
from engine.parameters.request import Request
from engine.preflight import DISK_RESERVE
from engine.sentence import sentence

_MIB: Final = 1 << 20
#: Of the small file system, besides what preflight wants free.
_SIZE: Final = 96 * _MIB
_PER_CLIP: Final = 8 * _MIB


def enter(folder: Path, request: Request) -> str:
    """Jobs of the drill lie on a small disk of their own; a sentence that says which.

    Raises:
        NotPermittedError: nothing can be mounted here.
    """
    size = DISK_RESERVE + _SIZE + _PER_CLIP * (request.num_clip or 1)
    enter_mounts()
    mount_tmpfs(folder / "state" / "jobs", size)
    return sentence(
        "the disk is a tmpfs of {size} MiB in a mount namespace of the drill's own",
        size=size // _MIB,
    )


def leave(folder: Path) -> None:
    """Take the small disk away, with what lies on it."""
    unmount(folder / "state" / "jobs")


def disk_full(stage: Stage, report: DrillReport) -> None:
    """The disk fills up once the first clip is committed; the job goes on when there is room."""
    before = stage.undisturbed()
    ballast = stage.places.state / "jobs" / "ballast"

    def first_clip(event: Event) -> bool:
        return isinstance(event, ClipCommitted) and event.job != before.row.id and event.clip == 0

    stage.when(first_clip, lambda _: fill(ballast))
    job = stage.submit()
    stopped = stage.end(job)
    if stopped.done:
        judge(report, before, stopped)
        report.recovered = False
        report.notes.append(
            sentence("the job was over before the disk was full: give it more clips")
        )
        return
    report.notes.append(
        sentence(
            "stopped: {state}, {clips} of {all} clips committed: {error}",
            state=stopped.row.state,
            clips=len(stopped.segments),
            all=len(before.segments),
            error=stopped.row.error,
        )
    )
    for clip, digest in enumerate(stopped.segments):
        if before.segments[clip : clip + 1] != (digest,):
            report.lost.append(
                sentence("clip {clip}: other bytes than without the fault", clip=clip + 1)
            )
    ballast.unlink()
    roomy, mark = time.monotonic(), stage.mark()
    reply = stage.ask(Resume(job=job))
    if not reply.ok:
        report.recovered = False
        report.lost.append(sentence("the job: {message}", message=reply.message))
        return
    after = stage.end(job, mark)
    judge(report, before, after)
    report.recovery_seconds = stage.next_block(job, roomy, attempt=False)


def fill(path: Path) -> None:
    """Leave no byte free on the file system of ``path``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size, step = 0, 64 * _MIB
        while step >= 4096:
            try:
                os.posix_fallocate(descriptor, size, step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
            else:
                size += step
        with contextlib.suppress(OSError):  # one page may be left
            os.pwrite(descriptor, b"\0" * 4096, size)
    finally:
        os.close(descriptor)

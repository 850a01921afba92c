"""How a job goes on: from kept state after a death, from a pause, under another plan.

Holds no ranks. It says what they begin with, what they are to leave when they are stopped at a
clip's end, and tells how long nothing was made in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from engine.bus import Bus
from engine.geometry import blocks_per_clip
from engine.jobs.kept import GoOn, Kept, mirror_root
from engine.messages import PlanChanged
from engine.preflight import Prepared
from engine.ranks.group import RankGroup
from engine.ranks.protocol import Order, Report, StateSpec
from engine.report_events import Progress
from engine.sentence import sentence

#: Seconds in which every rank holds its mirror still, once asked.
HOLD_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Turn:
    """What is to happen at the next clip boundary."""

    kind: Literal["stop", "pause", "switch"]
    reason: str
    prepared: Prepared | None = None  # of a switch: what it goes on with


class Onward:
    """One job's way from one group of ranks to the next. The engine's loop only."""

    def __init__(self, kept: Kept, bus: Bus, progress: Progress) -> None:
        self.kept = kept
        self._bus, self._progress = bus, progress
        self.going = GoOn("fresh")
        self.mirrored = False
        self.moving = False  # the present ranks have made a block
        self._reason: Literal["resume", "switch"] | None = None  # what the next block tells
        self._change = ""
        self._last: float | None = None  # wall clock of the last block, or of the job's death
        self._on_disk = False

    async def begin(self, prepared: Prepared, how: str = "auto") -> StateSpec:
        """What the ranks begin with.

        Raises:
            StateError: the job cannot go on in the way asked for.
        """
        self.moving = False
        self.going = going = await asyncio.to_thread(self.kept.choose, prepared, how)
        job, host = self._progress.row.id, prepared.plan.host
        wanted = prepared.request.mirror == "on" or bool(host and host.mirror_bytes)
        needed = host.mirror_bytes if host is not None else 0
        problem: str | None = None
        if wanted and not self.kept.mirror.is_dir():
            problem = await asyncio.to_thread(_no_room, needed)
        await asyncio.to_thread(self.kept.begin, prepared, going)
        folder: Path | None = None
        if wanted and problem is None:
            try:
                folder = await asyncio.to_thread(self.kept.open_mirror, prepared)
            except OSError as error:
                problem = str(error)
        if problem is not None:
            self._bus.log("WARNING", f"finished blocks are not mirrored: {problem}", job)
        self.mirrored = folder is not None
        self._on_disk = going.source == self.kept.disk
        if going.how != "fresh":
            if self._reason is None:
                self._reason = "resume"
                self._change = going.sentence
                died = await asyncio.to_thread(self.kept.take_note, "died")
                self._last = died or await asyncio.to_thread(self.kept.last_written)
            self._bus.log("WARNING" if going.how == "seam" else "INFO", going.sentence, job)
            per_clip = blocks_per_clip(prepared.request.infer_frames)
            done = going.committed * per_clip
            self._progress.blocks_done = max(self._progress.blocks_done, done)
        return StateSpec(
            folder=None if folder is None else str(folder),
            source=None if going.source is None else str(going.source),
            cut=None if going.cut is None else going.cut.blocks,
            committed=going.committed,
            seam=going.seam,
        )

    def switching(self, change: str) -> None:
        """The next ranks go on under another plan."""
        self._reason, self._change = "switch", change

    def heard(self, report: Report) -> None:
        """A rank says something: the first block after a gap tells how long it was."""
        if report.kind != "block":
            return
        if not self.moving:
            self.moving = True
            if self._on_disk and self.mirrored:
                self._on_disk = False  # the mirror has it all, and newer
                asyncio.get_running_loop().run_in_executor(None, self.kept.drop_disk)
            if self._reason is not None:
                self._tell(report.t)
        self._last = report.t

    def _tell(self, t: float) -> None:
        assert self._reason is not None
        row = self._progress.row
        seconds = None if self._last is None else max(0.0, t - self._last)
        self._bus.publish(
            PlanChanged(
                job=row.id, reason=self._reason, mode=row.mode, seconds=seconds, change=self._change
            )
        )
        if seconds is not None:
            gap = sentence("{seconds:.1f} s passed between two blocks", seconds=seconds)
            self._bus.log("INFO", f"{self._reason}: {self._change}; {gap}", row.id)
        self._reason = None

    def order(self, turn: Turn, prepared: Prepared) -> dict[str, Any]:
        """What ranks are told that stop at the clip's end; touches the disk, shortly."""
        if self.mirrored:
            return {}
        host = prepared.plan.host
        size = host.snapshot_bytes if host is not None else 0
        try:
            folder = self.kept.leave_at(prepared, size, on_disk=turn.kind != "switch")
        except OSError as error:
            text = sentence("its state cannot be kept: {error}", error=error)
            self._bus.log("ERROR", text, self._progress.row.id)
            return {}
        return {"state": str(folder)}

    async def settle(self, *, paused: bool) -> str | None:
        """The job does not go on by itself now. How it could, for the row."""
        if paused and self.mirrored:
            try:
                size = await asyncio.to_thread(self.kept.to_disk)
                await asyncio.to_thread(self.kept.drop_mirror)
                text = sentence(
                    "its state is on disk: {size:.0f} MiB in {disk}",
                    size=size / 2**20,
                    disk=self.kept.disk,
                )
                self._bus.log("INFO", text, self._progress.row.id)
            except OSError as error:
                text = sentence(
                    "its state stays in shared memory, the disk has no room: {error}", error=error
                )
                self._bus.log("WARNING", text, self._progress.row.id)
        await asyncio.to_thread(self._note_death)
        return await asyncio.to_thread(self.kept.resumable)

    def _note_death(self) -> None:
        # Only told by: a disk that is full must not keep the job from ending.
        with contextlib.suppress(OSError):
            if self.kept.worth:
                self.kept.note(died=time.time())


def _no_room(needed: int) -> str | None:
    """Why so many bytes cannot be mirrored; None: they can."""
    root = mirror_root()
    try:
        free = shutil.disk_usage(root).free
    except OSError as error:
        return str(error)
    if free >= needed:
        return None
    return sentence(
        "{root} has {free:.1f} GiB free, {needed:.1f} are needed",
        root=root,
        free=free / 2**30,
        needed=needed / 2**30,
    )


class MirrorHold:
    """Holds the mirror of a running group still while it is copied to disk."""

    def __init__(self, group: RankGroup, kept: Kept) -> None:
        self._group, self._kept = group, kept

    async def to_disk(self) -> int:
        """Copy the state to disk; the ranks go on meanwhile. Returns bytes.

        Raises:
            OSError: no room.
            TimeoutError: a rank did not answer.
        """
        await self._group.ask(Order("hold_mirror", {"on": True}), "held", HOLD_SECONDS)
        try:
            return await asyncio.to_thread(self._kept.to_disk)
        finally:
            self._group.send(Order("hold_mirror", {"on": False}))

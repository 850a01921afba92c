"""Drives one job through its states: preflight, group, reports → events, commit, join, end.

Everything runs on the engine's loop; what blocks (checking files, committing, joining) runs in
threads, so events and other jobs go on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path
from typing import Final

from engine.closing import Closing, Ended
from engine.committer import Committer
from engine.guard.lease import LeaseHeld
from engine.hearing import Hearing
from engine.host import Host
from engine.jobs.kept import Kept, StateError
from engine.jobs.manifest import ManifestError, Seam
from engine.jobs.store import StoreError
from engine.jobs.words import mode_of, not_switched, not_turned, with_clips
from engine.learning import Learning
from engine.media.findings import MediaError
from engine.messages import JobRow, PlanMade
from engine.nightwatch.jobguard import JobGuard
from engine.onward import MirrorHold, Onward, Turn
from engine.placement.history import History
from engine.preflight import PreflightError, Prepared, prepare
from engine.ranks.group import RankGroup
from engine.ranks.outcome import GroupResult, RankLog
from engine.ranks.protocol import Order, Report, StateSpec
from engine.ranks.server import RankServerError
from engine.report_events import Progress
from engine.retry.desk import Again
from engine.rowkeeper import RowKeeper
from engine.sentence import internal, sentence
from engine.specs import rank_specs
from engine.warm import Place

#: Seconds a cancelled group has to end by itself.
CANCEL_GRACE: Final = 1.0

#: What may go wrong outside the ranks; its words are written for the operator.
_KNOWN: Final = (OSError, StoreError, ManifestError, MediaError, RankServerError, StateError)

# A peer that vanished or a network that failed: the same job may well succeed next time.
# On a disk that has room again it goes on.
_PASSING: Final = frozenset({"comm", "disk"})


class JobRun:
    """One job. ``drive`` returns when it has ended, whatever happened to it."""

    def __init__(self, host: Host, row: JobRow, prepared: Prepared) -> None:
        self.began = time.time()  # Unix seconds
        self._host = host
        self._bus = host.bus
        self._loop = asyncio.get_running_loop()
        self._places = host.places.job(row.id)
        self._shared = host.places.of_version(row.version)
        self._prepared = prepared
        self._progress = Progress(row, prepared.plan, prepared.blocks)
        self._ledger = RowKeeper(host.store, host.bus, self._progress)
        self._learning = Learning(History(host.places.history), host.bus, row.id)
        self._committer = Committer(self._places, row.version or host.version, prepared.request)
        self._group: RankGroup | None = None
        self._stop: Ended | None = None
        self._stopping: asyncio.Task[GroupResult] | None = None
        self._turn: Turn | None = None
        self._before: Prepared | None = None  # what a switch goes back to, until a block is made
        self._finishing = False
        self._joining = False
        self._asked_to_end = False
        self._broken_group: GroupResult | None = None
        self._guard: JobGuard | None = None
        #: The next attempt, where a fault may pass: the queue starts it.
        self.again: Again | None = None
        self._onward = Onward(
            Kept(host.places.state, self._places, row.id), host.bus, self._progress
        )
        told = (host.bus, self._places, self._progress, self._ledger, self._committer)
        self._hearing = Hearing(*told)
        self._closing = Closing(*told, self._learning, self._onward)

    @property
    def row(self) -> JobRow:
        """The job as it is now."""
        return self._progress.row

    @property
    def told_to_end(self) -> tuple[str, str] | None:
        """The end that was asked for: its state and the reason."""
        stop = self._stop if self._asked_to_end else None
        return None if stop is None else (stop.state, stop.reason)

    # -- what is asked of a running job --------------------------------------------------------

    def cancel(self, reason: str, state: str = "cancelled") -> bool:
        """End the job soon. False when its video is already being joined."""
        if self._joining:
            return False
        if self._stop is None or not self._asked_to_end:
            self._stop = Ended(state, reason, "INFO" if state == "cancelled" else "WARNING")
        self._asked_to_end = True
        self._stop_group(reason)
        return True

    def stop_after_clip(self, reason: str) -> None:
        """Let the clip in progress be the last one."""
        self.turn(Turn("stop", reason))

    @property
    def ending(self) -> bool:
        """Its video is being joined, or it was told to end now."""
        return self._joining or self._asked_to_end

    @property
    def can_turn(self) -> bool:
        """Whether a clip boundary is to come that nothing is planned for."""
        trying = self._before is not None and not self._onward.moving
        return not (self.ending or self._turn or trying)

    @property
    def prepared(self) -> Prepared:
        """What it runs by."""
        return self._prepared

    @property
    def held_bytes(self) -> dict[str | None, int]:
        """Memory that its ranks hold, by device UUID; None: the host's."""
        return self._progress.held_bytes

    @property
    def mirror(self) -> MirrorHold | None:
        """The mirror of its ranks, to be held still for a copy; None where there is none."""
        if self._group is None or not self._onward.mirrored:
            return None
        return MirrorHold(self._group, self._onward.kept)

    def turn(self, turn: Turn) -> None:
        """Stop, pause or switch at the next clip boundary."""
        self._turn = turn
        if self._group is not None:
            self._group.send(Order("stop_after_clip", self._onward.order(turn, self._prepared)))

    def finish_now(self) -> None:
        """End the ranks and join what is committed."""
        self._finishing, self._asked_to_end, self._turn = True, True, None
        self._stop_group("finished before its time")

    def set_spike_threshold(self, count: int | None) -> None:
        """Bytes above which a rise is flagged; ``None``: by the plan."""
        if self._group is not None:
            self._group.send(Order("spike_threshold", {"bytes": count}))

    # -- from start to end ---------------------------------------------------------------------

    async def drive(self) -> LeaseHeld | None:
        """Run the job. Its end is in the row, the store, the log and an event.

        Returns the reason when a device is another engine's: the job is queued again.
        """
        try:
            await self._work()
        except LeaseHeld as held:
            await self._ledger.change(state="queued")
            return held
        except Ended as end:
            await self._end(end)
        except StateError as error:  # in another way it can
            await self._end(Ended("interrupted", with_clips(str(error), self.row.clip)))
        except _KNOWN as error:
            await self._end(Ended("failed", str(error)))
        except Exception as error:  # noqa: BLE001 - our own fault: told in full, the engine lives
            for line in traceback.format_exception(error):
                self._bus.log("DEBUG", line.rstrip(), self.row.id)
            await self._end(Ended("failed", internal(error)))
        return None

    async def join_only(self) -> None:
        """End a job that rests: join what is committed. Its end is told as ``drive`` does."""
        self._finishing = self._asked_to_end = True
        try:
            await asyncio.to_thread(self._committer.take_up)
            await self._finish()
        except Ended as end:
            await self._end(end)
        except _KNOWN as error:
            await self._end(Ended("failed", str(error)))

    async def _work(self) -> None:
        await self._ledger.change(state="preflight")
        await self._check()
        committed = await asyncio.to_thread(self._committer.take_up)
        self._progress.change(clip=committed)
        while True:
            try:
                ended = await self._launch()
            except (LeaseHeld, RankServerError, StateError) as error:
                if not await self._fall_back(str(error)):
                    raise
            else:
                if not await self._goes_on(ended):
                    break
        if not self._finishing:
            self._judge(ended)
        await self._finish()

    async def _launch(self) -> GroupResult:
        """One group of ranks, from its leases to its end."""
        plan = self._prepared.plan
        async with self._host.warm.place(self._prepared, self.row) as place:
            if self.row.state == "preflight":
                await self._ledger.change(state="loading")
            where = ", ".join(device.device for device in plan.devices)
            text = f"begins: {mode_of(plan)} on {where}, {self.row.size}"
            self._bus.log("INFO", text, self.row.id)
            self._places.create()
            self._shared.embeddings.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self._learning.launched, self._prepared)
            state = await self._onward.begin(self._prepared)
            if self._onward.going.how == "seam":
                seam = Seam(self._onward.going.seam, sentence("the video begins anew here"))
                await asyncio.to_thread(self._committer.announce, seam)
            return await self._run_group(place, state)

    async def _goes_on(self, group: GroupResult) -> bool:
        """Whether the job goes on at once with other ranks."""
        if self._stop is not None or self._finishing:
            return False
        if not (group.ok or self._onward.moving):
            return await self._fall_back(group.reason)
        self._before = None
        turn = self._turn
        if turn is None or turn.prepared is None or not group.ok or self._all_made:
            return False
        self._turn, self._before = None, self._prepared
        self._onward.switching(turn.reason)
        await self._take(turn.prepared)
        return True

    async def _fall_back(self, why: str) -> bool:
        """After a switch that failed before it made a block: go on as before it."""
        if self._before is None or self._stop is not None or self._finishing:
            return False
        failed, back, self._before = self._prepared.plan, self._before, None
        text = not_switched(failed, why, back.plan)
        self._bus.log("WARNING", text, self.row.id)
        self._onward.switching(text)
        self._progress.failures.clear()
        await self._take(back)
        return True

    async def _take(self, prepared: Prepared) -> None:
        """Let the next ranks run by another plan."""
        self._prepared = prepared
        self._progress.replan(prepared.plan, prepared.blocks)
        plan = prepared.plan
        self._bus.publish(PlanMade(job=self.row.id, plan=plan.to_dict()))
        await self._ledger.change(
            mode=plan.mode, ranks=plan.world_size, request=prepared.request.to_dict()
        )

    @property
    def _all_made(self) -> bool:
        return self.row.clip >= self.row.clips

    async def _check(self) -> None:
        """Once more before devices are touched: files may have changed while the job waited."""
        request = self._prepared.request
        folders = (self._places.folder, Path(str(self.row.output)).parent)
        try:
            machine = await self._host.machine()
            prepared = await asyncio.to_thread(prepare, request, machine, folders)
        except PreflightError as error:
            # What a job has made already is not given up for a disk or a device that is full now.
            lasts = error.kind == "refused" and self.row.clip
            raise Ended("interrupted" if lasts else "failed", str(error)) from error
        self._obey()
        self._prepared = prepared
        self._progress.replan(prepared.plan, prepared.blocks)
        self._bus.publish(PlanMade(job=self.row.id, plan=prepared.plan.to_dict()))

    async def _run_group(self, place: Place, state: StateSpec) -> GroupResult:
        self._stopping = None
        committing = self._loop.create_task(
            self._committer.run(self._hearing.committed, self._unkept)
        )
        self._guard = guard = JobGuard(
            self._bus, self.row, self._prepared, self._host, self._give_up
        )
        try:
            self._group = group = await place.begin(
                self._host.server,
                rank_specs(self.row.id, self._prepared, self._places, self._shared, place, state),
                on_report=self._on_report,
                on_log=self._on_log,
                on_exit=self._hearing.exit,
                env={**guard.environment(), **self.row.environment},
            )
            for process in group.ranks:
                self._progress.ranks[process.rank].pid = process.pid
                self._bus.publish(self._progress.rank_event(process.rank, time.time()))
            if self._stop is not None:
                self._stop_group(self._stop.reason)
            if self._finishing:
                self._stop_group("finished before its time")
            if self._turn is not None:
                self.turn(self._turn)
            watching = self._loop.create_task(guard.watch(group))
            try:
                return await group.over
            finally:
                watching.cancel()
        finally:
            if self._group is not None and not self._group.over.done():
                await self._group.stop("the engine gave the job up")
            if self._group is not None and self._group.kept:
                self._group = None  # it is nobody's, or another job's, from here on
            self._committer.close()
            await committing
            await guard.close()

    def _give_up(self, reason: str) -> None:
        """The guard ends a job that stands still; what is committed is kept."""
        if self._stop is None:
            self._stop = Ended("interrupted", reason)
        self._stop_group(reason)

    def _judge(self, group: GroupResult) -> None:
        """Turn a group's end into the job's, or return when every rank did its part.

        Raises:
            Ended: the job ends here.
        """
        if group.leftover:
            pids = ", ".join(map(str, group.leftover))
            text = sentence("processes {pids} survive SIGKILL (state D)", pids=pids)
            self._bus.log("ERROR", text, self.row.id)
        stuck = self._guard is not None and self._guard.exceeded is not None
        if not (group.ok or self._asked_to_end) and (stuck or not group.stopped):
            self._broken_group = group
        self._obey()
        if group.ok and self._all_made:
            return
        clips = self.row.clip
        if group.ok:
            early = sentence("the ranks ended before the last clip")
            why = with_clips(self._turn.reason if self._turn else early, clips)
            state, level = ("paused", "INFO") if self._pausing else ("interrupted", "WARNING")
            raise Ended(state, why, level)
        kind = group.failed.data.get("kind") if group.failed is not None else None
        if kind is None or kind in _PASSING or (kind == "oom" and self._pausing):
            raise Ended("interrupted", with_clips(group.reason, clips))
        raise Ended("failed", group.reason)

    async def _finish(self) -> None:
        self._joining = True
        self._tell_undone(sentence("its last clip was made before"))
        await self._closing.done(self._prepared, early=self._finishing)

    async def _end(self, end: Ended) -> None:
        if self._broken_group is not None and self._pausing and end.state == "interrupted":
            # It was to stop and has: it is not started again.
            self._broken_group, end = None, Ended("paused", end.reason, end.level)
        await self._closing.settle(end)
        if self._broken_group is not None and self._guard is not None:
            failures = tuple(self._progress.failures)
            fault = await asyncio.to_thread(self._guard.fault, self._broken_group, failures)
            peaks = {n: tally.peak_bytes for n, tally in enumerate(self._progress.ranks)}
            measured = {rank: peak for rank, peak in peaks.items() if peak}
            self.again = await self._host.desk.decide(self.row, self._prepared, fault, measured)
            if self._asked_to_end and self._stop is not None:  # while that was being decided
                self.again, end = None, self._stop
            if self.again is not None:
                self._tell_undone(sentence("its ranks ended before"))
        await self._closing.end(self._prepared, end, self.again)

    @property
    def _pausing(self) -> bool:
        return self._turn is not None and self._turn.kind == "pause"

    def _tell_undone(self, why: str) -> None:
        """What was promised for the next clip boundary does not come about."""
        if self._turn is not None and self._turn.kind != "stop":
            text = not_turned(self._turn.kind, self._turn.reason, why)
            self._bus.log("WARNING", text, self.row.id)

    def _obey(self) -> None:
        if self._stop is not None:
            raise self._stop

    def _stop_group(self, reason: str) -> None:
        if self._group is not None and self._stopping is None:
            self._stopping = self._loop.create_task(self._group.stop(reason, CANCEL_GRACE))

    def _on_report(self, report: Report) -> None:
        self._hearing.report(report)
        self._onward.heard(report)
        if self._guard is not None:
            self._guard.heard(report)

    def _on_log(self, log: RankLog) -> None:
        if self._guard is not None:
            self._guard.line(log)
        self._hearing.line(log)

    def _unkept(self, error: str) -> None:
        """A clip cannot be kept (a full disk): working on would be for nothing."""
        if self._stop is None:
            self._stop = Ended("interrupted", error)
        self._stop_group(error)

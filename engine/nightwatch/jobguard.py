"""Watches one running job: the two limits, silent ranks, and what is kept before it is ended.

A rank that dies is seen at once by its group; this sees the ones that live and do nothing. Before
such a group is ended, every rank's stacks are asked for: the one that hangs is told by the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from engine.bus import Bus
from engine.guard.limits import END, Limits, Watch, silent_ranks
from engine.guard.stacks import Asked, dump_stacks
from engine.jobs.paths import Places
from engine.messages import FindingRaised, JobRow
from engine.nightwatch.incident import IncidentFolder, Kept
from engine.nightwatch.words import hang_remedies
from engine.preflight import Prepared
from engine.ranks.group import RankGroup
from engine.ranks.outcome import GroupResult, RankLog
from engine.ranks.protocol import Report
from engine.report_events import Failure
from engine.retry.fault import Fault, fault_of
from engine.sentence import sentence

#: Seconds without a word after which a rank is told of (heartbeats come twice a second).
TOLD_SECONDS: Final = 15.0
#: Seconds in which stacks and dumps arrive, and the quiet after which they are complete.
STACKS_SECONDS: Final = 4.0
_QUIET_SECONDS: Final = 0.4
_POLL_SECONDS: Final = 0.1
#: A stack of many threads is long; more than this is no stack any more.
_MOST_LINES: Final = 4_000
#: Captured lines of each rank by which a fault is judged.
_LAST_WORDS: Final = 200
_BUSY: Final = frozenset({"spawned", "loading", "encoding"})

#: Told to a hang's finding.
HANG: Final = "hang_no_progress"


class Keeper(Protocol):
    """What of the engine a guard goes by."""

    limits: Limits
    places: Places


class JobGuard:
    """One job's attempt. The engine's loop only.

    Args:
        row, prepared: what runs.
        keeper: the limits, and where incidents are kept.
        give_up: ends the job as interrupted; called with the reason.
    """

    def __init__(
        self,
        bus: Bus,
        row: JobRow,
        prepared: Prepared,
        keeper: Keeper,
        give_up: Callable[[str], None],
    ) -> None:
        plan = prepared.plan
        self._bus = bus
        self._job = row.id
        self._plan = plan
        self._limits = keeper.limits.of_job(row.environment)
        self._folder = IncidentFolder(keeper.places.incidents, row.id, row.attempt)
        self._give_up = give_up
        pace = plan.seconds_per_block
        total = None if pace is None else pace * prepared.blocks
        self._watch = Watch(self._limits, predicted_block=pace, predicted_total=total)
        self._last_words: dict[int, deque[str]] = {}
        self._phases = {device.rank: "spawned" for device in plan.devices}
        self._stacks: dict[int, list[str]] | None = None  # while they are asked for
        self._heard_at = 0.0
        self._told: set[int] = set()
        #: "block" | "wall" | "silence" once the guard has ended the job.
        self.exceeded: str | None = None

    def environment(self) -> dict[str, str]:
        """What the ranks' environment needs so that a hang can be understood."""
        if self._plan.world_size < 2 or not self._plan.devices[0].device.startswith("cuda"):
            return {}
        return self._folder.environment()

    # -- what is heard -------------------------------------------------------------------------

    def heard(self, report: Report) -> None:
        """A report of a rank."""
        if report.kind == "phase":
            self._phases[report.rank] = str(report.data.get("phase"))
            phases = self._phases.values()
            if "decoding" in phases and "running" not in phases:
                self._watch.decoding()
            elif not _BUSY.intersection(phases):
                self._watch.running()
        elif report.kind == "step":
            self._watch.running()
        elif report.kind == "block":
            self._watch.block()

    def line(self, log: RankLog) -> None:
        """A captured line: part of a stack while stacks are asked for, else of the last words."""
        if self._stacks is not None and log.stream == "stderr":
            lines = self._stacks.setdefault(log.rank, [])
            if len(lines) < _MOST_LINES:
                lines.append(log.text)
                self._heard_at = time.monotonic()
        else:
            words = self._last_words.setdefault(log.rank, deque(maxlen=_LAST_WORDS))
            words.append(log.text)

    def fault(self, group: GroupResult, failures: Iterable[Failure]) -> Fault:
        """What ended the job, once its group is over. Takes a moment: call it in a thread."""
        words = self._last_words.get(-1 if group.root is None else group.root, ())
        return fault_of(group, self.exceeded, failures, words)

    async def close(self) -> None:
        """The group has ended: keep what NCCL wrote by itself, leave no litter."""
        dumps = await asyncio.to_thread(self._folder.tidy)
        if dumps and self.exceeded is None:
            text = sentence(
                "NCCL's flight recorder wrote {dumps} dumps: {path}",
                dumps=len(dumps),
                path=self._folder.path,
            )
            self._bus.log("WARNING", text, self._job)

    # -- the watch -----------------------------------------------------------------------------

    async def watch(self, group: RankGroup) -> None:
        """Until the group has ended, or was given up."""
        pause = min(TOLD_SECONDS / 3, (self._limits.silence or TOLD_SECONDS) / 3)
        while not group.ended.done():
            due = self._watch.due_in()
            await asyncio.sleep(pause if due is None else min(pause, due + 0.01))
            if group.ended.done():
                return
            limit, reason, rank = self._judge(group)
            if limit is not None:
                self.exceeded = limit
                await self._keep(group, reason, rank)
                self._give_up(reason)
                return

    def _judge(self, group: RankGroup) -> tuple[str | None, str, int | None]:
        """(limit, reason, rank) of what ends the job now; limit None: nothing."""
        silence = {p.rank: group.silence(p.rank) for p in group.ranks if p.exit is None}
        late = silent_ranks(silence, self._limits)
        if late:
            rank, reason = next(iter(late.items()))
            return "silence", reason, rank
        for process in group.ranks:
            seconds = silence.get(process.rank, 0.0)
            if seconds < TOLD_SECONDS:
                self._told.discard(process.rank)
            elif process.rank not in self._told:
                self._told.add(process.rank)
                text = sentence(
                    "rank {rank} (process {pid}) has said nothing for {seconds:.0f} s: "
                    "stopped, or starved?",
                    rank=process.rank,
                    pid=process.pid,
                    seconds=seconds,
                )
                self._bus.log("WARNING", text, self._job, process.rank)
        decision = self._watch.decide()
        if decision.action == END:
            return decision.limit, decision.reason, None
        return None, "", None

    # -- before the end ------------------------------------------------------------------------

    async def _keep(self, group: RankGroup, reason: str, rank: int | None) -> None:
        """Stacks of all ranks and NCCL's dumps into the incident, told in log and finding."""
        text = sentence("stuck: {reason}; its stacks are asked for", reason=reason)
        self._bus.log("ERROR", text, self._job, rank)
        self._stacks, self._heard_at = {}, time.monotonic()
        answers = await asyncio.to_thread(dump_stacks, [p.identity for p in group.ranks])
        asked = {p.rank: answer for p, answer in zip(group.ranks, answers, strict=True)}
        waiting = self._folder.ask_for_dumps(asked)
        await self._gather(asked, len(waiting))
        stacks, self._stacks = self._stacks, None
        facts: dict[str, Any] = {
            "job": self._job,
            "mode": self._plan.mode,
            "phases": {str(r): phase for r, phase in self._phases.items()},
            "silence": {str(p.rank): group.silence(p.rank) for p in group.ranks},
        }
        evidence: tuple[str, ...] = ()
        try:
            kept = await asyncio.to_thread(self._folder.keep, reason, stacks, asked, facts)
        except OSError as error:
            text = sentence("the incident cannot be kept: {error}", error=error)
            self._bus.log("ERROR", text, self._job)
        else:
            text = sentence("incident kept in {kept}", kept=kept.sentence)
            self._bus.log("ERROR", text, self._job, rank)
            evidence = (kept.sentence, *_gist(kept, stacks))
        self._bus.publish(
            FindingRaised(
                id=f"job{self._job}-stuck",
                finding=HANG,
                severity="error",
                cause=sentence("Job {job} stands still: {why}.", job=self._job, why=reason),
                job=self._job,
                rank=rank,
                evidence=evidence,
                remedies=hang_remedies(nccl=bool(self.environment())),
            )
        )

    async def _gather(self, asked: dict[int, Asked], dumps: int) -> None:
        """Wait until every rank that can answer has, and nothing more comes."""
        able = {rank for rank, answer in asked.items() if answer.result == "asked"}
        deadline = time.monotonic() + STACKS_SECONDS
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            quiet = time.monotonic() - self._heard_at > _QUIET_SECONDS
            complete = able <= set(self._stacks or ())
            if quiet and complete and len(self._folder.dumps()) >= dumps:
                return


def _gist(kept: Kept, stacks: dict[int, list[str]]) -> tuple[str, ...]:
    """Where each rank stands: the innermost frame of its main thread, as faulthandler tells."""
    told = []
    for rank in kept.stacks:
        lines = stacks[rank]
        starts = [n for n, line in enumerate(lines) if line.startswith("Current thread")]
        place = starts[0] + 1 if starts else len(lines)
        if place < len(lines):
            told.append(f"rank {rank}: {lines[place].strip()}")
    return tuple(told)

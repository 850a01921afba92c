"""Events folded into the present: what alerts judge and metrics print. Pure bookkeeping, no I/O.

One writer: the thread that calls ``apply``. Nothing is invented: a reading that no device tells
stays None and shows up nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from engine.messages import (
    END_STATES,
    LIVE_STATES,
    AlertChanged,
    BlockDone,
    ClipCommitted,
    DeviceReading,
    DevicesSampled,
    EngineStarted,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    PlanMade,
    RankChanged,
    ReleaseChanged,
    Spike,
)
from engine.metrics.errors import ErrorTally
from engine.metrics.histogram import Histogram

#: Ended jobs whose figures are still told, so that a scrape sees the last of them.
KEPT_JOBS: Final = 32
#: Jobs whose version is known, so that what is counted by job is told by version.
KEPT_VERSIONS: Final = 10_000
FRAMES_PER_BLOCK: Final = 12
_RANK_GONE: Final = frozenset({"ended", "died"})


@dataclass
class JobFacts:
    """What is known of one job."""

    row: JobRow
    version: str
    predicted_fps: float | None = None
    latency: Histogram = field(default_factory=Histogram)  # seconds of work per clip
    blocks: int = 0
    last_progress: float | None = None  # wall clock of the last state change, block or clip
    fps: float | None = None
    changed: float = 0.0


@dataclass
class Facts:
    """The present of one engine, by its events.

    Attributes:
        observe: called with (job, measurement, value, t) for each single observation, i.e. the
            seconds of one clip or one block.
    """

    host: str = ""
    version: str = ""
    observe: Callable[[int, str, float, float], None] | None = None
    devices: dict[str, DeviceReading] = field(default_factory=dict)  # by uuid
    sampled: float | None = None
    host_memory_total: int | None = None
    host_memory_available: int | None = None
    jobs: dict[int, JobFacts] = field(default_factory=dict)
    ranks: dict[tuple[int, int], RankChanged] = field(default_factory=dict)
    errors: ErrorTally = field(default_factory=ErrorTally)
    spikes: int = 0
    ended_by: dict[tuple[str, str], int] = field(default_factory=dict)  # (version, state)
    versions: dict[int, str] = field(default_factory=dict)  # job → version
    releases: dict[str, ReleaseChanged] = field(default_factory=dict)  # by digest
    release_stops: int = 0  # rollouts that were paused or taken back
    alerts: dict[str, AlertChanged] = field(default_factory=dict)

    HEARD = (
        AlertChanged,
        BlockDone,
        ClipCommitted,
        DevicesSampled,
        EngineStarted,
        JobChanged,
        LogLine,
        PlanMade,
        RankChanged,
        ReleaseChanged,
        Spike,
    )

    def apply(self, event: Event) -> None:
        """Take one event; those that change nothing here are ignored."""
        match event:
            case DevicesSampled():
                self._sample(event)
            case JobChanged():
                self._job(event.job, event.t)
            case ClipCommitted():
                self._clip(event)
            case BlockDone():
                self._block(event)
            case PlanMade():
                self._plan(event)
            case RankChanged():
                self._rank(event)
            case LogLine():
                self.errors.line(event)
            case ReleaseChanged():
                self._release(event)
            case Spike():
                self.spikes += 1
            case AlertChanged():
                self._alert(event)
            case EngineStarted():
                self.host, self.version = event.host, event.version
            case _:
                pass

    def job_of(self, uuid: str) -> int | None:
        """The live job on a device, by its ranks; None for no job or more than one."""
        found = {r.job for r in self.ranks.values() if r.device_uuid == uuid}
        return found.pop() if len(found) == 1 else None

    def _sample(self, event: DevicesSampled) -> None:
        self.devices = {device.uuid: device for device in event.devices}
        self.sampled = event.t
        self.host_memory_total = event.host_memory_total
        self.host_memory_available = event.host_memory_available

    def _job(self, row: JobRow, t: float) -> None:
        known = self.jobs.get(row.id)
        version = row.version or self.version
        self.versions[row.id] = version
        while len(self.versions) > KEPT_VERSIONS:
            del self.versions[next(iter(self.versions))]
        if known is None:
            known = self.jobs[row.id] = JobFacts(row, version)
            if row.state in END_STATES:  # told at the engine's start: history, not news
                known.changed = row.ended or t
                self._forget()
                return
        if row.state != known.row.state:
            known.last_progress = t
            if row.state in END_STATES:
                ending = (version, row.state)
                self.ended_by[ending] = self.ended_by.get(ending, 0) + 1
        known.row, known.changed = row, t
        known.version = version  # a release is given to a job when it starts
        if row.fps is not None and row.state in LIVE_STATES:
            known.fps = row.fps
        if row.state in END_STATES:
            known.fps = None
            for key in [k for k in self.ranks if k[0] == row.id]:
                del self.ranks[key]
        self._forget()

    def _clip(self, event: ClipCommitted) -> None:
        known = self.jobs.get(event.job)
        if known is None:
            return
        known.latency.add(event.seconds)
        known.last_progress, known.fps = event.t, event.fps
        if self.observe is not None:
            self.observe(event.job, "latency", event.seconds, event.t)

    def _block(self, event: BlockDone) -> None:
        known = self.jobs.get(event.job)
        if known is None:
            return
        known.blocks += 1
        known.last_progress = event.t
        if self.observe is not None:
            self.observe(event.job, "block_seconds", event.seconds, event.t)

    def _plan(self, event: PlanMade) -> None:
        known = self.jobs.get(event.job)
        pace = event.plan.get("seconds_per_block")
        if known is not None and isinstance(pace, int | float) and pace > 0:
            known.predicted_fps = FRAMES_PER_BLOCK / pace

    def _rank(self, event: RankChanged) -> None:
        if event.phase in _RANK_GONE:
            self.ranks.pop((event.job, event.rank), None)
        else:
            self.ranks[event.job, event.rank] = event

    def _alert(self, event: AlertChanged) -> None:
        if event.state == "resolved":
            self.alerts.pop(event.id, None)
        else:
            self.alerts[event.id] = event

    def _release(self, event: ReleaseChanged) -> None:
        before = self.releases.get(event.release)
        stopped = event.state in ("paused", "rolled_back")
        if before is not None and stopped and before.state != event.state:
            self.release_stops += 1
        self.releases[event.release] = event

    def _forget(self) -> None:
        over = [j for j in self.jobs.values() if j.row.state in END_STATES]
        over.sort(key=lambda job: (job.changed, job.row.id))
        for job in over[: max(0, len(over) - KEPT_JOBS)]:
            del self.jobs[job.row.id]

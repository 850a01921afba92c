"""The picture in the console's mind: events go in, what the widgets draw comes out.

No Textual here and no threads: the app applies events on its own thread, tests and replay do the
same. Every change marks what it touched in ``dirty``, so that only that is drawn again.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import time
from collections import deque
from typing import Any, Final

from console import history
from console.parts import DeviceTrack, LogEntry, Panel, Preview, Track
from engine.messages import (
    END_STATES,
    LIVE_STATES,
    LOG_LEVELS,
    BlockDone,
    ClipCommitted,
    DevicesSampled,
    EngineStarted,
    EngineStopped,
    Event,
    JobChanged,
    JobRow,
    LedgerUpdated,
    LogLine,
    PlanMade,
    RankChanged,
    Snapshot,
    Spike,
    StepDone,
)

LOG_LINES: Final = 20_000  # lines kept for the log pane; the log file has all of them


class Model:
    """Everything the console knows. Apply events, then read."""

    def __init__(self) -> None:
        self.host = ""
        self.version = ""
        self.device_source = "host"
        self.connected = False
        self.stopped: str | None = None  # why the engine ended
        self.now = time.time()
        self.devices: dict[str, DeviceTrack] = {}
        self.host_memory: tuple[int | None, int | None] = (None, None)  # total, available
        self.tracks: dict[tuple[int, int], Track] = {}
        self.jobs: dict[int, JobRow] = {}
        self.plans: dict[int, dict[str, Any]] = {}
        self.preview: Preview | None = None
        self.blocks: dict[int, BlockDone] = {}  # newest block per job
        self.clips: dict[int, ClipCommitted] = {}
        self.logs: deque[LogEntry] = deque(maxlen=LOG_LINES)
        self.dirty: set[str] = {"devices", "jobs", "logs", "preview", "header", "pipeline"}
        self._log_number = 0
        self._rows: list[JobRow] | None = None  # job_rows, until a job changes
        self._handlers: dict[type[Event], Any] = {
            EngineStarted: self._engine_started,
            EngineStopped: self._engine_stopped,
            DevicesSampled: self._devices_sampled,
            RankChanged: self._rank_changed,
            LedgerUpdated: self._ledger_updated,
            Spike: self._spike,
            JobChanged: self._job_changed,
            PlanMade: self._plan_made,
            StepDone: self._step_done,
            BlockDone: self._block_done,
            ClipCommitted: self._clip_committed,
            LogLine: self._log_line,
        }

    def next_empty(self) -> Model:
        """An empty picture for another moment; its log lines are numbered on from here."""
        empty = Model()
        empty._log_number = self._log_number
        return empty

    def become(self, other: Model) -> None:
        """Take over another picture (a replay's, at another moment); all is drawn again."""
        mine = {"_handlers": self._handlers}
        self.__dict__.update({**other.__dict__, **mine})
        self._rows = None
        self.dirty = {"devices", "jobs", "logs", "preview", "header", "pipeline"}

    # -- in ----------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Take one event in. Kinds this console does not show are ignored."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Take the engine's present state as the ground; events told since stay."""
        self.connected = True
        self.device_source = snapshot.device_source
        self.jobs.update((job.id, job) for job in snapshot.jobs)
        self._rows = None
        self.plans.update(snapshot.plans)
        if snapshot.devices:
            self._devices_sampled(DevicesSampled(devices=snapshot.devices, t=self.now))
        for rank in snapshot.ranks:
            self._rank_changed(rank)
        for ledger in snapshot.ledgers:
            self._ledger_updated(ledger)
        newest = snapshot.logs[-1].t if snapshot.logs else 0.0
        since = [entry for entry in self.logs if entry.t > newest]
        self.logs.clear()
        for line in snapshot.logs:
            self._log_line(line)
        for entry in since:
            self._log_number += 1
            entry.number = self._log_number
            self.logs.append(entry)
        self.dirty |= {"devices", "jobs", "logs", "header", "pipeline"}

    def _engine_started(self, event: EngineStarted) -> None:
        self.host, self.version, self.device_source = event.host, event.version, event.device_source
        self.connected = True
        self.stopped = None  # a recording may hold one engine after another
        self.dirty |= {"header", "devices"}

    def _engine_stopped(self, event: EngineStopped) -> None:
        self.stopped = event.reason
        self.dirty |= {"header", "devices", "jobs"}

    def _devices_sampled(self, event: DevicesSampled) -> None:
        self.host_memory = (event.host_memory_total, event.host_memory_available)
        seen = {reading.uuid for reading in event.devices}
        for uuid in [u for u in self.devices if u not in seen]:
            del self.devices[uuid]
        for reading in event.devices:
            track = self.devices.get(reading.uuid)
            if track is None:
                track = self.devices[reading.uuid] = DeviceTrack(reading)
            track.reading = reading
            self._book(track, event.t)
        self.dirty |= {"devices", "header"}

    def _book(self, track: DeviceTrack, t: float) -> None:
        """Split a device's memory by owner: what ranks book, and the rest as foreign."""
        reading = track.reading
        if reading.memory_used is not None:
            owners: dict[str, float] = {}
            for rank in self._ranks_on(reading.uuid):
                if rank.ledger is not None and not rank.gone:
                    for owner, count in rank.ledger.by_owner.items():
                        owners[owner] = owners.get(owner, 0) + count
            booked = sum(owners.values())
            if reading.memory_used > booked:
                owners["foreign"] = owners.get("foreign", 0) + reading.memory_used - booked
            level = history.stack(owners)
            peak = history.raised(level, float(reading.memory_peak or 0), {})
            track.memory.add(t, level, peak)
        if reading.temperature_c is not None:
            track.temperature.add(t, history.scalar("temperature", reading.temperature_c))
        if reading.utilization is not None:
            track.utilization.add(t, history.scalar("utilization", reading.utilization))

    def _ranks_on(self, uuid: str) -> list[Track]:
        return [t for t in self.tracks.values() if t.change and t.change.device_uuid == uuid]

    def _track(self, job: int, rank: int) -> Track:
        track = self.tracks.get((job, rank))
        if track is None:
            track = self.tracks[job, rank] = Track(job, rank)
            self._forget_old(job)
        return track

    def _forget_old(self, job: int) -> None:
        """Ranks of earlier jobs leave once a later job's appear and theirs have ended."""
        for key in [k for k, t in self.tracks.items() if k[0] < job and t.gone]:
            del self.tracks[key]

    def _rank_changed(self, event: RankChanged) -> None:
        track = self._track(event.job, event.rank)
        track.change = event
        if track.gone:
            track.memory.end(event.t)
        self.dirty |= {"devices", "pipeline", "header"}

    def _ledger_updated(self, event: LedgerUpdated) -> None:
        track = self._track(event.job, event.rank)
        track.ledger = event
        level = history.stack(event.by_owner)
        peak = history.raised(level, float(event.peak), event.peak_by_owner)
        track.memory.add(event.t, level, peak)
        if track.gone and track.change is not None:
            track.memory.end(track.change.t)
        uuid = track.change.device_uuid if track.change else None
        device = self.devices.get(uuid) if uuid else None
        if device is not None and len(self._ranks_on(device.reading.uuid)) == 1:
            # Between two readings of the device the rank's own report is the better peak.
            foreign = max((device.reading.memory_used or 0) - event.total, 0)
            whole = dict(event.by_owner)
            whole["foreign"] = whole.get("foreign", 0) + foreign
            ground = history.stack(whole)
            top = history.raised(ground, event.peak + foreign, event.peak_by_owner)
            device.memory.add(event.t, ground, top)
        self.dirty.add("devices")

    def _spike(self, event: Spike) -> None:
        self._track(event.job, event.rank).spikes.append(event)
        self.dirty |= {"devices", "jobs"}

    def _job_changed(self, event: JobChanged) -> None:
        self.jobs[event.job.id] = event.job
        self._rows = None
        self.dirty |= {"jobs", "header", "pipeline"}

    def _plan_made(self, event: PlanMade) -> None:
        self.plans[event.job] = event.plan
        self.dirty |= {"devices", "header", "pipeline", "jobs"}

    def _step_done(self, event: StepDone) -> None:
        self._track(event.job, event.rank).step = event
        self.dirty.add("pipeline")

    def _block_done(self, event: BlockDone) -> None:
        self.blocks[event.job] = event
        width, height = event.preview_width, event.preview_height
        if width > 0 and height > 0 and event.preview_rgb:
            try:
                rgb = base64.b64decode(event.preview_rgb, validate=True)
            except (binascii.Error, ValueError):
                rgb = b""
            if len(rgb) == width * height * 3:
                self.preview = Preview(event.job, event.clip, event.block, width, height, rgb)
                self.dirty.add("preview")
        self.dirty.add("pipeline")

    def _clip_committed(self, event: ClipCommitted) -> None:
        self.clips[event.job] = event
        self.dirty.add("pipeline")

    def _log_line(self, event: LogLine) -> None:
        source = event.source if event.rank is None else f"rank {event.rank}"
        level = event.level if event.level in LOG_LEVELS else "INFO"
        self._log_number += 1
        self.logs.append(
            LogEntry(self._log_number, event.t, level, source, event.text, event.where)
        )
        self.dirty.add("logs")

    # -- out ---------------------------------------------------------------------------------

    def panels(self) -> list[Panel]:
        """The panels of the overview: GPUs by index, then ranks without one, or the host alone."""
        tracks = sorted(self.tracks.values(), key=lambda t: (t.job, t.rank))
        live = [t for t in tracks if not t.gone]
        if live:
            # Dead ranks of a job whose group still lives belong to the picture.
            jobs = {t.job for t in live}
            tracks = [t for t in tracks if t.job in jobs]
        elif tracks:
            newest = max(t.job for t in tracks)
            tracks = [t for t in tracks if t.job == newest]
        panels: list[Panel] = []
        placed: set[tuple[int, int]] = set()
        for device in sorted(self.gpus(), key=lambda d: d.reading.index):
            mine = [t for t in tracks if t.change and t.change.device_uuid == device.reading.uuid]
            placed.update((t.job, t.rank) for t in mine)
            panels.append(
                Panel(
                    device.reading.uuid,
                    "device",
                    f"GPU {device.reading.index}",
                    device,
                    tuple(mine),
                )
            )
        several = len({t.job for t in tracks}) > 1
        for track in tracks:
            if (track.job, track.rank) in placed:
                continue
            name = f"rank {track.rank}"
            if several:
                name = f"job {track.job} {name}"
            panels.append(Panel(f"{track.job}:{track.rank}", "rank", name, None, (track,)))
        host = self.host_track()
        if not panels and host is not None:
            panels.append(Panel(host.reading.uuid, "host", "host", host, ()))
        return panels

    def gpus(self) -> list[DeviceTrack]:
        return [d for d in self.devices.values() if d.reading.source != "host"]

    def host_track(self) -> DeviceTrack | None:
        return next((d for d in self.devices.values() if d.reading.source == "host"), None)

    def job_rows(self) -> list[JobRow]:
        """Live jobs first, then queued ones in their order, then ended ones, newest first."""

        def place(job: JobRow) -> tuple[int, float]:
            if job.state in LIVE_STATES or job.state == "paused":
                return (0, job.id)
            if job.state not in END_STATES:
                return (1, job.id)
            return (2, -job.id)

        if self._rows is None:
            self._rows = sorted(self.jobs.values(), key=place)
        return self._rows

    def live_jobs(self) -> list[JobRow]:
        return [job for job in self.jobs.values() if job.state in LIVE_STATES]

    def queued_jobs(self) -> list[JobRow]:
        return [j for j in self.jobs.values() if j.state not in LIVE_STATES | END_STATES]

    def current_job(self) -> JobRow | None:
        """The job the pipeline strip and the header speak of: the newest live one."""
        return max(self.live_jobs(), key=lambda job: job.id, default=None)

    def log_after(self, number: int) -> list[LogEntry]:
        """Entries with a higher number than ``number``, oldest first."""
        if not self.logs or self.logs[-1].number <= number:
            return []
        if self.logs[0].number > number:
            return list(self.logs)
        entries = list(self.logs)
        return entries[bisect.bisect_right(entries, number, key=lambda e: e.number) :]

    def taken(self) -> set[str]:
        """What changed since the last call."""
        dirty, self.dirty = self.dirty, set()
        return dirty

"""Devices and ranks as the console knows them: readings, memory by owner, spikes, steps."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Mapping
from typing import Any, Final

from console import history
from console.history import Series, Stack
from console.parts import DeviceTrack, Panel, Track
from engine.messages import (
    BlockDone,
    DeviceReading,
    DevicesDrained,
    DevicesSampled,
    Event,
    LedgerUpdated,
    LogLine,
    RankChanged,
    Snapshot,
    Spike,
    StepDone,
)
from engine.sentence import sentence


class Machines:
    """Devices by uuid, ranks by (job, rank)."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceTrack] = {}
        self.host_memory: tuple[int | None, int | None] = (None, None)  # total, available
        self.tracks: dict[tuple[int, int], Track] = {}
        self.drained: frozenset[str] = frozenset()  # uuids of devices that get no new work
        self._users: set[str] = set()  # who ran a rank that was known here

    def take(self, event: Event) -> set[str]:
        """Take one event in; what it changed, in the words of ``Model.dirty``."""
        match event:
            case DevicesSampled():
                self._devices_sampled(event)
                return {"devices", "header"}
            case DevicesDrained():
                self.drained = frozenset(event.devices)
                return {"devices", "jobs"}
            case RankChanged():
                self._rank_changed(event)
                return {"devices", "pipeline", "header"}
            case LedgerUpdated():
                self._ledger_updated(event)
                return {"devices"}
            case LogLine(source="rank", job=int() as job, rank=int() as rank) if (
                (job, rank) in self.tracks
                and "allowed" in event.text
                and (cap := _allowed(event.text)) is not None
            ):
                for track in (t for t in self.tracks.values() if t.job == job):
                    track.allowed = cap  # a job's ranks are capped alike
                return {"devices"}
            case Spike():
                self._track(event.job, event.rank).spikes.append(event)
                return {"devices", "jobs"}
            case StepDone():
                self._track(event.job, event.rank).steps.append(event)
                return {"pipeline"}
            case BlockDone(rank=int() as rank, decode_seconds=float()):
                bare = dataclasses.replace(event, preview_rgb="")
                self._track(event.job, rank).decodes.append(bare)
                return set()  # the book takes it as well, and says what it changes
            case _:
                return set()

    def take_snapshot(self, snapshot: Snapshot, now: float) -> None:
        if snapshot.devices:
            self._devices_sampled(DevicesSampled(devices=snapshot.devices, t=now))
        self.drained = frozenset(snapshot.drained)
        for event in snapshot.ranks:
            self.take(event)
        for ledger in snapshot.ledgers:
            if (ledger.job, ledger.rank) in self.tracks:  # else its job is over, and a later one on
                self.take(ledger)

    def _devices_sampled(self, event: DevicesSampled) -> None:
        self.host_memory = (event.host_memory_total, event.host_memory_available)
        seen = {reading.uuid for reading in event.devices}
        for uuid in [u for u in self.devices if u not in seen]:
            del self.devices[uuid]
        for reading in event.devices:
            track = self.devices.get(reading.uuid)
            if track is None:
                track = self.devices[reading.uuid] = DeviceTrack(reading)
            track.reading = _measured(reading)
            self._book(track, event.t)

    def _book(self, track: DeviceTrack, t: float) -> None:
        """Split a device's memory by owner: what ranks book, and what they do not."""
        reading = track.reading
        if reading.memory_used is not None:
            owners: dict[str, float] = {}
            for rank in self._ranks_on(reading.uuid):
                if rank.ledger is not None and not rank.gone:
                    for owner, count in rank.ledger.by_owner.items():
                        owners[owner] = owners.get(owner, 0) + count
            beside = self._unbooked(reading, owners)
            if reading.source == "host":  # all else that runs there is no intruder
                beside = {"other": sum(beside.values())} if beside else {}
            level = history.stack(owners | beside)
            track.memory.add(t, level, _risen(track.memory, level, reading.memory_peak or 0, t))
        if reading.temperature_c is not None:
            track.temperature.add(t, history.scalar("temperature", reading.temperature_c))
        if reading.utilization is not None:
            track.utilization.add(t, history.scalar("utilization", reading.utilization))

    def _known_users(self, reading: DeviceReading) -> set[str]:
        """Who runs, or ran, the ranks that are known here, as far as readings told."""
        holders = (p for p in reading.processes if (p.job, p.rank) in self.tracks)
        self._users.update(p.user for p in holders if p.user)
        return self._users

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
        before = track.change.pid if track.change is not None else None
        if before is not None and event.pid is not None and before != event.pid:
            # Another process took the rank's place: a retry, or another mode.
            track.steps.clear()
            track.decodes.clear()
            track.ledger = track.memory.top = None  # of the plan before
        track.change = self._as_told_now(event)
        if track.gone:
            track.memory.end(event.t)

    def _as_told_now(self, event: RankChanged) -> RankChanged:
        """Recordings of earlier versions call a rank dead that only ended with its group."""
        if event.phase != "died" or event.exit_code != -signal.SIGTERM:
            return event
        others = (t.change for t in self.tracks.values() if t.job == event.job)
        first = next((c.rank for c in others if c is not None and c.phase == "died"), None)
        if first in (None, event.rank):
            return event
        reason = sentence("ended: rank {rank} had failed", rank=first)
        return dataclasses.replace(event, phase="ended", reason=reason)

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
            beside = self._unbooked(device.reading, event.by_owner)
            ground = history.stack(dict(event.by_owner) | beside)
            rest = ground[0] - sum(event.by_owner.values())
            top = history.raised(ground, event.peak + rest, event.peak_by_owner)
            device.memory.add(event.t, ground, top)

    def _unbooked(self, reading: DeviceReading, owners: Mapping[str, float]) -> dict[str, float]:
        """What a device holds beyond its ranks' books, to be put in place of their owners.

        A rank that loads books what it holds only at the end of a step, one that waits for the next
        job books nothing: what the driver knows to be a rank's of the same user is ``other`` then,
        and never another process's.
        """
        booked, used = sum(owners.values()), reading.memory_used or 0
        holders = [p for p in reading.processes if p.rank is not None]
        users = self._known_users(reading)
        own = sum(
            p.memory.get(reading.uuid) or 0
            for p in holders
            if (p.job, p.rank) in self.tracks or p.user in users
        )
        late = min(max(0.0, own - booked), max(0.0, used - booked))
        beside = {"other": late, "foreign": max(0.0, used - booked - late)}
        return {name: owners.get(name, 0) + size for name, size in beside.items() if size}

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
                    device.reading.uuid in self.drained,
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
            out = host.reading.uuid in self.drained
            panels.append(Panel(host.reading.uuid, "host", "host", host, (), out))
        return panels

    def gpus(self) -> list[DeviceTrack]:
        return [d for d in self.devices.values() if d.reading.source != "host"]

    def names(self) -> dict[str, str]:
        """What GPUs are called on the pages, by uuid."""
        return {d.reading.uuid: f"GPU {d.reading.index}" for d in self.gpus()}

    def host_track(self) -> DeviceTrack | None:
        return next((d for d in self.devices.values() if d.reading.source == "host"), None)


def _risen(memory: Series, level: Stack, peak: float, t: float) -> Stack:
    """What made up a device's peak since its last reading: what it held then, where it holds less
    now. Whoever died in between held it."""
    before = memory.level
    fresh = memory.last is not None and t - memory.last <= memory.hold
    if fresh and before is not None and level[0] < before[0] <= peak:
        return history.raised(before, peak, {})
    return history.raised(level, peak, {})


def _allowed(text: str) -> int | None:
    """The allocator's cap in bytes, where a line tells it."""
    # Triage takes 40 ms to load: only when something was said that needs it.
    from engine.triage.details import allowed_bytes

    return allowed_bytes(text)


def _measured(reading: DeviceReading) -> DeviceReading:
    """The reading, figures that are no numbers left out: some drivers answer so."""
    wrong: dict[str, Any] = {
        name: None
        for name in _FIGURES
        if (value := getattr(reading, name)) is not None and not math.isfinite(value)
    }
    return dataclasses.replace(reading, **wrong) if wrong else reading


_FIGURES: Final = (
    "temperature_c", "temperature_limit_c", "utilization", "power_w", "power_limit_w",
)  # fmt: skip

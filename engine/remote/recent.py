"""Readings of the last minutes, for a console that attaches in the middle of a job.

Plots need a past. Kept at one reading in ``SPACING_SECONDS`` for each device and rank, with the
highest of the peaks in between, so that no spike disappears. Where each rank lay is kept, too, and
what it held by the driver: without that, memory of the past is nobody's.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable
from typing import Final, TypeVar

from engine.messages import (
    DeviceReading,
    DevicesSampled,
    Event,
    LedgerUpdated,
    RankChanged,
    Spike,
)

#: The longest that a live plot covers.
KEPT_SECONDS: Final = 1200.0
SPACING_SECONDS: Final = 2.0
KEPT_SPIKES: Final = 500
_GONE: Final = ("ended", "died")
T = TypeVar("T", DevicesSampled, LedgerUpdated)


class Recent:
    """A listener; the engine's thread only."""

    def __init__(self, kept: float = KEPT_SECONDS, spacing: float = SPACING_SECONDS) -> None:
        self._kept = kept
        self._spacing = spacing
        self._devices: deque[DevicesSampled] = deque()
        self._ledgers: dict[Hashable, deque[LedgerUpdated]] = {}
        self._spikes: deque[Spike] = deque(maxlen=KEPT_SPIKES)
        # Of each rank's processes, the earlier first: where it began, what was heard of it last.
        self._ranks: dict[tuple[int, int], dict[int, tuple[RankChanged, RankChanged]]] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case DevicesSampled():
                lean = dataclasses.replace(event, devices=tuple(map(_lean, event.devices)))
                if self._same_slot(self._devices, lean):
                    lean = _devices_merged(self._devices.pop(), lean)
                self._devices.append(lean)
                self._forget(event.t)
            case LedgerUpdated():
                ring = self._ledgers.setdefault((event.job, event.rank), deque())
                if self._same_slot(ring, event):
                    event = _ledgers_merged(ring.pop(), event)
                ring.append(event)
            case RankChanged():
                processes = self._ranks.setdefault((event.job, event.rank), {})
                first, _ = processes.get(event.pid, (event, event))
                processes[event.pid] = (first, event)
            case Spike():
                self._spikes.append(event)
            case _:
                pass

    def events(self) -> list[Event]:
        """What is kept, in the order of happening."""
        found: list[Event] = [*self._devices, *self._spikes]
        for ring in self._ledgers.values():
            found.extend(ring)
        for processes in self._ranks.values():
            for first, last in processes.values():
                found.extend([first] if last is first else [first, last])
        return sorted(found, key=lambda event: event.t)

    def _same_slot(self, ring: deque[T], event: T) -> bool:
        return bool(ring) and int(ring[-1].t // self._spacing) == int(event.t // self._spacing)

    def _forget(self, now: float) -> None:
        """Drop what is too old; ranks report only while they live, so the clock is the devices'."""
        oldest = now - self._kept
        while self._devices and self._devices[0].t < oldest:
            self._devices.popleft()
        for key, ring in list(self._ledgers.items()):
            while ring and ring[0].t < oldest:
                ring.popleft()
            if not ring:
                del self._ledgers[key]
        for key, processes in list(self._ranks.items()):
            *_, newest = processes
            for pid, (_, last) in list(processes.items()):
                if last.t < oldest and (last.phase in _GONE or pid != newest):
                    del processes[pid]
            if not processes:
                del self._ranks[key]
        while self._spikes and self._spikes[0].t < oldest:
            self._spikes.popleft()


def _lean(device: DeviceReading) -> DeviceReading:
    """Of its processes the ranks alone: what they hold is not another's."""
    ranks = (p for p in device.processes if p.rank is not None)
    return dataclasses.replace(
        device, processes=tuple(dataclasses.replace(p, command=None) for p in ranks)
    )


def _ledgers_merged(before: LedgerUpdated, after: LedgerUpdated) -> LedgerUpdated:
    owners = before.peak_by_owner.keys() | after.peak_by_owner.keys()
    peaks = {o: max(before.peak_by_owner.get(o, 0), after.peak_by_owner.get(o, 0)) for o in owners}
    return dataclasses.replace(after, peak=max(before.peak, after.peak), peak_by_owner=peaks)


def _devices_merged(before: DevicesSampled, after: DevicesSampled) -> DevicesSampled:
    peaks = {d.uuid: _peak(d) for d in before.devices}

    def merged(device: DeviceReading) -> DeviceReading:
        known = [p for p in (peaks.get(device.uuid), _peak(device)) if p is not None]
        return dataclasses.replace(device, memory_peak=max(known, default=None))

    return dataclasses.replace(after, devices=tuple(merged(d) for d in after.devices))


def _peak(device: DeviceReading) -> int | None:
    return device.memory_used if device.memory_peak is None else device.memory_peak

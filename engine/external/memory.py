"""Device memory of a command's tree, as the driver tells it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from engine.messages import DeviceReading


@dataclass
class TreeMemory:
    """Peaks per device (UUID) of one job, from readings.

    Where the driver lists none of the tree's processes (a container with PIDs of its own), what the
    device holds above the level at the start is taken instead: ``estimated`` then says so.
    """

    before: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    estimated: bool = False

    def begin(self, devices: Iterable[DeviceReading]) -> None:
        """The level before the program starts."""
        self.before = {d.uuid: d.memory_used for d in devices if d.memory_used is not None}

    def take(self, devices: Iterable[DeviceReading], pids: Collection[int]) -> dict[str, int]:
        """Bytes per device now; a device that does not tell is left out."""
        now: dict[str, int] = {}
        for device in devices:
            if device.uuid not in self.before:
                continue
            own = [
                bytes_
                for process in device.processes
                if process.pid in pids and (bytes_ := process.memory.get(device.uuid)) is not None
            ]
            if own:
                now[device.uuid] = sum(own)
            elif device.memory_used is not None:
                above = max(0, device.memory_used - self.before[device.uuid])
                self.estimated = self.estimated or above > 0
                now[device.uuid] = above
            self.peak[device.uuid] = max(now.get(device.uuid, 0), self.peak.get(device.uuid, 0))
        return now

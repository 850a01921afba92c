"""The thread that looks at devices: memory often, so that spikes are seen; the rest each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from engine.messages import DevicesSampled
from engine.telemetry.devices import DeviceSource
from engine.telemetry.host import host_memory

MEMORY_HZ: Final = 20.0
READ_SECONDS: Final = 1.0


class Sampler:
    """Reads a source on its own thread and tells ``on_sample``, on that thread.

    ``memory_peak`` of a reading is the highest memory seen since the reading before it, so a
    spike of one fast sample is not lost between two slow ones.

    Args:
        source: read from the sampler's thread alone, and closed by ``stop``.
        on_sample: must return at once.
        memory_hz: memory samples per second.
        read_seconds: seconds between full readings.
    """

    def __init__(
        self,
        source: DeviceSource,
        on_sample: Callable[[DevicesSampled], None],
        *,
        memory_hz: float = MEMORY_HZ,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        if memory_hz <= 0 or read_seconds <= 0:
            raise ValueError("memory_hz and read_seconds must be positive")
        self._source = source
        self._on_sample = on_sample
        self._fast = 1.0 / memory_hz
        self._slow = read_seconds
        self._peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="avatop-sampler", daemon=True)

    def start(self) -> None:
        """Begin; the first full reading is told at once."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and close the source."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        self._source.close()

    def sample_memory(self) -> None:
        """One fast sample."""
        for uuid, used in self._source.memory().items():
            if used is not None:
                self._peaks[uuid] = max(used, self._peaks.get(uuid, 0))

    def read(self) -> DevicesSampled:
        """One full reading, with the peaks since the last."""
        devices = []
        for reading in self._source.read():
            seen = [
                m for m in (reading.memory_used, self._peaks.get(reading.uuid)) if m is not None
            ]
            devices.append(replace(reading, memory_peak=max(seen, default=None)))
        self._peaks.clear()
        total, available = host_memory()
        return DevicesSampled(
            devices=tuple(devices), host_memory_total=total, host_memory_available=available
        )

    def _run(self) -> None:
        slow_due = time.monotonic()
        while not self._stop.is_set():
            began = time.monotonic()
            self.sample_memory()
            if began >= slow_due:
                self._on_sample(self.read())
                # Late by a suspended machine or a slow driver: go on from now, no burst.
                slow_due = max(slow_due + self._slow, time.monotonic())
            self._stop.wait(max(0.0, began + self._fast - time.monotonic()))

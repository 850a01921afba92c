"""The host as a device: what ranks on the CPU share where there is no GPU."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Final

import psutil

from engine.messages import DeviceReading

_CGROUP: Final = Path("/sys/fs/cgroup")
_LEAST: Final = 0.1  # seconds over which a load means anything (psutil's own advice)
_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


class HostSource:
    """One reading: the CPU's name, load and temperature, the memory this process may use.

    Utilisation is the mean over all CPUs since the last reading, in percent; None where that was
    a moment ago, as at the first.
    """

    name = "host"

    def __init__(self, proc: Path = Path("/proc"), cgroup: Path = _CGROUP) -> None:
        self._proc = proc
        self._cgroup = own_cgroup(proc, cgroup)
        self._cpu = cpu_name(proc)
        self._limit = cgroup_limit(self._cgroup)
        self._uuid = f"host-{platform.node()}"
        psutil.cpu_percent(interval=None)  # the first call only sets the mark to count from
        self._marked = time.monotonic()

    def memory(self) -> dict[str, int | None]:
        return {self._uuid: self._memory()[1]}

    def read(self) -> tuple[DeviceReading, ...]:
        self._limit = cgroup_limit(self._cgroup)  # rarely changed, so not at every fast sample
        total, used = self._memory()
        temperature, limit = _temperature()
        return (
            DeviceReading(
                index=0,
                name=self._cpu,
                uuid=self._uuid,
                source=self.name,
                memory_total=total,
                memory_used=used,
                temperature_c=temperature,
                temperature_limit_c=limit,
                utilization=self._load(),
            ),
        )

    def _load(self) -> float | None:
        now = time.monotonic()
        if now - self._marked < _LEAST:
            return None
        self._marked = now
        return psutil.cpu_percent(interval=None)

    def close(self) -> None:
        """Nothing is held."""

    def _memory(self) -> tuple[int | None, int | None]:
        total, available = host_memory(self._proc)
        used = None if total is None or available is None else total - available
        if self._limit is not None and (total is None or self._limit < total):
            return self._limit, cgroup_used(self._cgroup)
        return total, used


def host_memory(proc: Path = Path("/proc")) -> tuple[int | None, int | None]:
    """(total, available) bytes of the whole host, from ``meminfo``."""
    found: dict[bytes, int] = {}
    try:
        # Twenty times a second: raw bytes, and only the first lines, where both stand.
        fd = os.open(proc / "meminfo", os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(fd, 256).splitlines()[:-1]
        finally:
            os.close(fd)
        for line in lines:
            key, _, value = line.partition(b":")
            found[key] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return found.get(b"MemTotal"), found.get(b"MemAvailable")


def own_cgroup(proc: Path, root: Path) -> Path | None:
    """The folder of this process's memory cgroup (v2, or v1's memory controller), if any."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base = root
        elif "memory" in controllers.split(","):
            base = root / "memory"
        else:
            continue
        # In a container the path may be the host's, and only the root is mounted.
        for folder in (base / path.lstrip("/"), base):
            names = ("memory.max", "memory.limit_in_bytes")
            if any((folder / name).exists() for name in names):
                return folder
    return None


def cgroup_limit(folder: Path | None) -> int | None:
    """Bytes this cgroup may use; None where nothing limits it."""
    if folder is None:
        return None
    limit = _number(folder / "memory.max")
    if limit is None:
        limit = _number(folder / "memory.limit_in_bytes")
    # v1 writes "no limit" as the largest number of whole pages.
    return None if limit is None or limit >= 1 << 62 else limit


def cgroup_used(folder: Path | None) -> int | None:
    """Bytes in use, without file cache that the kernel would give back."""
    if folder is None:
        return None
    current = _number(folder / "memory.current")
    if current is None:
        current = _number(folder / "memory.usage_in_bytes")
    if current is None:
        return None
    cache = 0
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key in ("inactive_file", "total_inactive_file"):
                cache = int(value)
    except (OSError, ValueError):
        pass
    return max(0, current - cache)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None


def cpu_name(proc: Path = Path("/proc")) -> str:
    """The CPU's model name, or the architecture where the kernel names none."""
    try:
        with (proc / "cpuinfo").open() as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _temperature() -> tuple[float | None, float | None]:
    """(hottest CPU sensor, its limit) in °C; None where the host has none, as most virtual ones."""
    try:
        sensors = psutil.sensors_temperatures()
    except (OSError, AttributeError):
        return None, None
    for name in _SENSORS:
        hottest = max(
            (s for s in sensors.get(name, ()) if s.current), key=lambda s: s.current, default=None
        )
        if hottest is not None:
            return float(hottest.current), hottest.high or hottest.critical or None
    return None, None

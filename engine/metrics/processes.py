"""Processor time and memory of one process, read when a page is made."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """Seconds of processor time so far, bytes of resident memory."""

    cpu_seconds: float
    rss: int


def usage_of(pid: int) -> Usage | None:
    """None for a process that is gone or hidden."""
    if pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Usage(times.user + times.system, process.memory_info().rss)
    except (psutil.Error, OSError):
        return None

"""How long something took, on a machine that may have other work: what promises are held to."""

from __future__ import annotations

import time
from pathlib import Path


def stalled() -> float:
    """Seconds, ever, in which something on this host waited for a core (PSI)."""
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:  # a kernel without it
        return 0.0
    return int(line.rpartition("=")[2]) / 1e6


class Pace:
    """Runs from its making."""

    def __init__(self) -> None:
        self._begun, self._stalled = time.monotonic(), stalled()

    @property
    def seconds(self) -> float:
        """Those in which cores were free."""
        return time.monotonic() - self._begun - (stalled() - self._stalled)

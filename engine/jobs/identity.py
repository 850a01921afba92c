"""Who a process is: its number, when it started, and in which boot, so that a reused number or
a restarted machine is never taken for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessIdentity:
    """``start_ticks`` is /proc's start time in clock ticks since boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @staticmethod
    def of(pid: int | None = None) -> ProcessIdentity | None:
        """The identity of a living process (this one by default), ``None`` if there is none."""
        pid = os.getpid() if pid is None else pid
        found = _state_and_start(pid)
        if found is None or found[0] in "ZX":
            return None
        return ProcessIdentity(pid, found[1], boot_id())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a defunct one does not)."""
        return ProcessIdentity.of(self.pid) == self


def boot_id() -> str:
    """The kernel's identifier of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _state_and_start(pid: int) -> tuple[str, int] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command may hold spaces and parentheses: fields count from behind its last one.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])

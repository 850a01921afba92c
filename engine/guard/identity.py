"""Who a process is: a PID alone is reused, a PID with its start time and the boot is not.

Start times are kernel clock ticks since boot (field 22 of ``/proc/PID/stat``, proc_pid_stat(5)).
Signals go through a pidfd that was opened *before* the identity was checked again, so a PID that
changes hands in between is never signalled (pidfd_open(2)).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    """The fields of ``/proc/PID/stat`` that matter here."""

    pid: int
    comm: str
    state: str  # R S D Z T t X I
    ppid: int
    pgrp: int
    session: int
    start_ticks: int


def read_stat(pid: int) -> Stat | None:
    """One process's stat line, or None if there is no such process."""
    try:
        raw = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return parse_stat(raw)


def parse_stat(raw: bytes) -> Stat:
    """Parse a stat line. The name may itself hold spaces and brackets: cut after the last ``)``.

    Raises:
        ValueError: not a stat line.
    """
    opening, closing = raw.find(b"("), raw.rfind(b")")
    fields = raw[closing + 1 :].split()
    if opening < 0 or closing < opening or len(fields) < 20:
        raise ValueError("not a /proc/PID/stat line")
    return Stat(
        pid=int(raw[:opening]),
        comm=raw[opening + 1 : closing].decode(errors="replace"),
        state=fields[0].decode(),
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def boot_id() -> str:
    """The kernel's identifier of this boot, or "" where it is hidden."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def unix_time(start_ticks: int) -> float:
    """Wall-clock seconds of a start time, by the boot time of ``/proc/stat`` (whole seconds)."""
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) + start_ticks / _TICKS
    raise OSError("no btime in /proc/stat")


@dataclass(frozen=True)
class Identity:
    """One process of one boot; equal only to itself."""

    pid: int
    start_ticks: int
    boot: str

    @property
    def started(self) -> float:
        return unix_time(self.start_ticks)


def identify(pid: int) -> Identity | None:
    """The identity of the process that has this PID now; None if there is none."""
    stat = read_stat(pid)
    return None if stat is None else Identity(pid, stat.start_ticks, boot_id())


def is_running(identity: Identity) -> bool:
    """True while this very process exists and has not become a POSIX zombie."""
    stat = read_stat(identity.pid)
    return (
        stat is not None
        and stat.start_ticks == identity.start_ticks
        and stat.state not in "ZX"
        and identity.boot == boot_id()
    )


def group_members(pgid: int) -> list[int]:
    """Living processes (POSIX zombies left out) of a process group, by ``/proc``."""
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        stat = read_stat(int(entry.name))
        if stat is not None and stat.pgrp == pgid and stat.state not in "ZX":
            found.append(stat.pid)
    return sorted(found)


class ProcessGone(ProcessLookupError):  # noqa: N818 - says what happened
    """The process ended, or its PID belongs to another one now."""


class PidFd:
    """A handle on one process; it works for processes that are not children, too.

    Args:
        pid: the process.
        start_ticks: if given, what field 22 must say.

    Raises:
        ProcessGone: no such process, or its start time differs.
    """

    def __init__(self, pid: int, start_ticks: int | None = None) -> None:
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise ProcessGone(f"process {pid} is gone") from error
        # Only now look: the handle is fixed, so what /proc says is about it or the handle is dead.
        stat = read_stat(pid)
        if stat is None or (start_ticks is not None and stat.start_ticks != start_ticks):
            os.close(self._fd)
            raise ProcessGone(f"process {pid} is gone (its number was used again)")
        self.pid = pid
        self.start_ticks = stat.start_ticks

    def fileno(self) -> int:
        """The descriptor; readable once the process has ended, reaped or not."""
        return self._fd

    def exited(self, timeout: float = 0.0) -> bool:
        """Wait up to ``timeout`` seconds for the end of the process."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(timeout * 1000))

    def send(self, signum: signal.Signals) -> bool:
        """Signal the process. False if it is gone. ``PermissionError`` is the caller's to tell."""
        try:
            signal.pidfd_send_signal(self._fd, signum)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> PidFd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

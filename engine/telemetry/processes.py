"""Processes that matter here: ranks, their server, and holders of device memory."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import psutil

from engine.guard.identity import read_stat
from engine.messages import DeviceReading, ProcessReading
from engine.sentence import sentence

#: Shown as the state of a PID that the driver lists and ``/proc`` does not: it has ended, or it
#: lives in another PID namespace (NVML tells the host's numbers).
UNSEEN: Final = "unseen"
#: Shown as the state of a PID that no user process can have (drivers with scrambled lists).
INVALID: Final = "invalid"

_SERVER_MODULE: Final = "engine.ranks.onrank.forkserver"
#: The kernel gives the first PID namespace this fixed inode (PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"
_RANK_TITLE: Final = "avatop-rank"
_STATES: Final = {
    psutil.STATUS_ZOMBIE: ("defunct", sentence("state Z: dead, its parent has not waited for it")),
    psutil.STATUS_DEAD: ("defunct", sentence("state X: dead")),
    psutil.STATUS_DISK_SLEEP: ("uninterruptible", sentence("state D: inside a kernel call")),
    psutil.STATUS_STOPPED: ("stopped", sentence("state T: stopped by a signal")),
    psutil.STATUS_TRACING_STOP: ("stopped", sentence("state t: held by a debugger")),
}


@dataclass(frozen=True)
class Seen:
    """A process and what is known to be wrong with it."""

    reading: ProcessReading
    #: vanished | foreign | defunct | uninterruptible | stopped | orphan; None: nothing known
    kind: str | None = None
    evidence: tuple[str, ...] = ()
    threads: int | None = None


@dataclass
class _Fixed:
    """What does not change while a process lives, but for avatop's own."""

    user: str | None
    command: str | None
    job: int | None
    rank: int | None

    @property
    def retitled(self) -> bool:
        """It is a rank, or the server from which ranks come: another title may follow."""
        command = self.command or ""
        return command.startswith(_RANK_TITLE) or _SERVER_MODULE in command


@dataclass
class ProcessTable:
    """Reads processes; user and command line are read once per process, not every second.

    But a rank's title, which tells its job, changes when it waits and when it works for another.
    """

    _fixed: dict[tuple[int, float], _Fixed] = field(default_factory=dict)

    def describe(self, pid: int) -> ProcessReading:
        """One process by PID. Never raises: what cannot be read is None, or told by ``state``."""
        if pid <= 1:
            return ProcessReading(pid, 0.0, state=INVALID)
        try:
            process = psutil.Process(pid)
            started = process.create_time()
            with process.oneshot():
                state, ppid = str(process.status()), process.ppid()
        except psutil.Error:
            return ProcessReading(pid, 0.0, state=UNSEEN)
        key = (pid, started)
        fixed = self._fixed.get(key)
        if fixed is None or fixed.command is None or fixed.retitled:
            fixed = self._fixed[key] = _read_fixed(process)
        try:
            rss: int | None = process.memory_info().rss
        except psutil.Error:
            rss = None
        return ProcessReading(
            pid,
            started,
            user=fixed.user,
            command=fixed.command,
            state=state,
            ppid=ppid,
            rss=rss,
            job=fixed.job,
            rank=fixed.rank,
        )

    def forget_others(self, pids: Iterable[int]) -> None:
        """Drop what is remembered of processes that are not listed any more."""
        keep = set(pids)
        self._fixed = {key: value for key, value in self._fixed.items() if key[0] in keep}


def _read_fixed(process: psutil.Process) -> _Fixed:
    try:
        user: str | None = process.username()
    except (psutil.Error, KeyError):
        user = None
    try:
        argv = process.cmdline()
        command = " ".join(filter(None, argv)) or process.name()  # a title is padded with NULs
    except psutil.Error:
        return _Fixed(user, None, None, None)
    job, rank = rank_of(argv)
    return _Fixed(user, command, job, rank)


def rank_of(argv: Sequence[str]) -> tuple[int | None, int | None]:
    """(job, rank) by the title that a rank gives itself; (None, None) for any other process."""
    if not argv or argv[0] != _RANK_TITLE:
        return None, None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--job", type=int)
    parser.add_argument("--rank", type=int)
    try:
        options, _ = parser.parse_known_args(list(argv[1:]))
    except argparse.ArgumentError:
        return None, None
    return options.job, options.rank


def our_processes(proc: Path = Path("/proc")) -> list[int]:
    """PIDs of ranks, of their servers, and of the processes that host an engine."""
    pids: set[int] = set()
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if argv[0] == _RANK_TITLE:
            pids.add(int(entry.name))
        elif _is_server(argv):
            pids.add(int(entry.name))
            stat = read_stat(int(entry.name))
            host = 1 if stat is None else stat.ppid
            if host > 1:
                pids.add(host)
    return sorted(pids)


def _is_server(argv: Sequence[str]) -> bool:
    return any(a == "-m" and b == _SERVER_MODULE for a, b in itertools.pairwise(argv))


def survey(devices: Sequence[DeviceReading]) -> list[Seen]:
    """Ours and every holder of device memory, each with what is plainly wrong with it.

    ``kind`` stays None where nothing is known: an idle process is no evidence of anything.
    """
    table = ProcessTable()
    readings = {pid: table.describe(pid) for pid in our_processes()}
    for device in devices:
        for holder in device.processes:
            known = readings.get(holder.pid) or replace(holder, memory={})
            readings[holder.pid] = replace(known, memory={**known.memory, **holder.memory})
    return [_judge(reading) for _, reading in sorted(readings.items())]


def _judge(reading: ProcessReading) -> Seen:
    threads = _thread_count(reading.pid)
    if reading.state == INVALID:
        return Seen(
            reading,
            "vanished",
            (sentence("the driver lists PID {pid}, which is none", pid=reading.pid),),
        )
    if reading.state == UNSEEN:
        inside = _in_pid_namespace()
        kind = "foreign" if inside else "vanished"
        text = (
            sentence("listed by the driver, not in /proc of this PID namespace")
            if inside
            else sentence("listed by the driver, not in /proc")
        )
        return Seen(reading, kind, (text,))
    if reading.state in _STATES:
        kind, text = _STATES[reading.state]
        evidence: tuple[str, ...] = (text,)
        if kind == "defunct" and threads is not None and threads > 1:
            evidence += (
                sentence(
                    "{threads} of its threads still live and may hold memory", threads=threads - 1
                ),
            )
        return Seen(reading, kind, evidence, threads)
    if reading.rank is not None and reading.ppid is not None and not _has_server(reading.ppid):
        text = sentence("a rank whose server is gone (its parent is {ppid})", ppid=reading.ppid)
        return Seen(reading, "orphan", (text,), threads)
    return Seen(reading, threads=threads)


def _has_server(ppid: int) -> bool:
    try:
        return _is_server(psutil.Process(ppid).cmdline())
    except psutil.Error:
        return False


def _thread_count(pid: int) -> int | None:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return None


def _in_pid_namespace() -> bool:
    """True where this process lives in a PID namespace of its own, as in most containers."""
    try:
        return os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE  # noqa: PTH115 - no path
    except OSError:
        return False

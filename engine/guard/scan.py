"""One look at ``/proc``: every process in brief, and the costly facts of a few.

What cannot be read is None or empty, never a guess; a process that ends meanwhile is left out.
Field meanings: proc_pid_stat(5), proc_pid_status(5), proc_pid_fd(5), proc_pid_maps(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.guard import marks
from engine.guard.identity import Identity, parse_stat

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: The kernel gives the first PID namespace this fixed inode (PROC_PID_INIT_INO).
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"
#: Variables that tell who started a process. No other part of an environment is kept.
VARIABLES: Final = frozenset(
    {
        marks.MARK,
        marks.HOME,
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_PORT",
        "TORCHELASTIC_RUN_ID",
        "SLURM_JOB_ID",
    }
)
_LISTENING: Final = "0A"


@dataclass(frozen=True)
class Row:
    """One process in brief."""

    pid: int
    start_ticks: int
    ppid: int
    pgid: int
    sid: int
    state: str
    uid: int  # real
    comm: str
    command: tuple[str, ...] = ()
    exe: str = ""  # base name; "" where it may not be read
    nspid: tuple[int, ...] = ()  # as seen here first, in its own namespace last
    env: Mapping[str, str] | None = None  # of VARIABLES; None where it may not be read
    catches: int = 0  # mask of signals that have a handler

    @property
    def program(self) -> str:
        """The base name of argv[0]."""
        return self.command[0].rpartition("/")[2] if self.command else ""

    @property
    def inner_pid(self) -> int:
        """Its number in its own PID namespace."""
        return self.nspid[-1] if self.nspid else self.pid

    @property
    def key(self) -> tuple[int, int]:
        """What identifies it on this boot."""
        return self.pid, self.start_ticks

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def rows() -> dict[int, Row]:
    """Every process that ``/proc`` shows, by PID."""
    found = (read_row(pid) for pid in pids())
    return {row.pid: row for row in found if row is not None}


def pids() -> Iterator[int]:
    """All PIDs of this ``/proc``."""
    for name in os.listdir(_PROC):  # noqa: PTH208 - twice as fast, and names are all it needs
        if name.isdecimal():
            yield int(name)


def read_row(pid: int) -> Row | None:
    """One process; None if there is none."""
    raw = _read(pid, "stat")
    if raw is None:
        return None
    try:
        stat = parse_stat(raw)
    except ValueError:
        return None
    status = _status(pid)
    uid = status.get("Uid", "").split()
    body = _body(pid) if stat.state == "Z" else str(pid)
    return Row(
        pid=stat.pid,
        start_ticks=stat.start_ticks,
        ppid=stat.ppid,
        pgid=stat.pgrp,
        sid=stat.session,
        state=stat.state,
        uid=int(uid[0]) if uid else -1,
        comm=stat.comm,
        command=_command(body),
        exe=_link(body, "exe").rpartition("/")[2].removesuffix(" (deleted)"),
        nspid=tuple(int(word) for word in status.get("NSpid", "").split()),
        env=_environment(body),
        catches=int(status.get("SigCgt", "0"), 16),
    )


def live_threads(pid: int) -> int | None:
    """Threads that have not ended; they may outlive their leader. None if unknown."""
    count = 0
    try:
        tasks = os.listdir(_PROC / str(pid) / "task")  # noqa: PTH208
    except OSError:
        return None
    for task in tasks:
        raw = _read(pid, f"task/{task}/stat")
        if raw is not None and parse_stat(raw).state not in "ZX":
            count += 1
    return count


def wait_channel(pid: int) -> str | None:
    """The kernel function a process sleeps in; None if it does not tell."""
    raw = _read(pid, "wchan")
    text = "" if raw is None else raw.decode(errors="replace").strip()
    return text if text not in ("", "0") else None


def cgroup(pid: int) -> str | None:
    """Its cgroup (v2's path, else the longest of v1's); None if unknown."""
    raw = _read(pid, "cgroup")
    if raw is None:
        return None
    paths = [line.split(":", 2) for line in raw.decode(errors="replace").splitlines()]
    unified = [p[2] for p in paths if len(p) == 3 and p[0] == "0"]
    return unified[0] if unified else max((p[2] for p in paths if len(p) == 3), key=len, default="")


def age(start_ticks: int) -> float | None:
    """Seconds since a start time, by the clock that start times are counted in."""
    try:
        uptime = float((_PROC / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, uptime - start_ticks / _TICKS)


@dataclass(frozen=True)
class Opened:
    """What a process has open, as far as it matters here."""

    devices: tuple[str, ...] = ()  # /dev/nvidia*
    sockets: frozenset[int] = frozenset()  # inodes


def opened(pid: int) -> Opened | None:
    """Its open files; None where they may not be read."""
    folder = f"{_PROC}/{_body(pid)}/fd"
    devices, sockets = set(), set()
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return None
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
        except OSError:
            continue
        if target.startswith("/dev/nvidia"):
            devices.add(target)
        elif target.startswith("socket:["):
            sockets.add(int(target[8:-1]))
    return Opened(tuple(sorted(devices)), frozenset(sockets))


def used_below(pid: int, prefix: str) -> tuple[set[str] | None, set[str] | None]:
    """Names of files below a folder (``prefix`` ends in a slash) that it has open, and that it
    maps; None where that may not be read."""
    body = _body(pid)
    start = prefix.encode()
    opened: set[str] | None
    files: set[str] = set()
    maps: set[str] = set()
    try:
        for number in os.listdir(f"{_PROC}/{body}/fd"):  # noqa: PTH208
            target = _link(body, f"fd/{number}")
            if target.startswith(prefix):
                files.add(target.removeprefix(prefix).removesuffix(" (deleted)"))
        opened = files
    except OSError:
        opened = None
    raw = _read(body, "maps")
    if raw is None:
        return opened, None
    for line in raw.splitlines():
        at = line.find(b" " + start)
        if at >= 0:
            name = os.fsdecode(line[at + 1 + len(start) :])
            maps.add(name.removesuffix(" (deleted)"))
    return opened, maps


def listening() -> dict[int, int]:
    """Inode → TCP port of every listening socket of this network namespace."""
    found = {}
    for name in ("net/tcp", "net/tcp6"):
        try:
            lines = (_PROC / "self" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING:
                found[int(fields[9])] = int(fields[1].rpartition(":")[2], 16)
    return found


def in_pid_namespace() -> bool:
    """True where this process lives in a PID namespace of its own, as in most containers."""
    try:
        return os.readlink(_PROC / "self/ns/pid") != _FIRST_PID_NAMESPACE  # noqa: PTH115
    except OSError:
        return True  # unknown: PIDs told by the driver are then not believed without proof


def ancestors(table: Mapping[int, Row], pid: int) -> list[int]:
    """The parents of a process up to the first, nearest first."""
    chain: list[int] = []
    row = table.get(pid)
    while row is not None and row.ppid > 0 and row.ppid not in chain:
        chain.append(row.ppid)
        row = table.get(row.ppid)
    return chain


def children(table: Mapping[int, Row]) -> dict[int, list[int]]:
    """Parent → its children."""
    found: dict[int, list[int]] = {}
    for row in table.values():
        found.setdefault(row.ppid, []).append(row.pid)
    return found


def descendants(tree: Mapping[int, Iterable[int]], pid: int) -> list[int]:
    """All below a process, nearest first. ``tree`` is ``children(…)``."""
    found: list[int] = []
    queue = list(tree.get(pid, ()))
    while queue:
        child = queue.pop(0)
        if child not in found and child != pid:
            found.append(child)
            queue += tree.get(child, ())
    return found


class ParentLog:
    """Remembers who a process's parent was when it was first seen, over several looks."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], tuple[int, int]] = {}

    def note(self, table: Mapping[int, Row]) -> None:
        """Learn new processes, forget those that ended."""
        fresh: dict[tuple[int, int], tuple[int, int]] = {}
        for row in table.values():
            parent = table.get(row.ppid)
            known = self._first.get(row.key)
            if known is not None:
                fresh[row.key] = known
            elif parent is not None:
                fresh[row.key] = parent.key
        self._first = fresh

    def first(self, row: Row) -> tuple[int, int] | None:
        """(pid, start) of the parent seen first; None if it was never seen with one."""
        return self._first.get(row.key)


def running(identity: Identity, table: Mapping[int, Row]) -> bool:
    """Whether a process of this boot is in the table and has not ended."""
    row = table.get(identity.pid)
    return row is not None and row.start_ticks == identity.start_ticks and row.alive


def _body(pid: int) -> str:
    """Where under ``/proc`` a process is described: a leader that has ended tells nothing any
    more, a thread that outlived it does."""
    raw = _read(pid, "stat")
    if raw is None or parse_stat(raw).state != "Z":
        return str(pid)
    try:
        tasks = os.listdir(_PROC / str(pid) / "task")  # noqa: PTH208
    except OSError:
        return str(pid)
    for task in tasks:
        raw = _read(pid, f"task/{task}/stat")
        if raw is not None and parse_stat(raw).state not in "ZX":
            return f"{pid}/task/{task}"
    return str(pid)


def _read(pid: int | str, name: str) -> bytes | None:
    try:
        with open(f"{_PROC}/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            chunks = []
            while chunk := file.read(1 << 16):
                chunks.append(chunk)
            return b"".join(chunks)
    except OSError:
        return None


def _link(pid: int | str, name: str) -> str:
    try:
        return os.readlink(f"{_PROC}/{pid}/{name}")  # noqa: PTH115
    except OSError:
        return ""


def _status(pid: int) -> dict[str, str]:
    raw = _read(pid, "status") or b""
    pairs = (line.partition(":") for line in raw.decode(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _command(pid: str) -> tuple[str, ...]:
    raw = (_read(pid, "cmdline") or b"").rstrip(b"\0")  # a title is padded with NULs
    return tuple(raw.decode(errors="replace").split("\0")) if raw else ()


def _environment(pid: str) -> dict[str, str] | None:
    raw = _read(pid, "environ")
    if raw is None:
        return None
    pairs = (item.decode(errors="replace").partition("=") for item in raw.split(b"\0") if item)
    return {name: value for name, _, value in pairs if name in VARIABLES}

"""What is known of each process that matters to the GPUs, gathered before anything is judged.

Candidates are: PIDs that the driver lists as holders of device memory (compute, graphics and MPS
lists), processes that have ``/dev/nvidia*`` open, our own fork servers, ranks and their children,
ranks of torchelastic, our user's defunct processes, and what looks like the reference's inference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from engine.guard import known, marks, scan
from engine.guard.identity import boot_id, unix_time
from engine.guard.scan import ParentLog, Row

#: pid → device UUID → bytes; None where the driver hides them.
Memory = Mapping[int, Mapping[str, int | None]]


class _Holder(Protocol):
    @property
    def pid(self) -> int: ...
    @property
    def memory(self) -> Mapping[str, int | None]: ...


class _Device(Protocol):
    @property
    def processes(self) -> Sequence[_Holder]: ...


#: Opened by CUDA and not by programs that merely read the driver's counters.
COMPUTE_DEVICE: Final = "/dev/nvidia-uvm"


@dataclass(frozen=True)
class Evidence:
    """One candidate. ``row`` is None for a PID that the driver lists and ``/proc`` does not."""

    pid: int
    row: Row | None
    listed: bool = False  # by the driver
    memory: Mapping[str, int | None] = field(default_factory=dict)
    devices: tuple[str, ...] | None = None  # /dev/nvidia*; None where fds may not be read
    threads: int | None = None  # that have not ended
    age: float | None = None
    wchan: str | None = None
    cgroup: str | None = None
    children: tuple[int, ...] = ()
    shm: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    first_parent: tuple[int, int] | None = None

    @property
    def started(self) -> float | None:
        """Unix time of its start."""
        return None if self.row is None else unix_time(self.row.start_ticks)

    @property
    def bytes(self) -> int | None:
        """Device memory on all devices; None where any of it is unknown."""
        total = 0
        for held in self.memory.values():
            if held is None:
                return None
            total += held
        return total

    @property
    def holds(self) -> bool:
        """Whether it holds a device: a context in the driver's list, or CUDA's device file."""
        return self.listed or COMPUTE_DEVICE in (self.devices or ())


@dataclass(frozen=True)
class Scene:
    """One look at the host."""

    rows: Mapping[int, Row]
    evidence: tuple[Evidence, ...]
    me: int
    uid: int
    boot: str
    in_namespace: bool
    #: (pid, start) → why the engine calls this rank stuck
    stuck: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def of(self, pid: int) -> Evidence | None:
        """The candidate with this PID."""
        return next((e for e in self.evidence if e.pid == pid), None)


def holders(devices: Iterable[_Device]) -> dict[int, dict[str, int | None]]:
    """The driver's holders out of device readings (``engine.messages.DeviceReading``)."""
    found: dict[int, dict[str, int | None]] = {}
    for device in devices:
        for process in device.processes:
            found.setdefault(process.pid, {}).update(process.memory)
    return found


def look(
    memory: Memory,
    *,
    also: Iterable[int] = (),
    stuck: Mapping[tuple[int, int], str] | None = None,
    parents: ParentLog | None = None,
    in_namespace: bool | None = None,
) -> Scene:
    """Gather everything once.

    Args:
        memory: the driver's list, see ``holders``.
        also: PIDs to describe whether or not they look like candidates.
        stuck: what the engine knows of its ranks' heartbeats and progress.
        parents: remembers original parents between looks.
        in_namespace: whether this is a PID namespace of its own; found out if not given.
    """
    inside = scan.in_pid_namespace() if in_namespace is None else in_namespace
    table = scan.rows()
    if parents is not None:
        parents.note(table)
    tree, ports = scan.children(table), scan.listening()
    wanted = set(memory) | set(also) | {pid for pid, _ in stuck or ()}
    found: list[Evidence] = []
    me, uid = os.getpid(), os.getuid()
    for pid in sorted(set(table) | wanted):
        row = table.get(pid)
        if row is None:
            found.append(Evidence(pid, None, pid in memory, dict(memory.get(pid, {}))))
            continue
        files = scan.opened(pid)
        defunct = row.state == "Z" and row.uid == uid
        if not (pid in wanted or marked(row) or defunct or (files and files.devices)):
            continue
        # The driver may count by the host's numbers: one of ours that has no device open is not
        # the process that it means.
        meant = pid in memory and not (inside and marked(row) and files and not files.devices)
        found.append(
            Evidence(
                pid=pid,
                row=row,
                listed=meant,
                memory=dict(memory[pid]) if meant else {},
                devices=None if files is None else files.devices,
                threads=scan.live_threads(pid),
                age=scan.age(row.start_ticks),
                wchan=scan.wait_channel(pid),
                cgroup=scan.cgroup(pid),
                children=tuple(sorted(tree.get(pid, ()))),
                shm=_shm(pid),
                ports=_ports(files, ports),
                first_parent=None if parents is None else parents.first(row),
            )
        )
    return Scene(
        rows=table,
        evidence=tuple(found),
        me=me,
        uid=uid,
        boot=boot_id(),
        in_namespace=inside,
        stuck=dict(stuck or {}),
    )


def marked(row: Row) -> bool:
    """Whether a process says of itself that it may matter: title, mark, launcher's variables."""
    env = row.env or {}
    return (
        row.program == known.RANK_TITLE
        or known.is_server(row.command)
        or marks.MARK in env
        or ("TORCHELASTIC_RUN_ID" in env and "RANK" in env)
        or known.inference(row.command) is not None
    )


def _ports(files: scan.Opened | None, ports: Mapping[int, int]) -> tuple[int, ...]:
    if files is None:
        return ()
    return tuple(sorted({ports[inode] for inode in files.sockets if inode in ports}))


def _shm(pid: int) -> tuple[str, ...]:
    files, maps = scan.used_below(pid, "/dev/shm/")
    return tuple(sorted((files or set()) | (maps or set())))

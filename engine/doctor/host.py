"""The host: limits, shared memory, disks, ports, and whether processes can be ended safely."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from engine.doctor.check import FAIL, NA, OK, WARN, Check
from engine.guard.hostdir import LockDirError
from engine.guard.ports import NoFreePort, reserve
from engine.preflight import DISK_RESERVE
from engine.sentence import sentence

LIMITS: Final = "limits"
FILES: Final = "files"
_GIB: Final = 1 << 30
#: NCCL, torch's queues and a job's mirrored state lie in /dev/shm; Docker gives 64 MiB.
_SHM: Final = _GIB
_ROOM: Final = 5 * _GIB
_OPEN_FILES: Final = 4096
_TASKS: Final = 2048
_MEMLOCK: Final = 64 << 20

Usage = Callable[[Path], Any]
Limit = Callable[[int], tuple[int, int]]


def limits(gpus: int, limit: Limit = resource.getrlimit) -> Iterator[Check]:
    """What the shell allows: open files, processes, locked memory."""
    files = limit(resource.RLIMIT_NOFILE)[0]
    yield _at_least(
        "open files", files, _OPEN_FILES, sentence("ulimit -n 65536, before avatop starts")
    )
    tasks = limit(resource.RLIMIT_NPROC)[0]
    yield _at_least("processes", tasks, _TASKS, sentence("ulimit -u 16384, before avatop starts"))
    locked = limit(resource.RLIMIT_MEMLOCK)[0]
    if not gpus:
        yield Check(LIMITS, "locked memory", NA, sentence("no GPU: nothing is locked"))
    elif locked != resource.RLIM_INFINITY and locked < _MEMLOCK:
        yield Check(
            LIMITS,
            "locked memory",
            WARN,
            f"{locked / 2**20:.1f} MiB",
            sentence("InfiniBand needs more: ulimit -l unlimited (docker: --ulimit memlock=-1)"),
        )
    else:
        yield Check(LIMITS, "locked memory", OK, _many(locked, " bytes"))


def _at_least(name: str, value: int, least: int, todo: str) -> Check:
    if value != resource.RLIM_INFINITY and value < least:
        return Check(
            LIMITS,
            name,
            WARN,
            sentence("{value:,}, {least:,} are wanted", value=value, least=least),
            todo,
        )
    return Check(LIMITS, name, OK, _many(value))


def _many(value: int, unit: str = "") -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else f"{value:,}{unit}"


def shared_memory(
    gpus: int, folder: Path = Path("/dev/shm"), usage: Usage = shutil.disk_usage
) -> Check:
    """Room in /dev/shm."""
    todo = sentence(
        "docker run --shm-size=16g, or --ipc=host; on a host: mount -o remount,size=16g /dev/shm"
    )
    try:
        seen = usage(folder)
    except OSError as error:
        return Check(LIMITS, "shared memory", FAIL, f"{folder}: {error.strerror or error}", todo)
    said = sentence(
        "{free:.1f} of {total:.1f} GiB free", free=seen.free / _GIB, total=seen.total / _GIB
    )
    if seen.total < _SHM:
        return Check(LIMITS, "shared memory", FAIL if gpus > 1 else WARN, said, todo)
    if seen.free < _SHM:
        return Check(LIMITS, "shared memory", WARN, said, "avatop reap tells what dead ranks left")
    return Check(LIMITS, "shared memory", OK, said)


def disk(name: str, folder: Path, usage: Usage = shutil.disk_usage) -> Check:
    """Whether a folder of ours can be written, and for how long."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), None)
    if there is None or not os.access(there, os.W_OK):
        return Check(
            FILES,
            name,
            FAIL,
            sentence("{folder} may not be written", folder=folder),
            sentence(
                "give it to this account, or name another: AVATOP_STATE_DIR, AVATOP_CACHE_DIR"
            ),
        )
    try:
        free = int(usage(there).free)
    except OSError as error:
        return Check(
            FILES, name, FAIL, f"{there}: {error.strerror or error}", sentence("check the disk")
        )
    said = sentence("{folder}: {free:.1f} GiB free", folder=folder, free=free / _GIB)
    if free < DISK_RESERVE:
        return Check(
            FILES, name, FAIL, said, sentence("free some space: jobs stop before a clip is torn")
        )
    if free < _ROOM:
        return Check(FILES, name, WARN, said, sentence("long videos may fill it"))
    return Check(FILES, name, OK, said)


def ports(named: dict[str, int]) -> Iterator[Check]:
    """Rendezvous of ranks, and the ports of what may be served."""
    try:
        with reserve():
            yield Check(
                LIMITS, "rendezvous port", OK, sentence("one could be reserved on 127.0.0.1")
            )
    except (NoFreePort, LockDirError, OSError) as error:
        yield Check(
            LIMITS,
            "rendezvous port",
            FAIL,
            str(error),
            sentence("end what holds the ports: ss -tlnp"),
        )
    for name, number in named.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind(("127.0.0.1", number))
            except OSError as error:
                said = f"{number}: {error.strerror}"
                yield Check(
                    LIMITS, name, WARN, said, sentence("give {name} another: --port N", name=name)
                )
            else:
                yield Check(LIMITS, name, OK, sentence("{number} is free", number=number))


def signals() -> Check:
    """Whether a process can be held by a handle, without which none is ended."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Check(
            LIMITS,
            "pidfd",
            FAIL,
            f"pidfd_open: {error.strerror}",
            sentence(
                "Linux 5.3 or later, and a container profile that allows "
                "pidfd_open: nothing can be ended safely without"
            ),
        )
    return Check(LIMITS, "pidfd", OK, sentence("processes can be held while they are ended"))

"""What a drill's engine left behind: processes that live on, shared memory that nobody uses."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from engine.guard import scan
from engine.guard.identity import Identity, identify, is_running
from engine.guard.shm import is_state, leaks
from engine.jobs.kept import mirrors

#: Seconds in which the last processes may end after their engine, and others' shared memory that
#: is being made or removed at this moment may come to rest.
_SECONDS: Final = 10.0
_POLL: Final = 0.05


def below(pid: int | None = None) -> set[Identity]:
    """Every process below one (this one by default), as it is now."""
    table = scan.rows()
    found = scan.descendants(scan.children(table), os.getpid() if pid is None else pid)
    return {identity for child in found if (identity := identify(child)) is not None}


def living(processes: Iterable[Identity]) -> list[int]:
    """Those that still live after a few seconds."""
    deadline = time.monotonic() + _SECONDS
    left = [p for p in processes if is_running(p)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL)
        left = [p for p in left if is_running(p)]
    return sorted(p.pid for p in left)


def new_shared_memory(state: Path, before: Collection[str]) -> list[str]:
    """What was not there before and stays for a few seconds."""
    deadline = time.monotonic() + _SECONDS
    left = shared_memory(state) - set(before)
    while left and time.monotonic() < deadline:
        time.sleep(_POLL)
        left &= shared_memory(state)
    return sorted(left)


def remove_mirrors(state: Path) -> None:
    """Give back the shared memory of jobs of a state folder that will not go on."""
    for folder, owner, _ in mirrors():
        if owner == state:
            shutil.rmtree(folder, ignore_errors=True)


def shared_memory(state: Path) -> set[str]:
    """Mirrors of jobs of a state folder, and shared memory that no process uses."""
    unused = leaks(scan.rows(), in_namespace=scan.in_pid_namespace(), min_age=0.0)
    return {leak.name for leak in unused if not is_state(leak.name)} | {
        folder.name for folder, owner, _ in mirrors() if owner == state
    }

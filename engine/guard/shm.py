"""Shared memory and semaphores that nobody will ever open again, and how they are removed.

A file of ``/dev/shm`` is a leak when it is ours by name and owner, old enough, and no process has
it open or mapped. That can only be said where every process that could have it can be looked
into: where one cannot (another PID namespace may share the folder), the file is told, not removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.guard import known, scan
from engine.guard.kill import ReadOnlyRefused
from engine.guard.scan import Row
from engine.sentence import sentence
from engine.tree import files_below

FOLDER: Final = Path("/dev/shm")
#: A file younger than this may be between its creation and its first use.
MIN_AGE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Leak:
    """One file that no process that can be seen uses."""

    name: str
    what: str
    bytes: int
    age: float
    inode: tuple[int, int]
    #: Why it is not certain that nobody uses it; None if it is.
    doubt: str | None = None


@dataclass(frozen=True)
class Removed:
    """What became of one leak."""

    leak: Leak
    result: str  # "removed" | "kept" | "dry run"
    detail: str = ""


def leaks(
    rows: Mapping[int, Row],
    *,
    in_namespace: bool,
    spare: Collection[str] = (),
    min_age: float = MIN_AGE_SECONDS,
    folder: Path = FOLDER,
    now: float | None = None,
) -> tuple[Leak, ...]:
    """Our user's leaked files of ``folder``.

    Args:
        rows: every process, see ``scan.rows``.
        spare: names of files that are kept on purpose (mirrors of jobs that can be resumed).
    """
    now = time.time() if now is None else now
    candidates = {
        name: (info, what)
        for name, info, what in _ours(folder, os.getuid())
        if name not in spare and now - max(info.st_mtime, info.st_ctime) >= min_age
    }
    if not candidates:
        return ()
    used, blind, hidden = _used(rows, folder)
    found = []
    for name, (info, what) in sorted(candidates.items()):
        owner = _creator(name)
        alive = rows.get(owner) if owner is not None else None
        if name in used or (alive is not None and alive.alive and alive.uid == info.st_uid):
            continue
        doubt = None
        if is_state(name):
            doubt = _state_doubt(folder / name, in_namespace)
        elif in_namespace:
            doubt = sentence(
                "containers may share /dev/shm, and their processes cannot be seen from here"
            )
        elif blind:
            doubt = sentence("PID {blind} is yours and cannot be looked into", blind=blind[0])
        elif hidden and info.st_mode & 0o066:
            doubt = sentence("other users may use it, and their processes cannot be looked into")
        inode = (info.st_dev, info.st_ino)
        age = now - max(info.st_mtime, info.st_ctime)
        found.append(Leak(name, what, _size(folder / name, info), age, inode, doubt))
    return tuple(found)


def remove(
    found: Collection[Leak],
    *,
    folder: Path = FOLDER,
    audit: Callable[[str, Mapping[str, Any]], None] | None = None,
    read_only: bool = False,
) -> list[Removed]:
    """Unlink leaks that are certain, after looking again.

    Raises:
        ReadOnlyRefused: ``read_only`` is set.
    """
    if read_only:
        raise ReadOnlyRefused(sentence("removing shared memory"))
    used, blind, _ = _used(scan.rows(), folder)
    results = []
    for leak in found:
        result = _remove(leak, folder, used, blind)
        results.append(result)
        if audit is not None:
            detail = {"name": leak.name, "bytes": leak.bytes, "detail": result.detail}
            audit("reap.shm", {**detail, "result": result.result})
    return results


def _remove(leak: Leak, folder: Path, used: Collection[str], blind: Collection[int]) -> Removed:
    if leak.doubt is not None or blind:
        return Removed(leak, "kept", f"{leak.doubt or 'a process cannot be looked into'}")
    if leak.name in used:
        return Removed(leak, "kept", sentence("a process uses it now"))
    path = folder / leak.name
    try:
        info = path.lstat()
        if (info.st_dev, info.st_ino) != leak.inode or info.st_uid != os.getuid():
            return Removed(leak, "kept", sentence("another file has its name now"))
        path.unlink()
    except FileNotFoundError:
        return Removed(leak, "removed", sentence("it was gone already"))
    except OSError as error:
        return Removed(leak, "kept", str(error.strerror))
    return Removed(leak, "removed")


def _ours(folder: Path, uid: int) -> list[tuple[str, os.stat_result, str]]:
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            what = next((w for p, w in known.SHM_PREFIXES if entry.name.startswith(p)), None)
            if what is None:
                continue
            with contextlib.suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                kept = stat.S_ISDIR(info.st_mode) and is_state(entry.name)
                if (kept or stat.S_ISREG(info.st_mode)) and info.st_uid == uid:
                    found.append((entry.name, info, what))
    return found


def _used(rows: Mapping[int, Row], folder: Path) -> tuple[set[str], list[int], bool]:
    """Names that processes map or have open; our processes that cannot be looked into; and
    whether there are such of other users, who can open only what its mode allows them to.
    """
    used: set[str] = set()
    blind: list[int] = []
    hidden = False
    prefix, uid = f"{folder}/", os.getuid()
    for row in rows.values():
        if not row.command and not row.exe:
            continue  # a kernel thread, or dead
        files, maps = scan.used_below(row.pid, prefix)
        if files is None or maps is None:
            if row.uid != uid:
                hidden = hidden or row.uid != 0
            elif scan.read_row(row.pid) is not None and not _init(row):
                blind.append(row.pid)
            continue
        used |= {name.partition("/")[0] for name in files | maps}
    return used, blind, hidden


def _init(row: Row) -> bool:
    """PID 1 may be closed even to root; unless it is itself a Python, it runs no inference."""
    return row.pid == 1 and not known.is_python(row.exe, row.program)


def is_state(name: str) -> bool:
    """Whether it is a job's mirrored state, a folder that outlives its ranks on purpose."""
    return name.startswith(known.STATE_PREFIX)


def _state_doubt(mirror: Path, in_namespace: bool) -> str:
    """Whose state it is, and who removes it: its engine, or nobody if the jobs' folder is gone
    (which a container, that may see another's, cannot tell)."""
    try:
        about = json.loads((mirror / "job.json").read_text(encoding="utf-8"))
        job, state = int(about["job"]), str(about["state"])
    except (OSError, ValueError, KeyError, TypeError):
        whose, gone = sentence("the state of a job"), False
    else:
        whose = sentence("the state of job {job} of {state}", job=job, state=state)
        gone = not in_namespace and not Path(state).is_dir()
    if gone:
        return sentence(
            "{folder}, a folder that is gone: no engine removes it; rm -r {path}",
            folder=whose,
            path=mirror,
        )
    return sentence("{folder}, kept so that it can go on; its engine removes it", folder=whose)


def _size(path: Path, info: os.stat_result) -> int:
    """Bytes that it takes, of a folder with what is in it."""
    total = info.st_blocks * 512
    if stat.S_ISDIR(info.st_mode):
        total += sum(inner.st_blocks * 512 for inner in files_below(path))
    return total


def _creator(name: str) -> int | None:
    """The PID in the names that torch gives: ``torch_<pid>_<random>_<number>``."""
    match = re.match(r"torch_(\d+)_", name)
    return int(match[1]) if match else None

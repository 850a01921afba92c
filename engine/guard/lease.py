"""Device leases: while one engine uses a GPU, another engine (any user's) keeps off it.

A lease is an flock(2) on a file named by the GPU's UUID; the kernel drops it with its holder,
however that dies. The file's content names the holder, for the other side's message.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from engine.guard.hostdir import open_lock
from engine.sentence import sentence


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as far as the file tells."""

    pid: int | None = None
    command: str | None = None
    user: str | None = None
    since: float | None = None


class LeaseHeld(RuntimeError):  # noqa: N818 - says what happened
    """Another engine uses this device."""

    def __init__(self, device: str, holder: Holder) -> None:
        self.device = device
        self.holder = holder
        who = (
            sentence("process {pid}", pid=holder.pid)
            if holder.pid is not None
            else sentence("another process")
        )
        if holder.user:
            who = sentence("{process} of {user}", process=who, user=holder.user)
        if holder.command:
            who = sentence("{process} ({command})", process=who, command=holder.command)
        super().__init__(
            sentence(
                "device {device} is in use by {who}; wait for it, end it, or choose "
                "others by --gpus",
                device=device,
                who=who,
            )
        )


class Lease:
    """One held device. Release it, or let the process end."""

    def __init__(self, device: str, fd: int) -> None:
        self.device = device
        self._fd = fd

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        """Give the device back; a second call does nothing."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def take(device: str) -> Lease:
    """Lease one device by its UUID.

    Raises:
        LeaseHeld: another engine has it.
        engine.guard.hostdir.LockDirError: there is nowhere to keep leases.
    """
    fd = open_lock(f"gpu-{re.sub(r'[^A-Za-z0-9._-]', '_', device)}.lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(fd)
        os.close(fd)
        raise LeaseHeld(device, holder) from None
    _write(fd)
    return Lease(device, fd)


def take_all(devices: Iterable[str]) -> list[Lease]:
    """Lease several devices or none.

    Raises:
        LeaseHeld: for the first that is taken; those already leased are given back.
    """
    leases: list[Lease] = []
    try:
        # One order for everybody, though nobody waits: two engines cannot each end with half.
        leases.extend(take(device) for device in sorted(set(devices)))
    except BaseException:
        for lease in leases:
            lease.release()
        raise
    return leases


def _write(fd: int) -> None:
    body = {
        "pid": os.getpid(),
        "command": " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])[:200],  # noqa: PTH119
        "user": getpass.getuser(),
        "since": time.time(),
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(body).encode(), 0)


def _read(fd: int) -> Holder:
    """The holder's own words; anything malformed is "unknown" (the file is writable by all)."""
    try:
        body = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return Holder()
    if not isinstance(body, dict):
        return Holder()
    pid, command, user, since = (body.get(k) for k in ("pid", "command", "user", "since"))
    return Holder(
        pid=pid if isinstance(pid, int) else None,
        command=command if isinstance(command, str) else None,
        user=user if isinstance(user, str) else None,
        since=since if isinstance(since, int | float) else None,
    )

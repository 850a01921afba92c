"""A rendezvous port per rank group: free now, and no other engine's until it is given back.

The kernel picks the port (bind to 0). It stays bound, without listening, for as long as it is
reserved: the kernel then hands it to nobody else, while the group's own store, which binds with
SO_REUSEADDR, can still listen on it. A lock on byte N of one host-wide file says that port N is
some engine's, also in the moments when sockets are being handed over.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Final

from engine.guard.hostdir import open_lock
from engine.sentence import sentence

_ATTEMPTS: Final = 50


class NoFreePort(OSError):  # noqa: N818 - says what happened
    """The host gives no port."""


class Port:
    """One reserved TCP port on the loopback interface."""

    def __init__(self, number: int, holder: socket.socket, lock: int) -> None:
        self.number = number
        self._holder: socket.socket | None = holder
        self._lock = lock

    def release(self) -> None:
        """Give the port back; a second call does nothing."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None
            os.close(self._lock)

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def reserve(address: str = "127.0.0.1") -> Port:
    """Reserve a port that is free and unique among all engines of this host.

    Raises:
        NoFreePort: nothing could be bound.
        engine.guard.hostdir.LockDirError: there is nowhere to keep the lock.
    """
    for _ in range(_ATTEMPTS):
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # First without SO_REUSEADDR, so that the kernel picks a port that nobody has bound;
            # set afterwards it lets the store join.
            holder.bind((address, 0))
        except OSError as error:
            holder.close()
            raise NoFreePort(
                sentence(
                    "no TCP port is free on {address}: {strerror}",
                    address=address,
                    strerror=error.strerror,
                )
            ) from error
        number = int(holder.getsockname()[1])
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        lock = open_lock("ports.lock")
        try:
            # struct flock: an exclusive lock of this open file (not process) on one byte.
            flock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, flock)
        except (BlockingIOError, PermissionError):
            os.close(lock)
            holder.close()
            continue
        return Port(number, holder, lock)
    raise NoFreePort(
        sentence(
            "no rendezvous port after {attempts} attempts; other engines hold them",
            attempts=_ATTEMPTS,
        )
    )

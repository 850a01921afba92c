"""Where the engine of this user and host is reached, who holds that place, and who calls.

The socket lies in the state folder, not in ``XDG_RUNTIME_DIR``: that one is removed when a user's
last session ends, and an engine left running has to be found after just that. The host's name is
part of the file's name, because a home folder may be shared by several hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.jobs.paths import Places
from engine.sentence import sentence

#: Bytes that the kernel's ``sun_path`` takes, without its end.
_LONGEST_PATH: Final = 107
_CREDENTIALS: Final = struct.Struct("3i")


class EngineTaken(RuntimeError):  # noqa: N818 - says what happened
    """Another process hosts the engine of this user and host, or is about to."""


class NotOurs(ConnectionError):  # noqa: N818 - says what happened
    """The other side of the socket, or what lies in its place, belongs to somebody else."""


@dataclass(frozen=True)
class Peer:
    """The process at the other end, as the kernel tells."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """Who connected, or who listens (``SO_PEERCRED``; it cannot be forged)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


def socket_path(places: Places) -> Path:
    """The engine's socket."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64] or "host"
    return places.state / "run" / f"engine-{host}.sock"


class Place:
    """The right to host the engine; the kernel takes it back when this process ends.

    Raises:
        EngineTaken: another process has it.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, places: Places) -> None:
        self.path = socket_path(places)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.parent.chmod(0o700)
        lock = self.path.with_suffix(".lock")
        # Never unlinked: two holders could lock two files of one name.
        self._fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise EngineTaken(
                sentence("another process hosts the engine ({lock})", lock=lock)
            ) from None

    def listen(self) -> socket.socket:
        """The listening socket, mode 0600. What a dead engine left in its place is removed."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(self.path) as address:
                sock.bind(address)
            # Nobody can connect before ``listen``, and the folder is 0700: no moment is open.
            self.path.chmod(0o600)
            sock.listen(16)
        except OSError:
            sock.close()
            raise
        return sock

    def release(self) -> None:
        """Take the socket away and give the place back; a second call does nothing."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._fd)
        self._fd = -1


def dial(places: Places) -> socket.socket | None:
    """A connection to the running engine; None when nobody listens (no socket, or a stale one).

    Raises:
        NotOurs: another user's process listens, or the socket file is another user's.
        OSError: it cannot be reached for another reason.
    """
    path = socket_path(places)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found = path.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISSOCK(found.st_mode):
            raise NotOurs(
                sentence("{path} is not a socket of yours; look at it, then remove it", path=path)
            )
        with _address(path) as address:
            sock.connect(address)
        peer = peer_of(sock)
        if peer.uid != os.getuid():
            raise NotOurs(
                sentence(
                    "{path} is served by process {pid} of user {uid}",
                    path=path,
                    pid=peer.pid,
                    uid=peer.uid,
                )
            )
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path as the kernel takes it; a long one goes through a descriptor of its folder."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

"""A namespace of this process's own: what is mounted or slowed down in it ends with it.

Entered before any other thread starts; as root directly, otherwise inside a user namespace where
the kernel permits them. Programs that are started to change it get ``CAP_NET_ADMIN`` along.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from engine.drills.report import NotPermittedError
from engine.sentence import sentence

_NEWNS: Final = 0x00020000
_NEWUSER: Final = 0x10000000
_NEWNET: Final = 0x40000000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18
_MS_NOSUID_NODEV: Final = 2 | 4
_MNT_DETACH: Final = 2
_NET_ADMIN: Final = 12
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def enter_mounts() -> None:
    """Own mounts, seen by nobody else.

    Raises:
        NotPermittedError: the kernel or a container's profile forbids it.
    """
    _unshare(_NEWNS, sentence("a mount namespace"))
    flags = ctypes.c_ulong(_MS_REC | _MS_PRIVATE)
    _check(_libc.mount(b"none", b"/", None, flags, None), sentence("private mounts"))


def enter_network() -> None:
    """An own network with nothing but a loopback, which is down.

    Raises:
        NotPermittedError: the kernel or a container's profile forbids it.
    """
    _unshare(_NEWNET, sentence("a network namespace"))
    _let_programs_set_the_network()


def mount_tmpfs(folder: Path, size: int) -> None:
    """A file system of ``size`` bytes in memory on a folder.

    Raises:
        NotPermittedError: mounting is forbidden.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = f"size={size},mode=0700".encode()
    flags = ctypes.c_ulong(_MS_NOSUID_NODEV)
    made = _libc.mount(b"avatop-drill", os.fsencode(folder), b"tmpfs", flags, options)
    _check(made, sentence("mounting a tmpfs"))


def unmount(folder: Path) -> None:
    """Take a file system off again, also while something in it is open."""
    _libc.umount2(os.fsencode(folder), _MNT_DETACH)


def _unshare(flag: int, what: str) -> None:
    if _libc.unshare(flag) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEWUSER | flag), what)
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError as error:
        raise NotPermittedError(
            sentence("{what} is not permitted here: {strerror}", what=what, strerror=error.strerror)
        ) from error


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _let_programs_set_the_network() -> None:
    """Without this ``exec`` takes the new namespace's capabilities from a user other than root."""
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    _check(_libc.capget(ctypes.byref(header), sets), sentence("reading capabilities"))
    sets[0].inheritable |= 1 << _NET_ADMIN
    _check(_libc.capset(ctypes.byref(header), sets), sentence("setting capabilities"))
    raised = _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _NET_ADMIN, 0, 0)
    _check(raised, sentence("handing on CAP_NET_ADMIN"))


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise NotPermittedError(
            sentence(
                "{what} is not permitted here: {number}", what=what, number=os.strerror(number)
            )
        )

"""The host-wide folder of lock files, shared by every user's engine.

It lies in ``/run/lock`` (or ``/tmp``) with the sticky bit, so one user can neither remove nor
rename another's locks. Lock files are never unlinked: unlinking a locked file would let two
holders lock two different files of one name.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from engine.sentence import sentence

ENVIRONMENT: Final = "AVATOP_LEASE_DIR"
_CANDIDATES: Final = (Path("/run/lock"), Path("/tmp"))
_MODE: Final = 0o1777


class LockDirError(OSError):
    """No folder in which engines of this host could meet."""


def lock_dir() -> Path:
    """The folder, made if need be.

    Raises:
        LockDirError: it cannot be made, or what lies there is not a folder to trust.
    """
    override = os.environ.get(ENVIRONMENT)
    if override:
        return _make(Path(override))
    for parent in _CANDIDATES:
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return _make(parent / "avatop")
    raise LockDirError(
        sentence(
            "no host-wide folder for lock files: neither /run/lock nor /tmp is "
            "writable; set {environment} to a folder that every user of this host "
            "can write",
            environment=ENVIRONMENT,
        )
    )


def _make(path: Path) -> Path:
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise LockDirError(
            sentence(
                "cannot make the lock folder {path}: {strerror}", path=path, strerror=error.strerror
            )
        ) from error
    else:
        path.chmod(_MODE)  # mkdir's mode is cut by the umask
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise LockDirError(
            sentence("{path} is not a folder, so no lock can be kept there; remove it", path=path)
        )
    writable_by_all = bool(info.st_mode & stat.S_IWOTH)
    if writable_by_all and not info.st_mode & stat.S_ISVTX:
        raise LockDirError(
            sentence(
                "{path} is writable by all without the sticky bit; chmod 1777 {path}", path=path
            )
        )
    return path


def open_lock(name: str) -> int:
    """Open the lock file ``name`` for reading and writing; returns a descriptor.

    Raises:
        LockDirError: see ``lock_dir``; or the file cannot be opened.
    """
    path = lock_dir() / name
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(3):
        # Without O_CREAT first: kernels with fs.protected_regular refuse O_CREAT on another
        # user's file in a sticky folder.
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LockDirError(
                sentence(
                    "cannot open the lock file {path}: {strerror}",
                    path=path,
                    strerror=error.strerror,
                )
            ) from error
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        except OSError as error:
            raise LockDirError(
                sentence(
                    "cannot make the lock file {path}: {strerror}",
                    path=path,
                    strerror=error.strerror,
                )
            ) from error
        os.fchmod(fd, 0o666)
        return fd
    raise LockDirError(
        sentence("the lock file {path} appears and vanishes; something else removes it", path=path)
    )

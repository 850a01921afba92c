"""A small random checkpoint in the real layout: for tests that look at mechanics, not at pictures.

The checkpoint that is shipped may change its shape with any training; this one never does.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from engine.checkpoint.synth import synth

SEED = 20250
#: Environment variable that names it.
NAME = "TINY_CKPT"
#: … and one that names the folder for it where several test processes work side by side.
SHARED = "TINY_CKPT_FOLDER"


@functools.cache
def tiny_ckpt() -> Path:
    """Made once, and removed when the process that keeps its folder ends; found by ``NAME``."""
    known = os.environ.get(NAME)
    if known is not None and Path(known).is_dir():
        return Path(known)
    ckpt = shared("ckpt", lambda folder: synth("tiny", folder, SEED))
    os.environ[NAME] = str(ckpt)
    return ckpt


def shared(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once for all test processes that work side by side.

    Args:
        make: fills the folder of this path, which is not there yet.
    """
    folder = Path(os.environ.get(SHARED) or keep_folder())
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait for it
        if not (folder / name).is_dir():
            making = folder / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)  # of a process that was killed
            make(making)
            making.rename(folder / name)
    return folder / name


def keep_folder() -> str:
    """A folder for the checkpoint that lasts as long as this process, named in ``SHARED``."""
    folder = Path(tempfile.mkdtemp(prefix="avatop-tiny-"))
    atexit.register(_remove, folder, os.getpid())
    os.environ[SHARED] = str(folder)
    return str(folder)


def share_embeddings(cache: Path) -> None:
    """Let ``cache`` have what other tests' ranks encoded of this checkpoint.

    Nearly all tests say the same words in the same voice, and encoding them is dear: the library
    of the encoders takes longer to import than such a job takes otherwise.
    """
    kept, here = tiny_ckpt().parent / "embeddings", cache / "embeddings"
    if not here.exists():
        kept.mkdir(exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        here.symlink_to(kept, target_is_directory=True)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of it
        shutil.rmtree(folder, ignore_errors=True)

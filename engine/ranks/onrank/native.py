"""The few Linux calls Python has no name for: prctl(2), the process title, C-level streams."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_IOLBF: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | ctypes.Array[ctypes.c_char]) -> None:
    value = ctypes.c_ulong(argument) if isinstance(argument, int) else argument
    if _libc.prctl(option, value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with_parent(parent: int, signum: signal.Signals) -> bool:
    """Get ``signum`` when the thread that made this process ends.

    Returns False if ``parent`` had ended before the request reached the kernel: then no signal
    will ever come and the caller must leave by itself.
    """
    _prctl(_PR_SET_PDEATHSIG, int(signum))
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_title(name: str, title: str) -> None:
    """Show ``name`` (15 bytes) as the thread's name and ``title`` as the command line.

    The title is written over the memory of the process's own arguments, cut to its size; where
    ``/proc`` does not tell where that lies, the command line stays as it was.
    """
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]))
    with contextlib.suppress(OSError, ValueError, IndexError):
        raw = Path("/proc/self/stat").read_bytes()
        fields = raw[raw.rfind(b")") + 1 :].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end: fields 48 and 49
        size = end - start
        if start <= 0 or size <= 1:
            return
        body = title.encode().replace(b" ", b"\0")[: size - 1].ljust(size, b"\0")
        ctypes.memmove(start, body, size)


def line_buffer_c_stdout() -> None:
    """Let C code's printf reach the pipe line by line, not block by block."""
    stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
    _libc.setvbuf(stdout, None, _IOLBF, ctypes.c_size_t(0))


def flush_c_streams() -> None:
    """fflush(NULL): what C code has printed but not written yet."""
    _libc.fflush(None)

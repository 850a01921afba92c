"""Does the console in a real terminal run its job, and does the job outlive the terminal?"""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pexpect
import psutil
import pytest

from tests.e2e.harness import (
    argv,
    gone,
    job_flags,
    promptly,
    python_in_a_terminal,
    ranks_of,
    until,
)

pytestmark = [pytest.mark.pty, pytest.mark.ranks, pytest.mark.xdist_group("e2e")]


def _demo(
    folder: Path, inputs: Path, **changes: object
) -> AbstractContextManager[pexpect.spawn[bytes]]:
    """``avatop demo`` in a terminal of its own."""
    flags = job_flags(inputs, mode="fsdp", **changes)
    return python_in_a_terminal(folder, "-m", "console", "demo", *argv(flags))


def _state(folder: Path) -> str | None:
    """The only job's state, as another process sees it."""
    path = folder / "state" / "jobs.sqlite3"
    if not path.exists():
        return None
    with sqlite3.connect(path, timeout=5) as store:
        try:
            row = store.execute("SELECT state FROM jobs").fetchone()
        except sqlite3.OperationalError:  # the tables are being made
            return None
    return None if row is None else str(row[0])


def _read_along(child: pexpect.spawn[bytes]) -> bool:
    """Take what the console draws, as a terminal does. Always true.

    Raises:
        pexpect.EOF: the console has ended.
    """
    with suppress(pexpect.TIMEOUT):
        child.read_nonblocking(1 << 16, timeout=0)
    return True


def test_the_job_finishes_when_the_terminal_goes_away(tmp_path: Path, inputs: Path) -> None:
    with _demo(tmp_path, inputs) as child:
        until(lambda: _read_along(child) and ranks_of(child.pid))
        console = psutil.Process(child.pid)
        below = console.children(recursive=True)
        child.ptyproc.fileobj.close()  # the connection breaks: the kernel sends SIGHUP
        child.ptyproc.closed = child.closed = True  # or its number would be closed once more
        until(lambda: gone([console]))
        until(lambda: _state(tmp_path) == "done")
        until(lambda: gone(below))  # with its last job the engine ends, too


def test_killing_the_console_leaves_no_rank(tmp_path: Path, inputs: Path) -> None:
    with _demo(tmp_path, inputs, infer_frames=480) as child:
        ranks = until(lambda: _read_along(child) and ranks_of(child.pid))
        below = psutil.Process(child.pid).children(recursive=True)
        os.kill(child.pid, signal.SIGKILL)
        promptly(lambda: gone([*ranks, *below]), seconds=2.0)
        assert _state(tmp_path) == "interrupted"

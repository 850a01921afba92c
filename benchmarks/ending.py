"""A benchmark leaves nothing at work behind it, whatever ends it.

Programs that it starts get sessions of their own (a terminal's, an engine's, a fork server's), so
neither its end nor ``timeout``'s signal to its group reaches them. They inherit a variable that
only this process sets, and ``/proc/PID/environ`` shows it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from engine.guard.identity import PidFd, ProcessGone

#: Seconds after TERM, and after KILL: ranks and engines free what the kernel would not.
GRACE: Final = 5.0
#: Looks for what was started while others were being ended.
LOOKS: Final = 3
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


def leaving_nothing(main: Callable[[], int | None]) -> int:
    """Run a benchmark's ``main``; its exit status.

    TERM (of ``timeout``) and HUP end what it started and then unwind it, so that ``finally`` and
    ``with`` do their work. What is left after any other end is ended as well, and told.
    """
    mark = f"AVATOP_BENCHMARK_{os.getpid()}_{time.monotonic_ns()}"
    os.environ[mark] = "1"

    def asked(signum: int, _: FrameType | None) -> None:
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)  # it is being done
        end(mark)
        sys.exit(128 + signum)

    for one in _SIGNALS:
        signal.signal(one, asked)
    try:
        return main() or 0
    finally:
        left = end(mark)
        if left:
            print(f"ended what was left at work: {left} processes", file=sys.stderr)


def end(mark: str) -> int:
    """TERM, a wait, KILL for all that carry the variable, this process apart; how many."""
    count = 0
    for _ in range(LOOKS):
        with contextlib.ExitStack() as stack:
            left = [stack.enter_context(one) for one in _carrying(mark.encode())]
            if not left:
                break
            count += len(left)
            for signum in (signal.SIGTERM, signal.SIGKILL):
                for one in left:
                    one.send(signum)
                until = time.monotonic() + GRACE
                left = [one for one in left if not one.exited(max(0.0, until - time.monotonic()))]
    return count


def _carrying(mark: bytes) -> Iterator[PidFd]:
    """Handles on living processes with the variable; the caller closes them."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            one = PidFd(int(entry.name))
        except ProcessGone:
            continue
        try:
            marked = mark in (entry / "environ").read_bytes()
        except OSError:  # another user's, or gone
            marked = False
        if marked:
            yield one
        else:
            one.close()

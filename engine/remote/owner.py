"""The console that an engine's process was started for: its death without a farewell ends the work.

Who leaves a console on purpose, or loses its terminal, says so before; the engine then works on. A
console that is killed says nothing. Unless somebody else is attached, nobody watches any more what
its ranks do, so they end with it and the job can be resumed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from engine.guard.identity import PidFd, ProcessGone, identify
from engine.remote.server import Server

#: Seconds that the console's last words may take to be read after its end.
LAST_WORDS_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.01


def told(pid: int) -> str:
    """How a console names itself to the engine's process it starts: ``PID:START``."""
    me = identify(pid)
    return "" if me is None else f"{me.pid}:{me.start_ticks}"


def watch(name: str, server: Server, lost: Callable[[], None]) -> None:
    """Call ``lost``, on a thread, once the console ``name`` was killed and nobody else is there."""
    pid, _, start = name.partition(":")
    if not (pid.isdecimal() and start.isdecimal()):
        return
    threading.Thread(
        target=_watch,
        args=(int(pid), int(start), server, lost),
        name="avatop-owner",
        daemon=True,
    ).start()


def _watch(pid: int, start: int, server: Server, lost: Callable[[], None]) -> None:
    try:
        with PidFd(pid, start) as console:
            while not console.exited(60.0):
                if server.said_farewell(pid):
                    return
    except ProcessGone:
        pass  # it ended before we looked: the same as its end
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while time.monotonic() < deadline and pid in {c.pid for c in server.consoles()}:
        time.sleep(_LOOK_SECONDS)
    if not server.said_farewell(pid) and not [c for c in server.consoles() if not c.read_only]:
        lost()

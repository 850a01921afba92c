"""The mark that an engine leaves in the environment of everything it starts.

``/proc/PID/environ`` shows the environment a program was started with; forks inherit it. So a
fork server, its ranks and their children say whose they are long after titles and parents have
changed, and a look-alike does not.
"""

from __future__ import annotations

import os
from typing import Final

from engine.guard.identity import Identity, identify

MARK: Final = "AVATOP_ENGINE"
#: The state folder of the engine: what a dead engine left is its successor's to end, not that of
#: an engine that works for another folder.
HOME: Final = "AVATOP_ENGINE_HOME"


def environment(home: str | None = None) -> dict[str, str]:
    """The variables to add to the environment of a fork server; empty without ``/proc``."""
    me = identify(os.getpid())
    if me is None:
        return {}
    mark = {MARK: f"{me.pid}:{me.start_ticks}:{me.boot}"}
    return mark if home is None else {**mark, HOME: home}


def parse(value: str | None) -> Identity | None:
    """The engine that a mark names; None if there is no mark, or it is none of ours."""
    parts = (value or "").split(":")
    if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return Identity(int(parts[0]), int(parts[1]), parts[2])

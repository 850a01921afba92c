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


def environment() -> dict[str, str]:
    """The variable to add to the environment of a fork server; empty without ``/proc``."""
    me = identify(os.getpid())
    return {} if me is None else {MARK: f"{me.pid}:{me.start_ticks}:{me.boot}"}


def parse(value: str | None) -> Identity | None:
    """The engine that a mark names; None if there is no mark, or it is none of ours."""
    parts = (value or "").split(":")
    if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return Identity(int(parts[0]), int(parts[1]), parts[2])

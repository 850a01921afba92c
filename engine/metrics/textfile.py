"""The page a running engine leaves in its state folder, for other processes to serve.

It has the form of node_exporter's textfile collector, so that can read it as well.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.metrics.facts import Facts
from engine.metrics.text import render

if TYPE_CHECKING:
    from engine.alerts.measures import Probes

NAME: Final = "metrics.prom"
#: An older page belongs to an engine that has ended.
FRESH_SECONDS: Final = 20.0


def write_textfile(state: Path, facts: Facts, probes: Probes, now: float) -> bool:
    """Write the page whole. False where the folder cannot be written (a full disk)."""
    temporary = state / f".{NAME}.{os.getpid()}"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(render(facts, probes, now), encoding="utf-8")
        temporary.replace(state / NAME)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False
    return True


def read_textfile(state: Path, clock: Callable[[], float] = time.time) -> str | None:
    """The page of an engine that runs; None without one."""
    path = state / NAME
    try:
        if not -FRESH_SECONDS < clock() - path.stat().st_mtime < FRESH_SECONDS:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None

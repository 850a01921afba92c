"""Zombies and strays counted for rules, with the reaper's own evidence; nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psutil

from engine.guard.classify import DEFUNCT, ORPHAN, STOPPED, STRAY, STUCK, strays
from engine.guard.evidence import holders
from engine.guard.reaper import Reaper
from engine.metrics.facts import Facts

_ZOMBIES: Final = frozenset({DEFUNCT, ORPHAN, STOPPED, STRAY, STUCK})


def counter(facts: Facts) -> Callable[[], tuple[int, int] | None]:
    """A function that tells (zombies, strays) now; None where the host hides its processes.

    The driver's list is the last one sampled: the reaper opens no device of its own here.
    """
    reaper = Reaper(
        read_memory=lambda: holders(d for d in facts.devices.values() if d.source == "nvml")
    )

    def count() -> tuple[int, int] | None:
        try:
            verdicts = reaper.verdicts(reaper.look())
        except (OSError, psutil.Error):
            return None
        return sum(v.kind in _ZOMBIES for v in verdicts), strays(verdicts)

    return count

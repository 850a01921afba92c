"""Zombies and strays counted for rules, out of the engine's own surveys; nothing is looked at."""

from __future__ import annotations

from typing import Final

from engine.guard.classify import DEFUNCT, ORPHAN, STOPPED, STRAY, STUCK
from engine.messages import Event, ProcessesSurveyed

_ZOMBIES: Final = frozenset({DEFUNCT, ORPHAN, STOPPED, STRAY, STUCK})
#: Inference processes that hold devices without belonging to anybody.
_STRAYS: Final = frozenset({STRAY, ORPHAN, STUCK})


class Counts:
    """Subscribe ``listen`` to a bus; ``now`` tells (zombies, strays), None before a survey."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None

    def listen(self, event: Event) -> None:
        if isinstance(event, ProcessesSurveyed):
            kinds = [process.kind for process in event.processes]
            self._last = (sum(k in _ZOMBIES for k in kinds), sum(k in _STRAYS for k in kinds))

    def now(self) -> tuple[int, int] | None:
        return self._last

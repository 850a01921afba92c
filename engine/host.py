"""What runs and orders need of the engine that they belong to."""

from __future__ import annotations

from typing import Protocol

from engine.bus import Bus
from engine.guard.limits import Limits
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.preflight import Machine
from engine.ranks.server import RankServer
from engine.retry.desk import Desk
from engine.warm import WarmGroups


class Host(Protocol):
    """What a run needs of its engine."""

    places: Places
    bus: Bus
    store: JobStore
    server: RankServer
    version: str
    limits: Limits
    desk: Desk
    warm: WarmGroups

    async def machine(self) -> Machine:
        """The host at this moment."""

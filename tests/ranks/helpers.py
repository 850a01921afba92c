"""A group under test, with everything it told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from engine.guard.identity import PidFd, ProcessGone
from engine.ranks.group import RankGroup
from engine.ranks.outcome import RankExit, RankLog
from engine.ranks.protocol import RankSpec, Report
from engine.ranks.server import RankServer
from tests.pace import Pace

#: Enough for the test jobs, and quick.
PRELOAD = (
    "torch",
    "torch.distributed",
    "engine.ranks.onrank.main",
    "engine.ranks.onrank.setup",
    "engine.ranks.onrank.failure",
    "engine.ranks.onrank.rendezvous",
)


def specs(world: int, folder: Path, port: int = 0) -> list[RankSpec]:
    return [
        RankSpec(
            job=7,
            rank=rank,
            world_size=world,
            device="cpu",
            backend="gloo",
            master_addr="127.0.0.1",
            master_port=port,
            request={},
            plan={},
            layout={},
            segment_dir=str(folder),
            cache_dir=str(folder),
        )
        for rank in range(world)
    ]


@dataclass
class Heard:
    reports: list[Report] = field(default_factory=list)
    logs: list[RankLog] = field(default_factory=list)
    exits: list[RankExit] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, report: Report) -> None:
        self.reports.append(report)
        self.changed.set()

    def kinds(self, kind: str) -> list[Report]:
        return [r for r in self.reports if r.kind == kind]

    def phases(self, phase: str) -> set[int]:
        return {r.rank for r in self.kinds("phase") if r.data["phase"] == phase}

    def texts(self, stream: str) -> list[str]:
        return [log.text for log in self.logs if log.stream == stream]

    async def until_running(self, world: int) -> None:
        async with asyncio.timeout(30):
            while len(self.phases("running")) < world:
                self.changed.clear()
                await self.changed.wait()


async def start(
    server: RankServer,
    job: str,
    world: int,
    folder: Path,
    *,
    port: int = 0,
    env: dict[str, str | None] | None = None,
) -> tuple[RankGroup, Heard]:
    heard = Heard()
    group = await RankGroup.start(
        server,
        specs(world, folder, port),
        heard.report,
        heard.logs.append,
        heard.exits.append,
        entry=f"tests.ranks.jobs:{job}",
        env=env,
    )
    return group, heard


def all_ended(pids: list[int], within: float) -> bool:
    """True if none of these processes runs after at most ``within`` seconds for all of them.

    Seconds in which something waits for a core do not count.
    """
    handles = []
    for pid in pids:
        try:
            handles.append(PidFd(pid))
        except ProcessGone:
            continue
    pace = Pace()
    for handle in handles:
        while not handle.exited(max(0.0, within - pace.seconds)):
            if pace.seconds >= within:
                return False
    return True

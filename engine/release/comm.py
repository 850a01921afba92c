"""The communication micro-benchmark, run in ranks of its own between two jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from engine.guard.lease import LeaseHeld, take_all
from engine.guard.ports import reserve
from engine.messages import DeviceReading
from engine.ranks.group import RankGroup
from engine.ranks.protocol import RankSpec, Report
from engine.ranks.server import RankServer, RankServerError
from engine.release.gates import CANDIDATE, STABLE, Sample
from engine.release.model import Release
from engine.sentence import sentence

ENTRY: Final = "engine.placement.onrank.comm_bench:run"
#: On a host without GPUs, as many CPU ranks.
_CPU_RANKS: Final = 2
_SECONDS: Final = 120.0
_TRIES: Final = 10
_AGAIN_SECONDS: Final = 2.0


class BenchError(RuntimeError):
    """The benchmark could not be made; says why."""


def devices(readings: Sequence[DeviceReading], cpu_only: bool) -> list[DeviceReading | None]:
    """Devices it would run on; fewer than two: there is nothing to communicate."""
    gpus = [] if cpu_only else [r for r in readings if r.source == "nvml" and r.error is None]
    return list(gpus) if gpus else [None] * _CPU_RANKS


async def latencies(
    server: RankServer,
    chosen: Sequence[DeviceReading | None],
    variables: Mapping[str, str],
    folder: str,
) -> dict[str, float]:
    """Seconds by "operation bytes", the slowest rank's medians.

    Raises:
        BenchError: no devices, or the ranks failed.
    """
    uuids = [d.uuid for d in chosen if d is not None]
    for left in reversed(range(_TRIES)):
        try:
            leases = take_all(uuids)
            break
        except LeaseHeld as held:
            if not left:
                raise BenchError(str(held)) from held
            await asyncio.sleep(_AGAIN_SECONDS)
    try:
        with reserve() as port:
            return await _run(server, chosen, variables, folder, port.number)
    except OSError as error:
        raise BenchError(str(error)) from error
    finally:
        for lease in leases:
            lease.release()


async def _run(
    server: RankServer,
    chosen: Sequence[DeviceReading | None],
    variables: Mapping[str, str],
    folder: str,
    port: int,
) -> dict[str, float]:
    found: dict[str, float] = {}

    def hear(report: Report) -> None:
        if report.kind == "result":
            for name, seconds in report.data.get("latency", {}).items():
                found[name] = max(found.get(name, 0.0), float(seconds))

    plan = {"devices": [{"rank": n, "uuid": d.uuid if d else None} for n, d in enumerate(chosen)]}
    specs = [
        RankSpec(
            job=0,
            rank=number,
            world_size=len(chosen),
            device="cpu" if device is None else f"cuda:{device.index}",
            backend="gloo" if device is None else "nccl",
            master_addr="127.0.0.1",
            master_port=port,
            request={},
            plan=plan,
            layout={},
            segment_dir=folder,
            cache_dir=folder,
        )
        for number, device in enumerate(chosen)
    ]
    try:
        group = await RankGroup.start(
            server, specs, hear, _unheard, _unheard, entry=ENTRY, env=dict(variables)
        )
    except RankServerError as error:
        raise BenchError(str(error)) from error
    try:
        ended = await asyncio.wait_for(asyncio.shield(group.ended), _SECONDS)
    except TimeoutError as error:
        await group.stop(sentence("the benchmark took too long"))
        raise BenchError(
            sentence("the ranks said nothing for {seconds:.0f} s", seconds=_SECONDS)
        ) from error
    if not ended.ok:
        raise BenchError(ended.reason)
    return found


def _unheard(_: object) -> None:
    """Ranks of a benchmark have nothing to say but their result."""


async def pairs(
    server: RankServer,
    chosen: Sequence[DeviceReading | None],
    versions: tuple[Release, Release],
    count: int,
    folder: str,
) -> list[Sample]:
    """Interleaved benchmarks under both versions' environments; a failed one is told as such."""
    samples = []
    for number in range(count):
        order = (STABLE, CANDIDATE) if number % 2 == 0 else (CANDIDATE, STABLE)
        for role in order:
            variables = versions[role == CANDIDATE].variables
            try:
                found = await latencies(server, chosen, variables, folder)
                samples.append(Sample(0, role, True, "communication", latency=found))
            except BenchError as error:
                samples.append(Sample(0, role, False, "communication", error=str(error)))
    return samples

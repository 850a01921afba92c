"""Folders of pairs, and a batch service over the engine's double."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.batch import report
from engine.batch.rows import BatchRow, ItemRow
from engine.batch.service import BatchService
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import BatchChanged, BatchCommand, BatchItem, Event, Reply
from engine.preflight import Machine
from engine.resources import sample_data
from tests.bad_inputs import voice, write_wav
from tests.batch.double import Double, Script, all_done

PATIENCE = 60.0


def make_pair(folder: Path, name: str, *, seconds: float = 2.2, rate: int = 16_000) -> None:
    """A sound and a portrait of one name, each of its own bytes."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    (folder / "image").mkdir(exist_ok=True)
    write_wav(folder / "audio" / f"{name}.wav", voice(seconds, rate), rate)
    ramp = np.linspace(0, 255, 512, dtype=np.uint8)
    picture = np.broadcast_to(ramp, (512, 512)).copy()
    picture[0, : len(name.encode())] = np.frombuffer(name.encode(), np.uint8)
    Image.fromarray(picture).save(folder / "image" / f"{name}.png", compress_level=1)


def spec_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """A batch over ``folder``, small and without waits."""
    request = {
        "ckpt_dir": str(sample_data() / "ckpt"),
        "size": "64*64",
        "gpus": "cpu",
        **changes.pop("request", {}),
    }
    return {
        "audio_dir": str(folder / "audio"),
        "image_dir": str(folder / "image"),
        "out_dir": str(folder / "out"),
        "request": request,
        "retry_seconds": 0.0,
        **changes,
    }


class Bus:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[BatchChanged] = []
        self.lines: list[str] = []
        self.heard = asyncio.Event()

    def publish(self, event: Event) -> None:
        assert isinstance(event, BatchChanged)
        self.events.append(event)
        self.heard.set()

    def log(self, level: str, text: str, job: int | None = None, rank: int | None = None) -> None:
        self.lines.append(f"{level} {text}")

    async def until(self, wanted: Callable[[BatchChanged], Any]) -> BatchChanged:
        """The first event, of those that came and will come, that is wanted."""
        seen = 0
        async with asyncio.timeout(PATIENCE):
            while True:
                while seen < len(self.events):
                    event = self.events[seen]
                    seen += 1
                    if wanted(event):
                        return event
                self.heard.clear()
                await self.heard.wait()


@dataclasses.dataclass
class Bench:
    """A batch service whose engine is a double."""

    folder: Path
    jobs: JobStore
    double: Double
    service: BatchService
    bus: Bus

    async def ask(self, do: str, batch: str = "", **spec: Any) -> Reply:
        return await self.service.command(BatchCommand(do=do, batch=batch, spec=spec))

    async def start(self, **changes: Any) -> str:
        reply = await self.ask("start", **spec_of(self.folder, **changes))
        assert reply.ok, reply.message
        return str(reply.data["batch"])

    async def end_of(self, batch: str) -> BatchRow:
        """The batch's row once nothing of it is at work any more."""
        task = self.service._tasks.get(batch)
        if task is not None:
            await asyncio.wait_for(task, PATIENCE)
        row = self.service.store.batch(batch)
        assert row is not None
        return row

    async def whole(self, **changes: Any) -> BatchRow:
        """Start a batch and return its end."""
        return await self.end_of(await self.start(**changes))

    def items(self, row: BatchRow) -> dict[str, ItemRow]:
        return {item.name: item for item in self.service.store.items(row.id)}

    def items_now(self) -> list[BatchItem]:
        """The newest word on every item."""
        told = {item.key: item for event in self.bus.events for item in event.items}
        return list(told.values())

    def report(self, row: BatchRow) -> dict[str, Any]:
        return report.build(self.service.store, row)


@asynccontextmanager
async def bench(
    folder: Path,
    script: Script = all_done,
    *,
    together: int = 1,
    reached: Callable[[str, str], None] | None = None,
) -> AsyncIterator[Bench]:
    """A service under ``folder`` until the block ends."""
    places = Places(folder / "state", folder / "cache")
    jobs = JobStore(places.database)
    double = Double(jobs, script, together)
    bus = Bus()

    async def machine() -> Machine:
        return Machine()

    service = BatchService(jobs, double, places, bus, machine, reached=reached)
    service.open()
    try:
        yield Bench(folder, jobs, double, service, bus)
    finally:
        service.wind_down("the test is over")
        double.close()
        jobs.close()

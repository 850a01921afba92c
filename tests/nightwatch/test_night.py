"""Does the watch act on jobs as it must, and pass on what people ask of alerts?"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from engine.alerts.book import Book
from engine.alerts.states import FIRING, SILENCED, Alert
from engine.bus import Bus
from engine.checkpoint.layout import find
from engine.geometry import Forecast
from engine.guard.readonly import read_only
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import (
    Acknowledge,
    Audited,
    CheckpointChanged,
    Event,
    FindingRaised,
    JobRow,
    LogLine,
    Reply,
    Silence,
)
from engine.nightwatch.night import Night
from engine.params import Request
from engine.preflight import Prepared
from engine.resources import sample_data
from engine.waiting import Waiting
from tests.engine.plans import plan, row

FORECAST = Forecast(64, 64, 2, 2, 2, 93, 25, 3.72, ())


class Queue:
    """Jobs as the watch sees them, and what it asked for."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.live: list[tuple[JobRow, Prepared]] = []
        self.asked: list[tuple[str, int, str]] = []
        self.since = 0.0

    def at_work(self) -> tuple[tuple[JobRow, Prepared], ...]:
        return tuple(self.live)

    def began(self, job: int) -> float:
        return self.since

    def stop_after_clip(self, job: int, reason: str) -> None:
        self.asked.append(("stop", job, reason))

    def interrupt(self, job: int, reason: str) -> None:
        self.asked.append(("interrupt", job, reason))

    def pause(self, job: int, reason: str) -> Reply:
        self.asked.append(("pause", job, reason))
        return Reply(True)


class World:
    def __init__(self, folder: Path) -> None:
        self.places = Places(folder / "state", folder / "cache")
        self.store = JobStore(self.places.database)
        self.bus, self.queue = Bus(), Queue()
        self.events: list[Event] = []
        self.bus.subscribe(self.events.append)
        queue: Any = self.queue
        self.night = Night(self.bus, self.places, self.store, queue, self.queue.pause)
        self.prepared = Prepared(Request(), find(sample_data() / "ckpt"), plan(1), FORECAST, ())

    def of(self, kind: type[Event]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


async def test_a_change_means_another_thing_to_each_job_that_needs_the_file(world: World) -> None:
    live = [row(id=1, state="loading"), row(id=2, state="running"), row(id=3, state="decoding")]
    world.queue.live = [(job, world.prepared) for job in live]
    world.queue.waiting.add(row(id=4, state="queued"), world.prepared)
    shard = sorted((sample_data() / "ckpt").glob("*.safetensors"))[0]
    await world.night._changed(dict.fromkeys((1, 2, 3, 4), (shard,)))
    assert [(what, job) for what, job, _ in world.queue.asked] == [("interrupt", 1), ("pause", 2)]
    assert "half of each" in world.queue.asked[0][2]
    (event,) = world.of(CheckpointChanged)
    assert (event.files, event.jobs) == ((shard.name,), (1, 2, 3, 4))
    told = {line.job: line.text for line in world.of(LogLine)}
    assert "checked again before the job begins" in told[4]


async def test_a_change_that_was_over_before_a_job_began_does_not_end_it(
    world: World, tmp_path: Path
) -> None:
    """What changes a file is told some hundred milliseconds late."""
    world.queue.live = [(row(id=1, state="loading"), world.prepared)]
    shard = tmp_path / "shard.safetensors"
    shard.write_bytes(b"whole again")
    world.queue.since = shard.stat().st_ctime + 1.0
    await world.night._changed({1: (shard,)})
    assert world.queue.asked == []
    shard.unlink()
    await world.night._changed({1: (shard,)})
    assert [(what, job) for what, job, _ in world.queue.asked] == [("interrupt", 1)]


async def test_a_full_disk_is_told_once_per_job(world: World, tmp_path: Path) -> None:
    world.night.usage = lambda path: SimpleNamespace(free=1000)
    running = row(id=2, state="running", output=str(tmp_path / "out.mp4"))
    await world.night._watch_disk(running)
    assert [(what, job) for what, job, _ in world.queue.asked] == [("stop", 2)]
    (found,) = world.of(FindingRaised)
    assert (found.finding, found.job) == ("disk_full", 2)
    assert "1000 bytes" in found.cause
    assert 2 in world.night._full


async def test_orders_about_alerts_reach_those_who_judge_and_are_recorded(world: World) -> None:
    book = Book(world.places.state)
    alert = Alert("hot-1", "temperature-high", "critical", FIRING, "GPU-1", 1.0, 1.0)
    book.save([alert], [])
    unknown = await world.night.answer(Acknowledge(alert="nothing"))
    assert (unknown.ok, unknown.message) == (False, "no alert is called nothing")
    found = FindingRaised(id="job3-x", finding="x", severity="error", cause="why", job=3)
    world.bus.publish(found)
    assert (await world.night.answer(Acknowledge(alert="job3-x", by="kim"))).ok
    settled = world.of(FindingRaised)[-1]
    assert (settled.resolved, settled.since) == (True, found.t)
    assert world.bus.finding("job3-x") is None
    assert (await world.night.answer(Acknowledge(alert="hot-1", by="kim"))).ok
    by_rule = Silence(alert="temperature-high", seconds=60.0, by="kim")
    assert (await world.night.answer(by_rule)).ok
    assert (await world.night.answer(Silence(alert="hot-1", seconds=0.0))).ok
    orders = book.take_orders()
    assert [(o.kind, o.target) for o in orders] == [
        ("ack", "hot-1"),
        ("silence", "temperature-high"),
        ("unsilence", "hot-1"),
    ]
    assert orders[1].until == pytest.approx(orders[1].t + 60.0)
    done = [(e.action, e.target) for e in world.of(Audited)]
    assert done[:3] == [("ack", "job 3"), ("ack", "hot-1"), ("silence", "temperature-high")]
    assert {"alert.ack", "alert.silence"} <= {entry.action for entry in world.store.audits()}


async def test_what_is_silenced_is_not_called_acknowledged(world: World) -> None:
    book = Book(world.places.state)
    until = time.mktime((2126, 11, 22, 6, 30, 0, 0, 0, -1))
    quiet = Alert("hot-1", "temperature-high", "critical", SILENCED, "GPU-1", 1.0, 1.0,
                  until=until)  # fmt: skip
    book.save([quiet], [])
    for name in ("hot-1", "temperature-high"):
        reply = await world.night.answer(Acknowledge(alert=name, by="kim"))
        said = f"{name} stays silenced until 11-22 06:30"
        assert (reply.ok, reply.state, reply.message) == (True, "silenced", said)
    assert (book.take_orders(), world.of(Audited)) == ([], [])
    # One of the rule's is loud: it is acknowledged, and the other's silence goes on.
    loud = Alert("hot-2", "temperature-high", "critical", FIRING, "GPU-2", 1.0, 1.0)
    book.save([quiet, loud], [])
    reply = await world.night.answer(Acknowledge(alert="temperature-high", by="kim"))
    assert reply.state == "acknowledged"
    states = {alert.id: alert.state for alert in book.look(time.time())}
    assert states == {"hot-1": "silenced", "hot-2": "acknowledged"}


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("TRUE", True), ("", False)])
def test_an_engine_is_told_to_change_nothing_by_its_environment(value: str, expected: bool) -> None:
    assert read_only({"AVATOP_READ_ONLY": value}) is expected
    assert not read_only({})

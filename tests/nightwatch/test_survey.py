"""Does an engine see its host's processes, end its own leftovers, and others only when told?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.bus import Bus
from engine.guard import classify as c
from engine.guard import marks, scan
from engine.guard.identity import boot_id, unix_time
from engine.guard.scan import read_row
from engine.jobs.store import JobStore
from engine.messages import (
    Audited,
    Event,
    ProcessClass,
    ProcessesSurveyed,
    ProcessReading,
    Reap,
)
from engine.nightwatch.survey import UNASKED, Survey
from engine.remote.wire import snapshot_from_dict, snapshot_to_dict
from tests.guard.scenarios import QUICK, Card, Planted, reaper, state, until

DEAD = f"{2**22 + 9}:1:{boot_id()}"  # an engine that is not there


@pytest.fixture
def planted() -> Iterator[Planted]:
    planted = Planted()
    yield planted
    planted.close()


class World:
    """A survey whose reaper may signal nothing but what was planted."""

    def __init__(self, folder: Path, planted: Planted, **options: bool) -> None:
        self.events: list[Event] = []
        self.bus = Bus()
        self.bus.subscribe(self.events.append)
        self.store = JobStore(folder / "jobs.sqlite3")
        self.home = str(folder)
        self.survey = Survey(self.bus, self.store, self.home, **options)
        audit = self.survey.reaper.audit
        self.survey.reaper = reaper(
            planted, Card(()), audit=audit, home=self.home, waits=QUICK, **options
        )

    def holds(self, *pids: int) -> None:
        self.survey.reaper.read_memory = Card(pids)

    async def seen(self, pid: int) -> ProcessClass:
        await self.survey.look()
        told = [e for e in self.events if isinstance(e, ProcessesSurveyed)][-1]
        return next(p for p in told.processes if p.process.pid == pid)

    @property
    def audited(self) -> list[Audited]:
        return [e for e in self.events if isinstance(e, Audited)]


@pytest_asyncio.fixture
async def world(tmp_path: Path, planted: Planted) -> AsyncIterator[World]:
    world = World(tmp_path, planted)
    yield world
    world.store.close()


def _started(pid: int) -> float:
    row = read_row(pid)
    assert row is not None
    return unix_time(row.start_ticks)


async def test_only_what_this_folder_s_dead_engine_left_is_ended_at_the_start(
    world: World, planted: Planted
) -> None:
    (own,) = planted.orphans(env={marks.MARK: DEAD, marks.HOME: world.home})
    (others,) = planted.orphans(env={marks.MARK: DEAD, marks.HOME: "/another/state/folder"})
    (strangers,) = planted.orphans()
    await world.survey.reap_own()
    assert [state(pid) in (None, "Z") for pid in (own, others, strangers)] == [True, False, False]
    (told,) = world.audited
    assert (told.action, told.by) == ("reap", "policy")
    assert f"PID {own}" in told.target
    assert {a.detail["pid"] for a in world.store.audits() if a.action == "reap"} == {own}


async def test_others_orphans_are_ended_without_a_person_only_where_that_is_configured(
    world: World, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (orphan,) = planted.orphans(env={marks.MARK: DEAD, marks.HOME: "/another/state/folder"})
    stranger = planted.sleep()
    world.holds(orphan, stranger.pid)
    assert (await world.seen(orphan)).kind == c.ORPHAN
    for _ in range(2):
        await world.survey.reap_unasked(world.survey._unasked())
    assert not world.audited
    monkeypatch.setenv(UNASKED, "orphan, healthy")
    kinds = world.survey._unasked()
    assert kinds == {c.ORPHAN}
    await world.survey.reap_unasked(kinds)
    assert state(orphan) not in (None, "Z")  # once seen is not enough
    await world.survey.look()
    await world.survey.reap_unasked(kinds)
    assert state(orphan) in (None, "Z")
    assert state(stranger.pid) not in (None, "Z")
    # Others' tests may have orphans of their own here: the reaper under test touches none of them.
    told = [one.by for one in world.audited if f"PID {orphan} " in one.target]
    assert told == ["policy"]


async def test_a_survey_is_told_when_something_changed_and_only_then(
    world: World, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = planted.sleep()
    # On this host other tests' ranks come and go: here nothing changes but what is planted.
    monkeypatch.setattr(scan, "pids", lambda: iter([os.getpid(), stranger.pid]))
    world.holds(stranger.pid)
    seen = await world.seen(stranger.pid)
    assert seen.kind == c.HEALTHY
    assert seen.process.memory == {"GPU-0": 1 << 30}
    assert abs(seen.process.started - _started(stranger.pid)) < 1.5
    count = len(world.events)
    await world.survey.look()
    assert len(world.events) == count
    stranger.kill()
    stranger.wait(20)
    await world.survey.look()
    assert len(world.events) == count + 1


async def test_a_stranger_needs_its_number_typed_and_gets_term_before_kill(
    world: World, planted: Planted
) -> None:
    stubborn = planted.shell("trap '' TERM; echo up; while :; do sleep 1; done")
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == "up\n"
    pid = stubborn.pid
    world.holds(pid)
    target = ((pid, _started(pid)),)
    asked = await world.survey.reap(Reap(targets=target, by="kim"))
    assert not asked.ok
    assert "has to be typed" in asked.message
    gentle = await world.survey.reap(Reap(targets=target, confirmed=True, by="kim"))
    assert not gentle.ok
    assert "SIGKILL was not confirmed" in gentle.message
    assert state(pid) not in (None, "Z")
    forced = await world.survey.reap(Reap(targets=target, confirmed=True, force=True, by="kim"))
    assert forced.ok, forced.message
    until(lambda: state(pid) in (None, "Z"))
    assert forced.data["actions"][0]["action"] == "TERM, KILL"
    assert {entry.by for entry in world.audited} == {"kim"}


async def test_another_process_of_the_same_number_is_never_signalled(
    world: World, planted: Planted
) -> None:
    bystander = planted.sleep()
    world.holds(bystander.pid)
    old = ((bystander.pid, _started(bystander.pid) - 3600.0), (2**22 + 7, 1.0))
    reply = await world.survey.reap(Reap(targets=old, confirmed=True, force=True))
    assert not reply.ok
    assert "belongs to another process now" in reply.message
    assert "no such process" in reply.message
    assert bystander.poll() is None
    me = await world.survey.reap(Reap(targets=((1, _started(1)),), confirmed=True, force=True))
    assert not me.ok
    assert world.audited == []


async def test_read_only_ends_nothing_neither_by_itself_nor_when_asked(
    tmp_path: Path, planted: Planted
) -> None:
    world = World(tmp_path, planted, read_only=True)
    (own,) = planted.orphans(env={marks.MARK: DEAD, marks.HOME: world.home})
    looked = asyncio.Event()
    world.bus.subscribe(lambda e: looked.set() if isinstance(e, ProcessesSurveyed) else None)
    running = asyncio.create_task(world.survey.run())
    await asyncio.wait_for(looked.wait(), 20)
    running.cancel()
    reply = await world.survey.reap(Reap(targets=((own, _started(own)),), confirmed=True))
    assert not reply.ok
    assert "read-only" in reply.message
    assert state(own) not in (None, "Z")
    world.store.close()


async def test_a_job_s_mirrored_state_is_no_leak(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "shm"
    folder.mkdir()
    for name in ("avatop-mirror-17-ring", "avatop-lost", "nccl-x1"):
        path = folder / name
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    look = world.survey.reaper
    look.shm_folder, look.shm_min_age = folder, 0.0
    await world.survey.look()
    told = [e for e in world.events if isinstance(e, ProcessesSurveyed)][-1]
    assert told.leaked == ("avatop-lost", "nccl-x1")
    await world.survey.reap_own()
    assert sorted(p.name for p in folder.iterdir()) == ["avatop-mirror-17-ring", "nccl-x1"]


def test_who_attaches_late_is_told_when_it_was_seen() -> None:
    bus = Bus()
    seen = ProcessClass(process=ProcessReading(7, 1.0), kind="stray", evidence=())
    bus.publish(ProcessesSurveyed(processes=(seen,), t=123.0))
    late = snapshot_from_dict(snapshot_to_dict(bus.snapshot()))
    assert (late.processes, late.surveyed) == ((seen,), 123.0)

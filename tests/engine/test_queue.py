"""In what order do jobs run, and what waits for what?"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from engine import work as module
from engine.bus import Bus
from engine.geometry import Forecast
from engine.guard.lease import Holder, LeaseHeld
from engine.guard.limits import Limits
from engine.jobs.drained import Drained
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import JobRow, LogLine
from engine.preflight import Machine, PreflightError, Prepared
from engine.queue import JobQueue
from engine.retry.desk import Again, Desk
from engine.warm import WarmGroups
from tests.engine.plans import plan

FORECAST = Forecast(64, 64, 2, 2, 2, 93, 25, 3.72, ())
REQUEST = {"image": "/x.png", "audio": "/x.wav", "ckpt_dir": "/x"}


class FakeRun:
    """A job that runs until it is told how to end."""

    made: ClassVar[list[FakeRun]] = []
    held: ClassVar[LeaseHeld | None] = None
    fault: ClassVar[Exception | None] = None

    def __init__(self, host: Any, row: JobRow, prepared: Prepared) -> None:
        self.row = row
        self._host = host
        self.over = asyncio.Event()
        self.again: Again | None = None
        self.told_to_end: tuple[str, str] | None = None
        self.asked: list[str] = []
        FakeRun.made.append(self)

    async def drive(self) -> LeaseHeld | None:
        if FakeRun.held is not None:
            return FakeRun.held
        await self.over.wait()
        if FakeRun.fault is not None:
            raise FakeRun.fault
        return None

    def cancel(self, reason: str, state: str = "cancelled") -> bool:
        self.asked.append(state)
        self.over.set()
        return True

    def stop_after_clip(self, reason: str) -> None:
        self.asked.append("after clip")
        self.over.set()

    def set_spike_threshold(self, count: int | None) -> None:
        self.asked.append(f"threshold {count}")


class Host:
    version = "0"
    server: Any = None

    def __init__(self, folder: Path) -> None:
        self.places = Places(folder / "state", folder / "cache")
        self.bus = Bus()
        self.store = JobStore(self.places.database)
        self.refusal: PreflightError | None = None
        self.limits = Limits()
        self.warm = WarmGroups(self.bus, 0.0)
        self.desk = Desk(self.bus, self.machine)

    async def machine(self) -> Machine:
        return Machine()


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    # One thread: what was asked of it before has been done when it answers.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    FakeRun.made, FakeRun.held, FakeRun.fault = [], None, None

    def prepare(request: Any, machine: Machine, folders: Any) -> Prepared:
        if host.refusal is not None:
            raise host.refusal
        if request.gpus == "cpu":
            chosen = plan(1)
        else:
            chosen = plan(1, "cuda")
            device = dataclasses.replace(chosen.devices[0], uuid=f"GPU-{request.gpus}")
            chosen = dataclasses.replace(chosen, devices=(device,))
        return Prepared(request, None, chosen, FORECAST, ())  # type: ignore[arg-type]

    monkeypatch.setattr(module, "prepare", prepare)
    monkeypatch.setattr(module, "JobRun", FakeRun)
    yield host
    host.store.close()


async def _submit(queue: JobQueue, gpus: str = "cpu") -> int:
    reply = await queue.submit({**REQUEST, "gpus": gpus})
    assert reply.ok, reply.message
    assert reply.job is not None
    return reply.job


async def _end(job: int) -> None:
    next(run for run in FakeRun.made if run.row.id == job).over.set()
    for _ in range(5):
        await asyncio.sleep(0)


def _started() -> list[int]:
    return [run.row.id for run in FakeRun.made]


async def test_on_the_cpu_jobs_run_one_after_the_other(host: Host) -> None:
    queue = JobQueue(host)
    first, second, third = [await _submit(queue) for _ in range(3)]
    await asyncio.sleep(0)
    assert _started() == [first]
    await _end(first)
    assert _started() == [first, second]
    await _end(second)
    await _end(third)
    assert _started() == [first, second, third]
    await asyncio.wait_for(queue.idle(), 5)


async def test_other_devices_run_beside_and_nobody_overtakes(host: Host) -> None:
    queue = JobQueue(host)
    a0 = await _submit(queue, "0")
    b0 = await _submit(queue, "0")
    c1 = await _submit(queue, "1")
    assert _started() == [a0, c1]
    d0 = await _submit(queue, "0")
    await _end(c1)
    assert _started() == [a0, c1]
    await _end(a0)
    assert _started() == [a0, c1, b0]
    await _end(b0)
    assert _started()[-1] == d0
    await _end(d0)


async def test_a_refused_request_leaves_nothing_behind(host: Host) -> None:
    queue = JobQueue(host)
    host.refusal = PreflightError("does not fit", "refused")
    reply = await queue.submit({**REQUEST, "gpus": "cpu"})
    assert (reply.ok, reply.state, reply.message) == (False, "refused", "does not fit")
    reply = await queue.submit({**REQUEST, "infer_frames": 80})
    assert (reply.ok, reply.state) == (False, "bad_input")
    assert "multiple of 12" in reply.message
    assert host.store.list() == ()
    assert not queue.busy


async def test_a_waiting_job_is_cancelled_at_once_a_running_one_is_asked(host: Host) -> None:
    queue = JobQueue(host)
    lines: list[tuple[str, str]] = []
    host.bus.subscribe(
        lambda e: lines.append((e.level, e.text)) if isinstance(e, LogLine) else None
    )
    first, second = [await _submit(queue) for _ in range(2)]
    assert queue.cancel(second, "not needed").state == "cancelled"
    assert host.store.get(second).error == "not needed"
    assert lines == [("INFO", "cancelled: not needed")]  # asked for: no fault
    assert queue.cancel(first, "stop").ok
    assert FakeRun.made[0].asked == ["cancelled"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert _started() == [first]
    assert not queue.cancel(99, "x").ok


async def test_a_device_of_another_engine_is_waited_for_in_its_place(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.queue.RETRY_SECONDS", 0.0)
    lines: list[str] = []
    host.bus.subscribe(lambda e: lines.append(e.text) if isinstance(e, LogLine) else None)
    queue = JobQueue(host)
    FakeRun.held = LeaseHeld("GPU-0", Holder(pid=4711))
    first = await _submit(queue, "0")
    second = await _submit(queue, "0")
    for _ in range(20):
        await asyncio.sleep(0)
    assert set(_started()) == {first}
    assert sum("process 4711" in line for line in lines) == 1
    FakeRun.held = None
    for _ in range(20):
        await asyncio.sleep(0)
    assert _started()[-1] == first
    FakeRun.made[-1].over.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert _started()[-1] == second
    FakeRun.made[-1].over.set()


async def test_closing_interrupts_what_runs_and_leaves_what_waits_to_the_next_engine(
    host: Host,
) -> None:
    queue = JobQueue(host)
    await _submit(queue)
    second = await _submit(queue)
    await queue.close("stopped")
    assert FakeRun.made[0].asked == ["interrupted"]
    assert host.store.get(second).state == "queued"
    refused = await queue.submit({**REQUEST, "gpus": "cpu"})
    assert not refused.ok
    claimed = host.store.claim_stale()
    assert [(row.id, row.state) for row in claimed] == [(second, "queued")]
    following = JobQueue(host)
    await following.adopt(claimed)
    assert _started()[-1] == second
    await following.close("over")


async def test_a_job_that_can_no_longer_run_says_so_when_the_next_engine_takes_it(
    host: Host,
) -> None:
    queue = JobQueue(host)
    await _submit(queue)
    second = await _submit(queue)
    await queue.close("stopped")
    host.refusal = PreflightError("the portrait is gone", "bad_input")
    await JobQueue(host).adopt(host.store.claim_stale())
    row = host.store.get(second)
    assert row.state == "interrupted"
    assert "the portrait is gone" in (row.error or "")


async def test_a_fault_of_the_engine_ends_the_job_and_the_next_one_runs(host: Host) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # it is told, too
    queue = JobQueue(host)
    first, second = [await _submit(queue) for _ in range(2)]
    await asyncio.sleep(0)
    FakeRun.fault = ValueError("no way from here")
    await _end(first)
    FakeRun.fault = None
    row = host.store.get(first)
    assert row.state == "interrupted"
    assert row.error == "the engine failed: ValueError: no way from here"
    assert _started() == [first, second]
    await _end(second)
    await asyncio.wait_for(queue.idle(), 5)


async def test_a_drained_device_stays_drained_in_the_next_engine(host: Host) -> None:
    drained = Drained(host.store)
    drained["GPU-1"] = "GPU-1"
    drained["cpu"] = "cpu"
    del drained["cpu"]
    assert dict(Drained(host.store)) == {"GPU-1": "GPU-1"}
    queue = JobQueue(host)
    queue.drained = Drained(host.store)
    job = await _submit(queue, "1")
    assert job not in _started()
    await queue.close("over")


async def test_thresholds_reach_running_jobs_only(host: Host) -> None:
    queue = JobQueue(host)
    first, second = [await _submit(queue) for _ in range(2)]
    assert queue.set_spike_threshold(first, 5).ok
    assert queue.set_spike_threshold(first, None).ok
    assert not queue.set_spike_threshold(first, 0).ok
    told = queue.set_spike_threshold(second, 5)
    assert (told.ok, told.state) == (False, "queued")
    assert told.message == f"job {second} has not begun"
    assert FakeRun.made[0].asked == ["threshold 5", "threshold None"]
    await queue.close("over")

"""Do the queue's orders do what they say: order, drain, switch, pause, resume, relaunch, retry?"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from engine.jobs.store import JobStore
from engine.messages import (
    Audited,
    DeviceReading,
    Event,
    JobChanged,
    LogLine,
    PlanChanged,
)
from engine.orders import Orders
from engine.parameters.request import Request
from engine.preflight import Machine, PreflightError
from engine.queue import JobQueue
from engine.remote.wire import snapshot_from_dict, snapshot_to_dict
from engine.retry.desk import Again
from engine.retry.replan import Next
from tests.engine.test_queue import FakeRun, Host, _end, _started, _submit, host

__all__ = ["host"]  # a fixture

GPUS = tuple(DeviceReading(n, "H200", f"GPU-{n}", "nvml") for n in (0, 1))


def _made(host: Host) -> tuple[JobQueue, Orders, list[Event]]:
    async def machine() -> Machine:
        return Machine(GPUS, drained=frozenset(queue.drained))

    host.machine = machine  # type: ignore[method-assign]
    events: list[Event] = []
    host.bus.subscribe(events.append)
    queue = JobQueue(host)
    return queue, Orders(queue, host), events


async def _settle() -> None:
    for _ in range(20):  # a step on the loop, one on its only thread, one on the loop, …
        await asyncio.sleep(0)
        await asyncio.to_thread(int)


async def test_a_job_put_first_runs_next_and_the_order_is_kept(host: Host) -> None:
    queue, orders, _ = _made(host)
    first, second, third, fourth = [await _submit(queue, "0") for _ in range(4)]
    assert orders.reorder(fourth, 0).data["order"] == [fourth, second, third]
    last = orders.reorder(second, 9)
    assert last.data["order"] == [fourth, third, second]
    assert last.message == f"job {second} is number 3 of the 3 that wait"  # not the whole queue
    assert not orders.reorder(first, 0).ok  # it runs
    assert not orders.reorder(99, 0).ok
    kept = {row.id: row.position for row in JobStore(host.store.path).list()}
    order = sorted((fourth, third, second), key=lambda n: kept[n] or n)
    assert order == [fourth, third, second]
    for job in (first, fourth, third):
        await _end(job)
    assert _started() == [first, fourth, third, second]
    await queue.close("over")


async def test_a_drained_device_gets_no_new_work_and_holds_up_nobody(host: Host) -> None:
    queue, orders, events = _made(host)
    running = await _submit(queue, "0")
    waiting = await _submit(queue, "0")
    assert not (await orders.drain("GPU-9", True)).ok
    reply = await orders.drain("GPU-0", True)
    assert "GPU 0 is drained" in reply.message
    other = await _submit(queue, "1")
    await _end(running)
    assert _started() == [running, other]
    assert any("drained" in e.text for e in events if isinstance(e, LogLine) and e.job == waiting)
    assert "drain" in {entry.action for entry in host.store.audits()}
    assert snapshot_from_dict(snapshot_to_dict(host.bus.snapshot())).drained == ("GPU-0",)
    await orders.drain("GPU-0", False)
    assert host.bus.snapshot().drained == ()
    assert _started() == [running, other, waiting]
    await queue.close("over")


async def test_waiting_jobs_are_switched_or_say_why_not(host: Host) -> None:
    queue, orders, events = _made(host)
    running = await _submit(queue, "0")
    waiting = await _submit(queue, "0")
    reply = await orders.switch_queue({"sample_steps": 3})
    assert reply.data == {"switched": [waiting], "refused": []}
    assert host.store.get(waiting).request["sample_steps"] == 3
    assert host.store.get(running).request["sample_steps"] == 4
    (changed,) = [e for e in events if isinstance(e, PlanChanged)]
    assert (changed.job, changed.reason) == (waiting, "switch")
    assert "sample_steps 3" in changed.change
    # What shaped one mode does not shape the next, as for a job that runs.
    assert (await orders.switch_waiting(waiting, {"mode": "tpp", "num_gpus_dit": 2})).ok
    assert (await orders.switch_waiting(waiting, {"mode": "single"})).ok
    assert host.store.get(waiting).request["num_gpus_dit"] is None
    refused = await orders.switch_queue({"infer_frames": 80})
    assert refused.data["refused"] == [waiting]
    assert host.store.get(waiting).request["infer_frames"] == 48
    await queue.close("over")


async def test_a_paused_job_waits_outside_until_it_is_resumed(host: Host) -> None:
    queue, orders, _ = _made(host)
    running = await _submit(queue, "0")
    paused = await _submit(queue, "0")
    assert orders.pause(paused).state == "paused"
    await _end(running)
    assert _started() == [running]
    await asyncio.wait_for(queue.idle(), 5)
    assert (await orders.resume(paused)).ok
    row = host.store.get(paused)
    assert (row.attempt, row.error) == (1, None)
    assert row.output is not None
    assert _started() == [running, paused]
    again = await orders.resume(paused)
    assert "nothing to resume" in again.message
    await queue.close("over")


async def test_an_interrupted_job_goes_on_unless_what_is_seen_would_change(host: Host) -> None:
    queue, orders, events = _made(host)
    job = await _submit(queue, "0")
    await _end(job)
    host.store.update(job, state="preflight")
    host.store.update(job, state="interrupted", clip=3)
    refused = await orders.resume(job, changes={"size": "64*64"})
    assert "size must stay" in refused.message
    reply = await orders.relaunch(job, {"kv_home": "host"}, {"NCCL_DEBUG": "INFO"}, "kim")
    assert (reply.ok, reply.job) == (True, job)
    row = host.store.get(job)
    assert (row.attempt, row.environment) == (2, {"NCCL_DEBUG": "INFO"})
    assert row.request["kv_home"] == "host"
    audit = next(a for a in host.store.audits() if a.action == "relaunch")
    assert audit.detail["by"] == "kim"
    assert [(e.by, e.target) for e in events if isinstance(e, Audited)] == [("kim", f"job {job}")]
    await queue.close("over")


async def test_an_ended_job_is_relaunched_as_a_new_one_with_its_changes(host: Host) -> None:
    queue, orders, events = _made(host)
    job = await _submit(queue, "0")
    await _end(job)
    host.store.update(job, state="failed", size="640*384")
    reply = await orders.relaunch(job, {"size": "lower"}, {"NCCL_P2P_DISABLE": "1"}, "operator")
    assert reply.ok, reply.message
    assert reply.job != job
    row = host.store.get(reply.job or 0)
    assert row.request["size"] == "512*256"
    assert (row.attempt, row.environment) == (2, {"NCCL_P2P_DISABLE": "1"})
    changed = [e for e in events if isinstance(e, PlanChanged)][-1]
    assert (changed.job, changed.reason) == (row.id, "relaunch")
    assert "NCCL_P2P_DISABLE=1" in changed.change
    for bad in ({"RANK": "1"}, {"AVATOP_STATE_DIR": "/x"}, {"a b": "c"}):
        assert not (await orders.relaunch(job, {}, bad, "operator")).ok
    assert "has not ended" in (await orders.relaunch(row.id, {}, {}, "operator")).message
    await queue.close("over")


async def test_a_job_to_be_tried_again_keeps_its_place_and_tells_what_changes(host: Host) -> None:
    queue, _, events = _made(host)
    first, second = [await _submit(queue, "0") for _ in range(2)]
    run = FakeRun.made[0]
    request = Request.from_dict(run.row.request).replace(kv_home="host")
    run.again = Again(request, {}, 2, "out of memory", "It goes on as ring.", {"kv_home": "host"})
    run.row = host.store.update(first, state="preflight")
    run.row = host.store.update(first, state="queued", **run.again.fields)
    run.over.set()
    await _settle()
    assert _started() == [first, first]
    assert FakeRun.made[1].row.attempt == 2
    assert FakeRun.made[1].row.request["kv_home"] == "host"
    (changed,) = [e for e in events if isinstance(e, PlanChanged)]
    assert (changed.job, changed.reason) == (first, "relaunch")
    assert changed.change == "out of memory. It goes on as ring."
    assert next(a for a in host.store.audits() if a.action == "retry").detail["attempt"] == 2
    FakeRun.made[1].over.set()
    await _settle()
    assert _started()[-1] == second
    await queue.close("over")


@pytest.mark.parametrize("when", ["as it ended", "while it is checked"])
async def test_a_job_that_a_fault_ended_can_be_cancelled_before_it_is_tried_again(
    host: Host, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, _, events = _made(host)
    first, second = [await _submit(queue, "0") for _ in range(2)]
    run = FakeRun.made[0]
    run.again = Again(Request.from_dict(run.row.request), {}, 2, "why", "change")
    run.row = host.store.update(first, state="preflight")
    run.row = host.store.update(first, state="queued", **run.again.fields)
    if when == "as it ended":
        run.told_to_end = ("cancelled", "not wanted")
    looking, whole = asyncio.Event(), queue.prepare

    async def slow(request: Request) -> Any:
        await looking.wait()
        return await whole(request)

    monkeypatch.setattr(queue, "prepare", slow)
    run.over.set()
    await _settle()
    if when == "while it is checked":
        queue.pump()
        assert _started() == [first]  # neither is it begun unchecked, nor overtaken
        assert queue.cancel(first, "not wanted").state == "cancelled"
    looking.set()
    await _settle()
    row = host.store.get(first)
    assert (row.state, row.error) == ("cancelled", "not wanted")
    assert not [e for e in events if isinstance(e, PlanChanged)]
    assert _started() == [first, second]
    await queue.close("over")


async def test_a_retry_that_cannot_be_planned_any_more_ends_the_job(host: Host) -> None:
    queue, _, events = _made(host)
    job = await _submit(queue, "0")
    run = FakeRun.made[0]
    run.again = Again(Request.from_dict(run.row.request), {}, 2, "why", "change")
    host.refusal = PreflightError("the device is gone", "refused")
    run.over.set()
    await _settle()
    assert host.store.get(job).state == "interrupted"
    rows = [e.job for e in events if isinstance(e, JobChanged) and e.job.id == job]
    assert rows[-1].error == "the device is gone"
    await asyncio.wait_for(queue.idle(), 5)


@pytest.mark.parametrize("gpus", [None, "0"])
def test_a_drained_gpu_is_left_out_or_refused_by_name(gpus: str | None) -> None:
    from engine import preflight as module

    readings = tuple(
        dataclasses.replace(r, memory_total=1 << 40, memory_used=0, memory_peak=0) for r in GPUS
    )
    machine = Machine(readings, drained=frozenset({"GPU-0"}))
    request: Any = Request(gpus=gpus)
    if gpus is None:
        left = module._undrained(request, machine)
        assert [r.uuid for r in left] == ["GPU-1"]
        both = dataclasses.replace(machine, drained=frozenset({"GPU-0", "GPU-1"}))
        with pytest.raises(module.PreflightError, match="every GPU is drained"):
            module._undrained(request, both)
    else:
        assert module._undrained(request, machine) == readings


async def test_the_next_fitting_plan_is_worked_out_and_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, orders, _ = _made(host)
    job = await _submit(queue, "0")
    await _end(job)
    host.store.update(job, state="failed")

    def following(prepared: Any, machine: Any) -> Next:
        return Next({"kv_home": "host"}, "single, KV on the host", (), 1)

    monkeypatch.setattr("engine.orders.next_plan", following)
    reply = await orders.relaunch(job, {"plan": "next_fitting"}, {}, "operator")
    assert reply.data["changes"] == {"kv_home": "host"}
    assert "kv_home becomes host" in reply.message
    # Measured since, the old plan itself is refused: whatever fits is the next.
    whole = queue.prepare

    async def by_mode(request: Request) -> Any:
        if request.mode is None:
            raise PreflightError("does not fit", "refused")
        found = await whole(request)
        return dataclasses.replace(found, plan=dataclasses.replace(found.plan, kv="host"))

    monkeypatch.setattr(queue, "prepare", by_mode)
    reply = await orders.relaunch(job, {"plan": "next_fitting"}, {}, "operator")
    assert reply.data["changes"] == {"mode": "single", "kv_home": "host"}
    await queue.close("over")

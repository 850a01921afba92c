"""What an operator may ask of jobs under way: pause, resume, switch, finish, a copy of the state.

Waiting jobs are ``engine.orders``'. What cannot be done is refused with the reason, before
anything changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from engine.jobs.kept import Kept, StateError, essence
from engine.jobs.store import StoreError
from engine.jobs.words import mode_of
from engine.messages import DeviceReading, JobChanged, JobRow, PlanMade, Reply
from engine.onward import Turn
from engine.orders import Orders
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.placement.plan import Plan, plan_from_dict
from engine.preflight import Machine, PreflightError, Prepared, prepare
from engine.retry.changes import switched
from engine.runner import JobRun
from engine.sentence import sentence

if TYPE_CHECKING:
    from engine.host import Host
    from engine.queue import JobQueue

HOW: Final = ("auto", "mirror", "replay", "seam")
_AT_REST: Final = frozenset({"paused", "interrupted"})


class Steering:
    """The engine's loop only."""

    def __init__(self, queue: JobQueue, host: Host, orders: Orders) -> None:
        self._queue, self._host, self._orders = queue, host, orders

    # -- stopping and going on -----------------------------------------------------------------

    def pause(self, job: int, reason: str = "paused") -> Reply:
        """Stop a job at its next clip boundary, its state on disk."""
        if job in self._queue.waiting:
            return self._orders.pause(job)
        run = self._queue.run_of(job)
        if run is None:
            return self._queue.not_here(job)
        if not isinstance(run, JobRun):
            return _refused(
                job, run.row, sentence("another program does its work and keeps no state")
            )
        if not run.can_turn:
            return _refused(job, run.row, sentence("it is about to end, or to change"))
        run.turn(Turn("pause", reason))
        self._host.bus.log("INFO", f"asked to pause at the next clip boundary: {reason}", job)
        return Reply(
            True,
            sentence("job {job} pauses at the next clip boundary", job=job),
            job,
            run.row.state,
        )

    async def resume(self, job: int, how: str) -> Reply:
        """Let a paused or interrupted job go on."""
        if how not in HOW:
            return Reply(
                False,
                sentence("a job goes on by {how}, not {asked!r}", how=", ".join(HOW), asked=how),
                job,
                "bad_input",
            )
        try:
            row = self._host.store.get(job)
            if row.state in _AT_REST:
                kept = self._kept(job)
                prepared = await self._queue.prepare(Request.from_dict(row.request))
                if isinstance(prepared, Prepared):
                    await asyncio.to_thread(kept.choose, prepared, how)
                elif how != "auto":
                    return _refused(
                        job, row, sentence("another program does its work and keeps no state")
                    )
                if how != "auto":
                    await asyncio.to_thread(lambda: kept.note(how=how))
        except (StoreError, ParamError, PreflightError, StateError, OSError) as error:
            return Reply(False, str(error), job, "refused")
        return await self._orders.resume(job)

    async def finish(self, job: int) -> Reply:
        """End a job now and join what is committed."""
        try:
            row = self._host.store.get(job)
        except StoreError as error:
            return Reply(False, str(error), job)
        run = self._queue.run_of(job)
        if run is None and row.state not in _AT_REST:
            return self._queue.not_here(job)
        row = row if run is None else run.row
        if not row.clip:
            return _refused(
                job, row, sentence("no clip is committed yet; cancel it, or wait for one")
            )
        if run is None:
            return await self._join(row)
        if not isinstance(run, JobRun):
            return _refused(job, row, sentence("another program does its work"))
        if run.ending:
            return _refused(job, row, sentence("it is about to end"))
        run.finish_now()
        told = sentence("{clip} of {clips} clips are joined", clip=row.clip, clips=row.clips)
        return Reply(
            True, sentence("job {job} ends now: {told}", job=job, told=told), job, row.state
        )

    async def _join(self, row: JobRow) -> Reply:
        """The end of a job that rests."""
        try:
            with self._queue.held():
                request = Request.from_dict(row.request)
                if request.external:
                    return _refused(row.id, row, sentence("another program does its work"))
                output = self._host.places.output_of(row.id, str(request.audio), request.output)
                # No rank starts: whether its plan fits now, or its device is drained, is all one.
                machine = dataclasses.replace(await self._host.machine(), drained=frozenset())
                prepared = await asyncio.to_thread(
                    prepare, request, machine, (output.parent,), launch=False
                )
                row = self._host.store.update(row.id, output=str(output))
                run = JobRun(self._host, row, prepared)
                await run.join_only()
        except (ParamError, PreflightError, StoreError) as error:
            return Reply(False, str(error), row.id, "refused")
        now = run.row
        text = sentence(
            "job {id} is {state}: {error}",
            id=row.id,
            state=now.state,
            error=now.error or now.output,
        )
        return Reply(now.state == "done", text, row.id, now.state)

    def cancel(self, job: int, reason: str) -> Reply:
        """End a job for good, wherever it is."""
        try:
            row = self._host.store.get(job)
            if row.state in _AT_REST and self._queue.run_of(job) is None:
                row = self._host.store.update(job, state="cancelled", error=reason, resumable=None)
                self._kept(job).forget()
                self._host.bus.publish(JobChanged(job=row))
                return Reply(True, sentence("job {job} is cancelled", job=job), job, "cancelled")
        except StoreError as error:
            return Reply(False, str(error), job)
        return self._queue.cancel(job, reason)

    # -- another plan --------------------------------------------------------------------------

    async def switch(self, job: int, changes: Mapping[str, Any]) -> Reply:
        """Go on under another plan from the next clip boundary; the output stays as it is."""
        if job in self._queue.waiting:
            return await self._orders.switch_waiting(job, changes)
        run = self._queue.run_of(job)
        if run is None:
            return await self._switch_resting(job, changes)
        if not isinstance(run, JobRun):
            return _refused(job, run.row, sentence("another program does its work"))
        if not run.can_turn:
            return _refused(job, run.row, sentence("it is about to end, or to change"))
        try:
            prepared = await self._prepared(run, changes)
        except (ParamError, PreflightError) as error:
            return Reply(False, str(error), job, "refused")
        if prepared.plan.to_dict()["stages"] == run.prepared.plan.to_dict()["stages"] and (
            prepared.plan.weights == run.prepared.plan.weights
            and prepared.plan.kv == run.prepared.plan.kv
        ):
            return _refused(
                job,
                run.row,
                sentence("it runs by that very plan ({mode})", mode=mode_of(prepared.plan)),
            )
        old = run.prepared
        problem = _alters(old.request, old.plan, prepared)
        problem = problem or self._queue.widen(job, prepared.leases)
        if problem is not None:
            return _refused(job, run.row, problem)
        if not _still(run):  # something else may have been asked meanwhile
            return _refused(job, run.row, sentence("it is about to end, or to change"))
        told = change_of(run.prepared.plan, prepared.plan, changes)
        run.turn(Turn("switch", told, prepared))
        self._host.bus.log("INFO", f"asked to go on in {told} from the next clip boundary", job)
        text = sentence(
            "job {job} goes on in {told} from the next clip boundary", job=job, told=told
        )
        return Reply(True, text, job, run.row.state, {"plan": prepared.plan.to_dict()})

    async def _switch_resting(self, job: int, changes: Mapping[str, Any]) -> Reply:
        """Another plan for a paused or interrupted job, by which it goes on when resumed."""
        try:
            row = self._host.store.get(job)
            if row.state not in _AT_REST:
                return self._queue.not_here(job)
            old = Request.from_dict(row.request)
            prepared = await self._queue.prepare(switched(old, changes))
            if not isinstance(prepared, Prepared):
                return _refused(job, row, sentence("another program does its work"))
            made = self._host.store.plan(job)
            before = prepared.plan if made is None else plan_from_dict(made)
            if row.clip and (problem := _alters(old, before, prepared)):
                return _refused(job, row, problem)
            row = self._host.store.update(
                job, request=prepared.request.to_dict(), **prepared.fields()
            )
        except (StoreError, ParamError, PreflightError) as error:
            return Reply(False, str(error), job, "refused")
        self._host.bus.publish(JobChanged(job=row))
        self._host.bus.publish(PlanMade(job=job, plan=prepared.plan.to_dict()))
        mode = mode_of(prepared.plan)
        text = sentence("job {job} goes on in mode {mode} when it is resumed", job=job, mode=mode)
        self._host.bus.log("INFO", text, job)
        return Reply(True, text, job, row.state, {"plan": prepared.plan.to_dict()})

    async def _prepared(self, run: JobRun, changes: Mapping[str, Any]) -> Prepared:
        """The job under its new plan, on this host without the job itself."""
        request = switched(run.prepared.request, changes)
        machine = without(await self._host.machine(), run)
        return await asyncio.to_thread(prepare, request, machine, ())

    # -- a copy --------------------------------------------------------------------------------

    async def mirror(self, job: int) -> Reply:
        """Write a running job's state to disk now."""
        run = self._queue.run_of(job)
        if run is None:
            return self._queue.not_here(job)
        hold = run.mirror if isinstance(run, JobRun) else None
        if hold is None:
            return _refused(job, run.row, sentence("its state is not mirrored (--mirror on)"))
        try:
            size = await hold.to_disk()
        except (OSError, TimeoutError) as error:
            return Reply(
                False,
                sentence("its state could not be written: {error}", error=error),
                job,
                run.row.state,
            )
        text = sentence("{size:.0f} MiB of state are on disk", size=size / 2**20)
        self._host.bus.log("INFO", text, job)
        return Reply(True, text, job, run.row.state, {"bytes": size})

    def _kept(self, job: int) -> Kept:
        return Kept(self._host.places.state, self._host.places.job(job), job)


def without(machine: Machine, run: JobRun) -> Machine:
    """The host as it would be without a job's ranks: their memory is free for its next plan."""
    held = run.held_bytes
    on_host = sum(size for uuid, size in held.items() if uuid is None)
    available = machine.host_available
    devices = tuple(_less(reading, held.get(reading.uuid, 0)) for reading in machine.devices)
    return dataclasses.replace(
        machine,
        devices=devices,
        host_available=None if available is None else available + on_host,
    )


def _less(reading: DeviceReading, size: int) -> DeviceReading:
    if reading.memory_used is None:
        return reading
    return dataclasses.replace(reading, memory_used=max(0, reading.memory_used - size))


def change_of(old: Plan, new: Plan, changes: Mapping[str, Any]) -> str:
    """A switch in words: from mode to mode, or what else is another."""
    before, after = mode_of(old), mode_of(new)
    if before == after:
        values = ", ".join(f"{name} {value}" for name, value in changes.items() if name != "mode")
        if not values:
            return sentence("mode {mode} by another plan", mode=after)
        return sentence("mode {mode} with {values}", mode=after, values=values)
    return sentence("mode {mode} in place of {mode2}", mode=after, mode2=before)


def _alters(request: Request, plan: Plan, new: Prepared) -> str | None:
    """Why the video would not be the same under another plan."""
    before, after = essence(request.to_dict()), essence(new.request.to_dict())
    changed = [name for name in after if after[name] != before.get(name)]
    if changed:
        return sentence(
            "{changed} would alter the output: that is never done within a video",
            changed=", ".join(changed),
        )
    for name in ("dtype", "kv_dtype"):
        if getattr(plan, name) != getattr(new.plan, name):
            return sentence(
                "another {name} would alter the output: that is never done within a video",
                name=name,
            )
    kinds = {d.name or d.device.partition(":")[0] for d in (*plan.devices, *new.plan.devices)}
    if len(kinds) > 1:
        return sentence("another kind of device would alter the output")
    return None


def _still(run: JobRun) -> bool:
    """Asked anew: what was true before a wait need not be true after it."""
    return run.can_turn


def _refused(job: int, row: JobRow, why: str) -> Reply:
    text = sentence("job {job} ({state}): {why}", job=job, state=row.state, why=why)
    return Reply(False, text, job, "refused")

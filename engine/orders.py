"""What an operator may ask of jobs that do not run: order, drain, switch, pause, resume, relaunch.

Each order is checked by preflight before anything changes, is audited where it cannot be taken
back, and answers with what exactly is different.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from engine.geometry import SIZE_MULTIPLE
from engine.guard.limits import PATIENCE
from engine.jobs.store import StoreError
from engine.messages import (
    Audited,
    DevicesDrained,
    JobChanged,
    JobRow,
    PlanChanged,
    PlanMade,
    Reply,
)
from engine.nightwatch.words import altered
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.preflight import PreflightError, Prepared, Work
from engine.ranks.protocol import DRILL_CAP
from engine.retry.changes import changes_to, placed_freely, switched
from engine.retry.replan import next_plan
from engine.sentence import joined, sentence
from engine.telemetry.devices import DeviceSelectionError

if TYPE_CHECKING:
    from engine.host import Host
    from engine.queue import JobQueue

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The engine's own: a job's ranks get them from it.
_OWN: Final = frozenset(
    {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES"}
)
#: Of avatop's own variables those that a job may have for itself.
_THEIRS: Final = frozenset({DRILL_CAP, PATIENCE})
_RESUMABLE: Final = frozenset({"paused", "interrupted"})
#: A side of a frame that is asked to be smaller, in parts of what it was.
_LOWER: Final = 0.8


class OrderError(ValueError):
    """An order that cannot be carried out; says why."""


class Orders:
    """The engine's loop only."""

    def __init__(self, queue: JobQueue, host: Host) -> None:
        self._queue = queue
        self._host = host

    # -- the queue -----------------------------------------------------------------------------

    def reorder(self, job: int, place: int) -> Reply:
        """Put a waiting job at a place of the queue."""
        waiting = self._queue.waiting
        if job not in waiting:
            return self._queue.not_here(job)
        try:
            row = waiting.move(job, place, self._host.store)
        except StoreError as error:
            return Reply(False, str(error), job)
        self._host.bus.publish(JobChanged(job=row))
        order = [entry.row.id for entry in waiting]
        self._queue.pump()
        said = sentence(
            "job {job} is number {place} of the {count} that wait",
            job=job, place=order.index(job) + 1, count=len(order),
        )  # fmt: skip
        return Reply(True, said, job, "queued", {"order": order})

    async def drain(self, device: str, on: bool) -> Reply:
        """Give a device no new work, or let it have some again."""
        machine = await self._host.machine()
        reading = next((r for r in machine.devices if r.uuid == device), None)
        if reading is None:
            return Reply(False, sentence("no device has the UUID {device}", device=device))
        name: str = sentence("the CPU") if reading.source == "host" else f"GPU {reading.index}"
        drained = self._queue.drained
        if (device in drained) is on:
            text = (
                sentence("{name} is drained already", name=name)
                if on
                else sentence("{name} is in use already", name=name)
            )
            return Reply(True, text)
        if on:
            drained[device] = "cpu" if reading.source == "host" else device
            text = sentence(
                "{name} is drained: it gets no new work; what runs there goes on", name=name
            )
            mine = None if reading.source == "host" else device
            await self._host.warm.clear({mine}, sentence("the device is drained"))
        else:
            del drained[device]
            text = sentence("{name} gets work again", name=name)
        self._host.store.audit("drain", device=device, on=on)
        self._host.bus.log("WARNING" if on else "INFO", text)
        self._host.bus.publish(DevicesDrained(devices=tuple(sorted(drained))))
        await self._look_again()
        self._queue.pump()
        return Reply(True, text)

    async def _look_again(self) -> None:
        """Plans of waiting jobs are made anew: other devices may serve them now."""
        for entry in self._queue.waiting:
            try:
                prepared = await self._queue.prepare(entry.prepared.request)
            except (ParamError, PreflightError) as error:
                self._host.bus.log("WARNING", f"waits: {error}", entry.row.id)
                continue
            if entry.row.id in self._queue.waiting:
                entry.prepared = prepared

    async def switch_queue(self, changes: Mapping[str, Any]) -> Reply:
        """Jobs that have not begun use these request fields; each one that cannot says why."""
        done: list[int] = []
        refused: list[int] = []
        for entry in self._queue.waiting:
            reply = await self.switch_waiting(entry.row.id, changes)
            (done if reply.ok else refused).append(entry.row.id)
        told: str = sentence(
            "{count} waiting jobs use {changes}", count=len(done), changes=_words(changes)
        )
        if refused:
            stay = sentence("jobs {jobs} stay as they are (see the log)", jobs=refused)
            told = joined((told, stay))
        return Reply(not refused, told, data={"switched": done, "refused": refused})

    async def switch_waiting(self, job: int, changes: Mapping[str, Any]) -> Reply:
        """Change the request of a job that has not begun."""
        entry = self._queue.waiting.find(job)
        if entry is None:
            return self._queue.not_here(job)
        try:
            request = switched(entry.prepared.request, changes)
            prepared = await self._queue.prepare(request)
        except (ParamError, PreflightError) as error:
            self._host.bus.log("WARNING", f"not switched: {error}", job)
            return Reply(False, str(error), job, "refused")
        if job not in self._queue.waiting:  # it has begun meanwhile
            return Reply(False, sentence("job {job} has begun", job=job), job)
        try:
            entry.row = self._host.store.update(job, **_fields(prepared))
        except StoreError as error:
            return Reply(False, str(error), job)
        entry.prepared = prepared
        self._told(
            entry.row, prepared, "switch", sentence("It uses {changes}.", changes=_words(changes))
        )
        self._queue.pump()
        return Reply(
            True,
            sentence("job {job} uses {changes}", job=job, changes=_words(changes)),
            job,
            "queued",
        )

    def pause(self, job: int) -> Reply:
        """Take a waiting job out of the queue until it is resumed."""
        self._queue.take_out(job, "paused", sentence("paused before it began"))
        return Reply(True, sentence("job {job} is paused", job=job), job, "paused")

    # -- once more -----------------------------------------------------------------------------

    async def resume(
        self,
        job: int,
        *,
        changes: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Reply:
        """Queue a paused or interrupted job again, as it was or with changes.

        Args:
            changes: request fields; none of them may change what is seen in committed clips.
        """
        try:
            row = self._host.store.get(job)
            if row.state not in _RESUMABLE:
                return Reply(
                    False,
                    sentence(
                        "job {job} is {state}: there is nothing to resume", job=job, state=row.state
                    ),
                    job,
                )
            if row.clip and (seen := altered(changes or {})):
                text = sentence(
                    "{clip} clips of job {job} are committed: {seen} must stay",
                    clip=row.clip,
                    job=job,
                    seen=", ".join(seen),
                )
                return Reply(False, text, job, "refused")
            with self._queue.held():
                request = Request.from_dict(row.request).replace(**(changes or {}))
                prepared = await self._queue.prepare(request)
                if self._queue.closed:
                    return Reply(False, sentence("the engine is stopping"), job, "refused")
                output = self._host.places.output_of(job, str(request.audio), request.output)
                row = self._host.store.update(
                    job,
                    state="queued",
                    output=str(output),
                    attempt=row.attempt + (row.state == "interrupted"),
                    environment={**row.environment, **(environment or {})},
                    error=None,
                    ended=None,
                    **_fields(prepared),
                )
                self._told(row, prepared, "resume", _sentence(changes, environment))
                self._queue.enter(row, prepared)
        except (ParamError, PreflightError, StoreError) as error:
            return Reply(False, str(error), job, "refused")
        return Reply(True, sentence("job {job} is queued again", job=job), job, "queued")

    async def relaunch(
        self,
        job: int,
        changes: Mapping[str, Any],
        environment: Mapping[str, str],
        by: str,
        *,
        dry: bool = False,
    ) -> Reply:
        """Start an ended job again with changes; ``dry`` only says what they come to.

        An interrupted job whose output stays the same goes on itself; else a new job begins.
        ``changes`` may say ``plan: next_fitting`` or ``size: lower``: the planner works these out.
        """
        try:
            row = self._host.store.get(job)
            if row.state not in {"done", "cancelled", "interrupted", "failed"}:
                return Reply(
                    False,
                    sentence("job {job} is {state}: it has not ended", job=job, state=row.state),
                    job,
                )
            _check(environment)
            wanted = await self._worked_out(row, changes)
            if dry:
                told = _sentence(wanted, environment)
                return Reply(True, told, job, row.state, {"changes": dict(wanted)})
            if row.state == "interrupted" and not altered(wanted):
                reply = await self.resume(job, changes=wanted, environment=environment)
            else:
                request = Request.from_dict(row.request).replace(**wanted)
                reply = await self._queue.submit(
                    request.to_dict(),
                    batch=row.batch,
                    version=row.version,
                    attempt=row.attempt + 1,
                    environment={**row.environment, **environment},
                )
        except (OrderError, ParamError, PreflightError, StoreError) as error:
            return Reply(False, str(error), job, "refused")
        if reply.ok and reply.job is not None:
            told = _sentence(wanted, environment)
            self._host.store.audit(
                "relaunch", job=job, by=by, changes=wanted, environment=dict(environment),
                became=reply.job,
            )  # fmt: skip
            self._host.bus.publish(
                Audited(action="relaunch", by=by, target=f"job {job}", result=told)
            )
            now = self._host.store.get(reply.job)
            self._host.bus.publish(
                PlanChanged(job=now.id, reason="relaunch", mode=now.mode, change=told)
            )
            self._host.bus.log("INFO", f"job {job} is relaunched by {by}: {told}", now.id)
            text = (
                sentence("job {job} goes on: {told}", job=job, told=told)
                if now.id == job
                else sentence(
                    "job {job} goes on as job {id}: {told}", job=job, id=now.id, told=told
                )
            )
            return Reply(True, text, now.id, "queued", {"changes": dict(wanted)})
        return reply

    async def _worked_out(self, row: JobRow, changes: Mapping[str, Any]) -> dict[str, Any]:
        wanted = dict(changes)
        if wanted.get("size") == "lower":
            sides = [int(side) for side in row.size.split("*")]
            lower = [_floor(side * _LOWER) for side in sides]
            if lower == sides:
                raise OrderError(sentence("{size} is as small as it gets", size=row.size))
            wanted["size"] = "{}*{}".format(*lower)
        if wanted.pop("plan", None) is not None:
            wanted |= await self._next_fitting(Request.from_dict(row.request))
        return wanted

    async def _next_fitting(self, request: Request) -> dict[str, Any]:
        """What to change so that the same work fits.

        Raises:
            OrderError, PreflightError: nothing fits that leaves the output as it is.
        """
        try:
            prepared = await self._queue.prepare(request)
        except PreflightError as error:
            if error.kind != "refused":
                raise
            # Measured since, its plan is known not to fit: whatever does is the next.
            free = await self._queue.prepare(placed_freely(request))
            if not isinstance(free, Prepared):
                raise
            return changes_to(request, free.plan)
        if not isinstance(prepared, Prepared):
            raise OrderError(sentence("another program does its work: it has no plan"))
        machine = await self._host.machine()
        try:
            found = await asyncio.to_thread(next_plan, prepared, machine)
        except DeviceSelectionError as error:
            raise OrderError(str(error)) from error
        if found is None:
            raise OrderError(sentence("no other plan fits that leaves the output as it is"))
        return found.changes

    # -- inside --------------------------------------------------------------------------------

    def _told(self, row: JobRow, prepared: Work, reason: str, change: str) -> None:
        bus = self._host.bus
        bus.publish(JobChanged(job=row))
        plan = prepared.plan_dict()
        if plan is not None:
            bus.publish(PlanMade(job=row.id, plan=plan))
        bus.publish(PlanChanged(job=row.id, reason=reason, mode=row.mode, change=change))
        bus.log("INFO", f"{reason}: {change}", row.id)


def _fields(work: Work) -> dict[str, Any]:
    """What a checked request says in a job's row."""
    fields = {k: v for k, v in work.fields().items() if k != "kind"}
    return {**fields, "request": work.request.to_dict()}


def _check(environment: Mapping[str, str]) -> None:
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            raise OrderError(sentence("{name!r} is no name of an environment variable", name=name))
        if name in _OWN or (name.startswith("AVATOP_") and name not in _THEIRS):
            raise OrderError(sentence("{name} is the engine's own to set", name=name))


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes.items()) or sentence("no changes")


def _sentence(changes: Mapping[str, Any] | None, environment: Mapping[str, str] | None) -> str:
    parts = [
        sentence("{name} becomes {value}", name=name, value=value)
        for name, value in (changes or {}).items()
    ]
    parts += [
        sentence("its ranks get {name}={value}", name=name, value=value)
        for name, value in (environment or {}).items()
    ]
    return joined(parts) if parts else sentence("nothing is changed")


def _floor(side: float) -> int:
    return max(SIZE_MULTIPLE, int(side) // SIZE_MULTIPLE * SIZE_MULTIPLE)

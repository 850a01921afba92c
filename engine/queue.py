"""The queue: in the order asked for, one running job per set of devices, faults tried again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine.host import Host
from engine.jobs.store import StoreError
from engine.jobs.words import ended_as
from engine.messages import END_STATES, Audited, JobChanged, JobRow, PlanChanged, PlanMade, Reply
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.preflight import PreflightError, Work
from engine.retry.desk import Again
from engine.sentence import sentence
from engine.waiting import Waiting
from engine.work import Run, prepare_work, run_of

#: Seconds until a job whose device another engine holds is tried again.
RETRY_SECONDS: Final = 2.0

#: Asked when a job is about to start: the row and the request it really runs by, or why it must
#: not run (``engine.release``).
Claim = Callable[[JobRow, Work], tuple[JobRow, Work] | str]


class JobQueue:
    """Accepts, orders, starts and ends jobs. The engine's loop only."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.claim: Claim | None = None
        self.waiting = Waiting()
        #: Devices that get no new work: UUID → what they are leased by.
        self.drained: MutableMapping[str, str] = {}
        self._running: dict[int, Run] = {}
        self._occupied: dict[int, frozenset[str]] = {}
        self._at_work: dict[int, Work] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._told: set[int] = set()  # jobs whose wait for a device was told
        self._retry: asyncio.TimerHandle | None = None
        self._held_up = False  # another engine has a device that a job wants
        self._closed = False
        self._checking = 0  # requests between their arrival and the queue
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """A job runs, waits, or is just being looked at."""
        return bool(self._running or self.waiting or self._checking)

    @property
    def closed(self) -> bool:
        """Nothing is started any more."""
        return self._closed

    async def idle(self) -> None:
        """Return when nothing runs or waits."""
        await self._idle.wait()

    # -- commands ------------------------------------------------------------------------------

    async def submit(
        self,
        data: Mapping[str, Any],
        *,
        batch: str | None = None,
        version: str | None = None,
        attempt: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> Reply:
        """Check a request and queue it; a refused one leaves nothing behind.

        Args:
            batch: that it is an item of. version: the release that it is bound to.
            attempt: counted over relaunches. environment: variables of its ranks alone.
        """
        bound: dict[str, Any] = {"batch": batch, "version": version, "attempt": attempt}
        with self.held():
            return await self._submit(data, {**bound, "environment": dict(environment or {})})

    @contextmanager
    def held(self) -> Iterator[None]:
        """While somebody has more to submit, the queue is not idle."""
        self._checking += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._checking -= 1
            if not self.busy:
                self._idle.set()

    async def _submit(self, data: Mapping[str, Any], bound: Mapping[str, Any]) -> Reply:
        try:
            prepared = await self.prepare(Request.from_dict(data))
        except ParamError as error:
            return Reply(False, str(error), state="bad_input")
        except PreflightError as error:
            return Reply(False, str(error), state=error.kind)
        if self._closed:
            return Reply(False, sentence("the engine is stopping"), state="refused")
        try:
            row = self._keep(prepared, bound)
        except StoreError as error:
            return Reply(False, str(error), state="failed")
        self._host.bus.publish(JobChanged(job=row))
        plan = prepared.plan_dict()
        if plan is not None:
            self._host.bus.publish(PlanMade(job=row.id, plan=plan))
        for remark in prepared.remarks:
            self._host.bus.log("INFO", remark, row.id)
        self.enter(row, prepared)
        return Reply(True, sentence("job {id} is queued", id=row.id), row.id, "queued")

    async def prepare(self, request: Request) -> Work:
        """Check a request against this host as it is now.

        Raises:
            ParamError, PreflightError: it must not run.
        """
        machine = await self._host.machine()
        folders = (self._host.places.state, self._output_folder(request))
        return await asyncio.to_thread(prepare_work, request, machine, folders)

    def enter(self, row: JobRow, prepared: Work) -> None:
        """Let a checked job wait for its turn."""
        self.waiting.add(row, prepared)
        self._idle.clear()
        self.pump()

    async def adopt(self, rows: Iterable[JobRow]) -> None:
        """Let jobs that waited in an engine that ended wait here; one that cannot run says why."""
        with self.held():
            for row in rows:
                bus = self._host.bus
                try:
                    prepared = await self.prepare(Request.from_dict(row.request))
                    row = self._host.store.update(row.id, **prepared.fields())
                except (ParamError, PreflightError, StoreError) as error:
                    why = sentence("waited in an engine that ended; {error}", error=error)
                    row = self._host.store.update(row.id, state="interrupted", error=why)
                    bus.publish(JobChanged(job=row))
                    bus.log("WARNING", f"interrupted: {why}", row.id)
                    continue
                bus.publish(JobChanged(job=row))
                plan = prepared.plan_dict()
                if plan is not None:
                    bus.publish(PlanMade(job=row.id, plan=plan))
                bus.log("INFO", "waits here: the engine that it waited in has ended", row.id)
                self.enter(row, prepared)

    def cancel(self, job: int, reason: str) -> Reply:
        """End a queued or running job."""
        if job in self.waiting:
            self.take_out(job, "cancelled", reason)
            return Reply(True, sentence("job {job} is cancelled", job=job), job, "cancelled")
        run = self._running.get(job)
        if run is not None:
            if run.cancel(reason):
                return Reply(
                    True, sentence("job {job} is being cancelled", job=job), job, run.row.state
                )
            return Reply(
                False,
                sentence("job {job} is done but for joining its clips", job=job),
                job,
                run.row.state,
            )
        return self.not_here(job)

    def set_spike_threshold(self, job: int, count: int | None) -> Reply:
        """Change the threshold of a running job."""
        run = self._running.get(job)
        if run is None:
            return self.not_here(job)
        if count is not None and count <= 0:
            return Reply(False, sentence("a spike threshold is above 0 bytes"), job)
        run.set_spike_threshold(count)
        return Reply(
            True, sentence("the spike threshold of job {job} is set", job=job), job, run.row.state
        )

    def run_of(self, job: int) -> Run | None:
        """The run of a job that has begun."""
        return self._running.get(job)

    def widen(self, job: int, leases: frozenset[str]) -> str | None:
        """Let a running job have these devices too; why not, if another has one."""
        others = {d for other, held in self._occupied.items() if other != job for d in held}
        if taken := leases & others:
            return sentence("another job runs on {taken}", taken=", ".join(sorted(taken)))
        if drained := (leases - self._occupied[job]) & set(self.drained.values()):
            return sentence("{drained} gets no new work", drained=", ".join(sorted(drained)))
        self._occupied[job] |= leases
        return None

    def at_work(self) -> tuple[tuple[JobRow, Work], ...]:
        """The jobs that have begun, each as it is now."""
        return tuple((run.row, self._at_work[job]) for job, run in self._running.items())

    def began(self, job: int) -> float:
        """Unix seconds at which this attempt of a job at work began.

        Raises:
            KeyError: it is not at work.
        """
        return self._running[job].began

    def stop_after_clip(self, job: int, reason: str) -> None:
        """Let the clip in progress be a running job's last one."""
        run = self._running.get(job)
        if run is not None:
            run.stop_after_clip(reason)

    def interrupt(self, job: int, reason: str) -> None:
        """End a running job now; it can be resumed."""
        run = self._running.get(job)
        if run is not None:
            run.cancel(reason, "interrupted")

    async def drain_after_clip(self, reason: str) -> None:
        """Start nothing more; return when each running job has ended after its clip."""
        self._closed = True
        for run in self._running.values():
            run.stop_after_clip(reason)
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self, reason: str) -> None:
        """End everything at once; what is committed is kept, all of it can be resumed.

        What waits goes on waiting: the next engine takes it over.
        """
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        for entry in self.waiting:
            if entry.ready:  # else it is taken out, and that is told, when it has been checked
                self._leave(entry.row.id, reason)
        for run in self._running.values():
            run.cancel(reason, "interrupted")
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    # -- inside --------------------------------------------------------------------------------

    def _output_folder(self, request: Request) -> Path:
        return self._host.places.output_of(0, str(request.audio), request.output).parent

    def _keep(self, prepared: Work, bound: Mapping[str, Any]) -> JobRow:
        request, store = prepared.request, self._host.store
        row = store.create(request.to_dict(), **prepared.fields())
        output = self._host.places.output_of(row.id, str(request.audio), request.output)
        return store.update(row.id, output=str(output), **bound)

    def pump(self) -> None:
        """Start every job whose devices are free and wanted by none before it."""
        if self._closed:
            return
        taken = set().union(*self._occupied.values())
        drained = set(self.drained.values())
        for entry in self.waiting:
            wants = entry.prepared.leases
            if wants & drained:  # it holds up nobody behind it
                self._tell_wait(entry.row.id, sentence("its device is drained"))
                continue
            if entry.ready and not wants & taken:
                self.waiting.take(entry.row.id)
                self._start(entry.row, entry.prepared)
            taken |= wants

    def _tell_wait(self, job: int, why: str) -> None:
        if job not in self._told:
            self._host.bus.log("WARNING", f"waiting: {why}", job)
            self._told.add(job)

    def _start(self, row: JobRow, prepared: Work) -> None:
        if self.claim is not None:
            claimed = self.claim(row, prepared)
            if isinstance(claimed, str):
                self.waiting.add(row, prepared)
                self.take_out(row.id, "interrupted", claimed)
                return
            row, prepared = claimed
        run = run_of(self._host, row, prepared)
        self._running[row.id] = run
        self._occupied[row.id] = prepared.leases
        self._at_work[row.id] = prepared
        task = asyncio.get_running_loop().create_task(self._drive(run, prepared))
        self._tasks[row.id] = task

    async def _drive(self, run: Run, prepared: Work) -> None:
        try:
            await self._driven(run, prepared)
        finally:
            del self._tasks[run.row.id]
            self._later()

    async def _driven(self, run: Run, prepared: Work) -> None:
        job = run.row.id
        try:
            held = await run.drive()
        except Exception as error:
            self._fault(job, error)
            raise
        finally:
            del self._running[job], self._occupied[job], self._at_work[job]
        if held is not None:
            self._tell_wait(job, str(held))
            self._held_up = True
            self.waiting.add(run.row, prepared)  # its place is before all that came later
            if self._closed:
                self._leave(job, sentence("the engine ended"))
        else:
            self._told.discard(job)
            if run.again is not None:
                await self._try_again(run, prepared, run.again)
            else:
                self._host.desk.forget(job)

    def _fault(self, job: int, error: Exception) -> None:
        """A fault of the engine's own ends the job as well: nobody else would."""
        self._host.desk.forget(job)
        why = sentence("the engine failed: {error}", error=f"{type(error).__name__}: {error}")
        self._host.bus.log("ERROR", why, job)  # first: the store may be what failed
        if self._host.store.get(job).state not in END_STATES:
            row = self._host.store.update(job, state="interrupted", error=why)
            self._host.bus.publish(JobChanged(job=row))

    async def _try_again(self, run: Run, prepared: Work, again: Again) -> None:
        """Let a job that a fault ended wait for its next attempt.

        It waits from now on: what is asked of it while it is being checked is not lost.
        """
        job, problem = run.row.id, None
        with self.held():
            whatever: Any = prepared  # both kinds of it are dataclasses with a request
            asked: Work = dataclasses.replace(whatever, request=again.request)
            entry = self.waiting.add(run.row, asked, ready=False)
            if run.told_to_end is not None:  # when it had ended already
                self.take_out(job, *run.told_to_end)
                return
            try:
                found = await self.prepare(again.request)
                if self.waiting.find(job) is not entry:  # cancelled or paused meanwhile
                    return
                if entry.prepared is asked:  # and not switched
                    fields = found.fields()
                    now = self._host.store.update(job, mode=fields["mode"], ranks=fields["ranks"])
                    entry.row, entry.prepared = now, found
                self._host.store.audit(
                    "retry", job=job, attempt=again.attempt, why=again.why,
                    changes=again.changes, environment=again.environment,
                )  # fmt: skip
            except (ParamError, PreflightError, StoreError) as error:
                problem = str(error)
            if self.waiting.find(job) is not entry:
                return
            if problem is not None or self._closed:
                why = problem or sentence("the engine ended before the job was tried again")
                self.take_out(job, "interrupted", why)
                return
            entry.ready = True
        bus, mode = self._host.bus, entry.prepared.mode
        bus.publish(JobChanged(job=entry.row))
        change = f"{again.why}. {again.change}"
        bus.publish(PlanChanged(job=job, reason="relaunch", mode=mode, change=change))
        bus.publish(Audited(action="retry", by="policy", target=f"job {job}", result=change))

    def _later(self) -> None:
        retry, self._held_up = self._held_up, False
        if not self.busy:
            self._idle.set()
        elif retry and not self._closed:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_SECONDS, self.pump)
        else:
            self.pump()

    def take_out(self, job: int, state: str, reason: str) -> None:
        """Remove a waiting job: an end, or a pause."""
        self.waiting.take(job)
        self._host.desk.forget(job)  # a person's resume is a fresh start
        row = self._host.store.update(job, state=state, error=reason, output=None)
        self._host.bus.publish(JobChanged(job=row))
        # What was asked for is no fault: nobody need be told loudly, nor look for its cause.
        level = "WARNING" if state == "interrupted" else "INFO"
        self._host.bus.log(level, ended_as(state, reason), job)
        if not self.busy:
            self._idle.set()

    def _leave(self, job: int, reason: str) -> None:
        """Let the next engine have a job that waits."""
        self.waiting.take(job)
        self._host.store.leave(job)
        self._host.bus.log("INFO", f"{reason}; the job stays queued for the next engine", job)

    def not_here(self, job: int) -> Reply:
        """The answer about a job whose state, or engine, has nothing for an order."""
        if job in self.waiting:
            return Reply(False, sentence("job {job} has not begun", job=job), job, "queued")
        try:
            row = self._host.store.get(job)
        except StoreError as error:
            return Reply(False, str(error), job)
        if row.state in END_STATES:
            return Reply(
                False,
                sentence("job {job} has ended: {state}", job=job, state=row.state),
                job,
                row.state,
            )
        if row.state == "paused":
            text = sentence("job {job} is paused: resume it first", job=job)
            return Reply(False, text, job, "refused")
        return Reply(
            False,
            sentence("job {job} is {state} in another engine", job=job, state=row.state),
            job,
            row.state,
        )

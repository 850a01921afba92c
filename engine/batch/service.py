"""Batches of one engine: commands in, ``BatchChanged`` out; their jobs are the engine's own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from engine.batch import inbox, manifest, progress, report
from engine.batch.desk import Reached
from engine.batch.devices import gpus_of, held_by_others, planner
from engine.batch.drive import BatchRun
from engine.batch.freeze import freeze
from engine.batch.lines import Lines, NoLine, choose_lines
from engine.batch.pairs import PairError, Remark
from engine.batch.post import check as check_post
from engine.batch.rows import BATCH_ENDS, WAITING, BatchRow, ItemRow
from engine.batch.spec import BatchSpec, SpecError, spec_from_dict
from engine.batch.store import BatchStore
from engine.checkpoint.errors import CheckpointError
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import BatchChanged, BatchCommand, Event, Reply
from engine.preflight import Machine
from engine.release.model import ReleaseError
from engine.sentence import internal, sentence
from engine.telemetry.devices import DeviceSelectionError

#: Seconds that ending batches are waited for; the next start recovers what is not ended then.
CLOSE_SECONDS: Final = 10.0
#: Batches of earlier runs that a first picture shows.
PAST: Final = 10
#: Failures that somebody may have mended in the files themselves.
_INPUT_CAUSES: Final = frozenset({"bad_input", "changed_input"})
#: Request fields by which a request says itself how many ranks a job takes.
_PLACED: Final = (
    *("mode", "num_gpus_dit", "single_gpu", "dit_fsdp", "offload_model", "enable_vae_parallel"),
    "variant",
)


class Bus(Protocol):
    """Where events and log lines go; the engine's thread only."""

    def publish(self, event: Event) -> None:
        """An event."""

    def log(self, level: str, text: str, job: int | None = None, rank: int | None = None) -> None:
        """A line of the engine's log."""


class BatchService:
    """The batches of one engine. Its loop only.

    Args:
        client: the engine that does the jobs. machine: the host at this moment.
        held: entered while a batch is at work, so that the engine does not think itself idle.
        reached: told every step of the protocol (tests die there).
    """

    def __init__(
        self,
        jobs: JobStore,
        client: EngineClient,
        places: Places,
        bus: Bus,
        machine: Callable[[], Awaitable[Machine]],
        held: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        reached: Reached | None = None,
    ) -> None:
        self.store = BatchStore(jobs)
        self._jobs = jobs
        self._client = client
        self._places = places
        self._tell = _Teller(bus)
        self._machine = machine
        self._held = held
        self._reached = reached or (lambda _step, _name: None)
        self._runs: dict[str, BatchRun] = {}
        self._inboxes: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def open(self) -> None:
        """Tell the batches of before; those that a dead engine left are stopped, to be resumed."""
        for row in self.store.abandoned():
            self._tell.log("WARNING", f"batch {row.id} was left by its engine: {row.note}")
        for row in reversed(self.store.batches(PAST)):
            self._told(row)

    async def command(self, command: BatchCommand) -> Reply:
        """Answer a command; work goes on behind it."""
        if self._closed:
            return Reply(False, sentence("the engine is stopping"), state="refused")
        try:
            match command.do:
                case "start":
                    return await self._start(command.spec)
                case "pause" | "resume" | "stop" | "retry":
                    return await self._change(command.do, command.batch)
                case other:
                    return Reply(
                        False, sentence("a batch cannot {other!r}", other=other), state="bad_input"
                    )
        except (SpecError, PairError, CheckpointError, DeviceSelectionError, ReleaseError) as error:
            return Reply(False, str(error), state="bad_input")
        except NoLine as error:
            return Reply(False, sentence("nothing fits: {error}", error=error), state="refused")
        except (StoreError, OSError) as error:
            return Reply(False, str(error), state="failed")

    def wind_down(self, reason: str) -> None:
        """Begin nothing more; the engine ends the jobs. Every batch can be resumed."""
        self._closed = True
        for batch in list(self._tasks):
            self._end_inbox(batch)
            run = self._runs.get(batch)
            if run is not None:
                run.stop(reason, cancel=False)

    async def close(self) -> None:
        """After the engine's jobs have ended: return when every batch has."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=CLOSE_SECONDS)

    # -- start and resume ----------------------------------------------------------------------

    async def _start(self, data: Mapping[str, Any]) -> Reply:
        spec = spec_from_dict(data)
        try:
            check_post(spec.post_command)
        except ValueError as error:
            raise SpecError(str(error)) from error
        earlier = self.store.of_wish(spec.digest)
        if earlier is not None and earlier.id in self._tasks:
            return self._accepted(earlier.id, sentence("it runs already"), joined=True)
        if earlier is not None and earlier.state not in ("done", "failed"):
            return await self._go_on(earlier, sentence("it goes on where it was"))
        now = time.time()
        batch = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{uuid.uuid4().hex[:4]}"
        found, items = await asyncio.to_thread(manifest.frozen, self._jobs, batch, spec)
        if not items and not spec.watch:
            told = "; ".join(remark.text for remark in found.remarks[:3])
            raise PairError(
                sentence(
                    "there is no pair in {audio_dir} and {image_dir}. {told}",
                    audio_dir=spec.audio_dir,
                    image_dir=spec.image_dir,
                    told=told,
                )
            )
        lines = await self._lay_out(spec, items)
        name = spec.name or Path(spec.out_dir).name
        row = BatchRow(batch, name, "preparing", spec.to_dict(), spec.digest, now, now)
        row = dataclasses.replace(row, lines=lines.to_dict() if lines else None)
        notes = [manifest.note(batch, remark) for remark in found.remarks]
        self.store.create(row, items, notes)
        self._reached("frozen", "")
        for remark in found.remarks:
            self._tell.log("INFO", f"batch {batch}: {remark.text}")
        self._work(row, spec, lines)
        return self._accepted(batch, f"{len(items)} items", remarks=found.remarks)

    async def _go_on(self, row: BatchRow, text: str) -> Reply:
        spec = spec_from_dict(row.spec)
        items = self.store.items(row.id)
        lines = await self._lay_out(spec, items)
        if not self.store.take(row.id):
            return Reply(
                False, sentence("another engine works on batch {id}", id=row.id), state="refused"
            )
        changes = {"lines": lines.to_dict()} if lines else {}
        row = self.store.update(row.id, state="preparing", note="", ended=None, **changes)
        self.store.note(row.id, "resumed", sentence("it was resumed"))
        self._work(row, spec, lines)
        return self._accepted(row.id, text, joined=True)

    def _accepted(
        self, batch: str, text: str, *, joined: bool = False, remarks: Sequence[Remark] = ()
    ) -> Reply:
        row = self.store.batch(batch)
        data = {
            "batch": batch,
            "joined": joined,
            "lines": row.lines if row else None,
            "remarks": [dataclasses.asdict(remark) for remark in remarks],
        }
        return Reply(True, f"batch {batch}: {text}", state="running", data=data)

    async def _lay_out(self, spec: BatchSpec, items: Sequence[ItemRow]) -> Lines | None:
        """How the batch lies on devices; None where there is no item to ask about."""
        samples, work = await asyncio.to_thread(manifest.samples, items)
        if not samples:
            return None
        machine = await self._machine()
        gpus = gpus_of(spec.request, machine)
        free = [gpu for gpu in gpus if held_by_others((gpu,)) is None]
        if len(free) < len(gpus):
            busy = ", ".join(gpu for gpu in gpus if gpu not in free)
            self._tell.log("WARNING", f"busy, and skipped: {busy} (other engines hold them)")
        if gpus and not free:
            raise NoLine(sentence("other engines hold every device that the batch may have"))
        placed = any(spec.request.get(name) not in (None, False, "auto") for name in _PLACED)
        plan = planner(machine, samples, Path(spec.out_dir))
        return await asyncio.to_thread(choose_lines, spec.lines, free, work, plan, placed)

    def _work(self, row: BatchRow, spec: BatchSpec, lines: Lines | None) -> None:
        self.store.take(row.id)
        self._told(row)
        task = asyncio.get_running_loop().create_task(self._run(row, spec, lines))
        task.add_done_callback(lambda ended: self._over(row.id, ended))
        self._tasks[row.id] = task

    def _over(self, batch: str, task: asyncio.Task[None]) -> None:
        """A fault of ours ends its batch only, is told, and leaves it to be resumed."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        text = internal(error)
        self._tell.log("CRITICAL", f"batch {batch}: {text}")
        with contextlib.suppress(StoreError):
            self._told(self.store.update(batch, state="stopped", note=text, ended=time.time()))
            self.store.let_go(batch)

    async def _run(self, row: BatchRow, spec: BatchSpec, lines: Lines | None) -> None:
        watching: asyncio.Task[None] | None = None
        try:
            with self._held():
                run = BatchRun(
                    *(self.store, self._client, self._places, self._tell, row, spec, lines),
                    reached=self._reached,
                )
                self._runs[row.id] = run
                if spec.watch:
                    self._inboxes[row.id] = stop = asyncio.Event()
                    watching = asyncio.create_task(self._watch(run, stop))
                ended = await self._report(await run.drive())
        finally:
            self._end_inbox(row.id)
            if watching is not None:
                await watching
            self._runs.pop(row.id, None)
            self._tasks.pop(row.id, None)
        # Told last: who hears of the end may begin it again at once.
        self._told(ended)
        text = f": {ended.note}" if ended.note else ""
        self._tell.log("INFO", f"batch {row.id} is {ended.state}{text}")

    async def _watch(self, run: BatchRun, stop: asyncio.Event) -> None:
        """New pairs of the inbox become items."""
        spec, batch = run.desk.spec, run.desk.row.id

        def known() -> set[str]:
            return {item.name for item in self.store.items(batch)}

        async for pairs in inbox.new_pairs(spec, known, stop, self._tell.log):
            earlier = self.store.items(batch)
            weights = await asyncio.to_thread(manifest.weights, self._jobs, spec)
            items = await asyncio.to_thread(freeze, batch, spec, pairs, weights, earlier)
            self.store.add_items(items)
            names = ", ".join(item.name for item in items)
            self._tell.log("INFO", f"batch {batch}: {names} came into the inbox")
            if not run.desk.laid_out:
                try:
                    lines = await self._lay_out(spec, self.store.items(batch))
                except (NoLine, DeviceSelectionError) as error:
                    run.stop(sentence("nothing fits: {error}", error=error))
                    return
                if lines is not None:
                    run.lay_out(lines)
                    self.store.update(batch, lines=lines.to_dict())
            run.desk.refresh()

    async def _report(self, row: BatchRow) -> BatchRow:
        """Write what was; a report that cannot be written is told, no more."""
        folder = Path(str(row.spec["out_dir"]))
        try:
            body = await asyncio.to_thread(report.build, self.store, row)
            path = await asyncio.to_thread(report.write, body, folder)
        except OSError as error:
            self._tell.log("ERROR", f"the report cannot be written: {error}")
            return row
        return self.store.update(row.id, report=str(path))

    # -- changes -------------------------------------------------------------------------------

    async def _change(self, do: str, batch: str) -> Reply:
        row = self.store.batch(batch)
        if row is None:
            return Reply(
                False, sentence("there is no batch {batch}", batch=batch), state="bad_input"
            )
        run = self._runs.get(batch)
        if do == "retry":
            return await self._retry(row, run)
        if run is None and do == "resume" and row.state in BATCH_ENDS:
            if not any(item.state == WAITING for item in self.store.items(batch)):
                text = sentence(
                    "batch {batch} has nothing left to do; retry begins what failed again",
                    batch=batch,
                )
                return Reply(False, text, state=row.state)
            return await self._go_on(row, sentence("it goes on where it was"))
        if run is None:
            return Reply(
                False,
                sentence(
                    "batch {batch} is {state}; it is not at work", batch=batch, state=row.state
                ),
                state=row.state,
            )
        if do == "pause":
            run.pause()
            self.store.note(batch, "paused", sentence("it was paused"))
        elif do == "resume":
            run.resume()
            self.store.note(batch, "resumed", sentence("it was resumed"))
        else:
            self._end_inbox(batch)
            run.stop(sentence("stopped by the operator"))
            self.store.note(batch, "stopped", sentence("it was stopped by the operator"))
        return Reply(True, f"batch {batch}: {do}", state=run.desk.row.state, data={"batch": batch})

    async def _retry(self, row: BatchRow, run: BatchRun | None) -> Reply:
        again = self.store.reset(row.id)
        if not again:
            return Reply(
                False, sentence("batch {id} has no failed item", id=row.id), state=row.state
            )
        inputs = [item for item in again if item.cause in _INPUT_CAUSES]
        if inputs:
            spec = spec_from_dict(row.spec)
            await asyncio.to_thread(manifest.mend, self._jobs, self.store, spec, inputs)
        names = ", ".join(item.name for item in again)
        self.store.note(row.id, "retried", sentence("begun again: {names}", names=names))
        if run is not None:
            run.desk.refresh()
            return self._accepted(
                row.id, sentence("begun again: {names}", names=names), joined=True
            )
        return await self._go_on(row, sentence("begun again: {names}", names=names))

    def _end_inbox(self, batch: str) -> None:
        stop = self._inboxes.pop(batch, None)
        if stop is not None:
            stop.set()

    def _told(self, row: BatchRow) -> None:
        items = self.store.items(row.id)
        lines = len((row.lines or {}).get("lines", ())) or 1
        event = progress.changed(row, items, lines)
        self._tell.publish(dataclasses.replace(event, items=tuple(i.shown for i in items)))


class _Teller:
    """The bus, from any thread."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def publish(self, event: BatchChanged) -> None:
        self._on_loop(lambda: self._bus.publish(event))

    def log(self, level: str, text: str) -> None:
        self._on_loop(lambda: self._bus.log(level, text))

    def _on_loop(self, call: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            call()
            return
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens
            self._loop.call_soon_threadsafe(call)

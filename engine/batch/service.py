"""Batches of one engine: commands in, ``BatchChanged`` out; their jobs are the engine's own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from engine.batch import inbox, progress, report
from engine.batch.devices import gpus_of, held_by_others, planner
from engine.batch.drive import BatchRun, Reached
from engine.batch.freeze import freeze
from engine.batch.keys import checkpoint_identity
from engine.batch.lines import Lines, NoLine, choose_lines
from engine.batch.pairs import PairError, Pairing, Remark, pair_up
from engine.batch.post import check as check_post
from engine.batch.prepare import lint_item
from engine.batch.rows import BATCH_ENDS, WAITING, BatchRow, ItemRow, NoteRow
from engine.batch.spec import BatchSpec, SpecError, spec_from_dict
from engine.batch.store import BatchStore
from engine.checkpoint.errors import CheckpointError
from engine.client import EngineClient
from engine.geometry import blocks_per_clip
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import BatchChanged, BatchCommand, Event, Reply
from engine.preflight import Machine
from engine.telemetry.devices import DeviceSelectionError

#: Items looked at for one that the planner may be asked about.
_SAMPLED: Final = 20
#: Seconds that ending batches are waited for; the next start recovers what is not ended then.
CLOSE_SECONDS: Final = 10.0
#: Batches of earlier runs that a first picture shows.
PAST: Final = 10
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
            return Reply(False, "the engine is stopping", state="refused")
        try:
            match command.do:
                case "start":
                    return await self._start(command.spec)
                case "pause" | "resume" | "stop" | "retry":
                    return await self._change(command.do, command.batch)
                case other:
                    return Reply(False, f"a batch cannot {other!r}", state="bad_input")
        except (SpecError, PairError, CheckpointError, DeviceSelectionError) as error:
            return Reply(False, str(error), state="bad_input")
        except NoLine as error:
            return Reply(False, f"nothing fits: {error}", state="refused")
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
            return self._accepted(earlier.id, "it runs already", joined=True)
        if earlier is not None and earlier.state not in ("done", "failed"):
            return await self._go_on(earlier, "it goes on where it was")
        now = time.time()
        batch = time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f"-{uuid.uuid4().hex[:4]}"
        found, items = await asyncio.to_thread(_frozen, batch, spec)
        if not items and not spec.watch:
            told = "; ".join(remark.text for remark in found.remarks[:3])
            raise PairError(f"there is no pair in {spec.audio_dir} and {spec.image_dir}. {told}")
        lines = await self._lay_out(spec, items)
        name = spec.name or Path(spec.out_dir).name
        row = BatchRow(batch, name, "preparing", spec.to_dict(), spec.digest, now, now)
        row = dataclasses.replace(row, lines=lines.to_dict() if lines else None)
        notes = [_note(batch, remark) for remark in found.remarks]
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
            return Reply(False, f"another engine works on batch {row.id}", state="refused")
        changes = {"lines": lines.to_dict()} if lines else {}
        row = self.store.update(row.id, state="preparing", note="", ended=None, **changes)
        self.store.note(row.id, "resumed", "it was resumed")
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
        samples, work = await asyncio.to_thread(_samples, items)
        if not samples:
            return None
        machine = await self._machine()
        gpus = gpus_of(spec.request, machine)
        free = [gpu for gpu in gpus if held_by_others((gpu,)) is None]
        if len(free) < len(gpus):
            busy = ", ".join(gpu for gpu in gpus if gpu not in free)
            self._tell.log("WARNING", f"busy, and skipped: {busy} (other engines hold them)")
        if gpus and not free:
            raise NoLine("other engines hold every device that the batch may have")
        placed = any(spec.request.get(name) not in (None, False, "auto") for name in _PLACED)
        plan = planner(machine, samples, Path(spec.out_dir))
        return await asyncio.to_thread(choose_lines, spec.lines, free, work, plan, placed)

    def _work(self, row: BatchRow, spec: BatchSpec, lines: Lines | None) -> None:
        self.store.take(row.id)
        self._told(row)
        task = asyncio.get_running_loop().create_task(self._run(row, spec, lines))
        self._tasks[row.id] = task

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
                    self._inboxes[row.id] = asyncio.Event()
                    watching = asyncio.create_task(self._watch(run))
                ended = await run.drive()
                await self._report(ended)
        except (StoreError, OSError) as error:
            self._tell.log("CRITICAL", f"batch {row.id} cannot go on: {error}")
        finally:
            self._end_inbox(row.id)
            if watching is not None:
                await watching
            self._runs.pop(row.id, None)
            self._tasks.pop(row.id, None)

    async def _watch(self, run: BatchRun) -> None:
        """New pairs of the inbox become items."""
        spec, batch = run.spec, run.row.id
        stop = self._inboxes[batch]

        def known() -> set[str]:
            return {item.name for item in self.store.items(batch)}

        async for pairs in inbox.new_pairs(spec, known, stop, self._tell.log):
            earlier = self.store.items(batch)
            weights = await asyncio.to_thread(_weights, spec)
            items = await asyncio.to_thread(freeze, batch, spec, pairs, weights, earlier)
            self.store.add_items(items)
            names = ", ".join(item.name for item in items)
            self._tell.log("INFO", f"batch {batch}: {names} came into the inbox")
            if not run.laid_out:
                try:
                    lines = await self._lay_out(spec, self.store.items(batch))
                except (NoLine, DeviceSelectionError) as error:
                    run.stop(f"nothing fits: {error}")
                    return
                if lines is not None:
                    run.lay_out(lines)
                    self.store.update(batch, lines=lines.to_dict())
            run.refresh()

    async def _report(self, row: BatchRow) -> None:
        """Write what was, then tell the end."""
        folder = Path(str(row.spec["out_dir"]))
        try:
            body = await asyncio.to_thread(report.build, self.store, row)
            path = await asyncio.to_thread(report.write, body, folder)
            row = self.store.update(row.id, report=str(path))
        except OSError as error:
            self._tell.log("ERROR", f"the report cannot be written: {error}")
        self._told(row)
        text = f": {row.note}" if row.note else ""
        self._tell.log("INFO", f"batch {row.id} is {row.state}{text}")

    # -- changes -------------------------------------------------------------------------------

    async def _change(self, do: str, batch: str) -> Reply:
        row = self.store.batch(batch)
        if row is None:
            return Reply(False, f"there is no batch {batch}", state="bad_input")
        run = self._runs.get(batch)
        if do == "retry":
            return await self._retry(row, run)
        if run is None and do == "resume" and row.state in BATCH_ENDS:
            if not any(item.state == WAITING for item in self.store.items(batch)):
                text = f"batch {batch} has nothing left to do; retry begins what failed again"
                return Reply(False, text, state=row.state)
            return await self._go_on(row, "it goes on where it was")
        if run is None:
            return Reply(False, f"batch {batch} is {row.state}; it is not at work", state=row.state)
        if do == "pause":
            run.pause()
            self.store.note(batch, "paused", "it was paused")
        elif do == "resume":
            run.resume()
            self.store.note(batch, "resumed", "it was resumed")
        else:
            self._end_inbox(batch)
            run.stop("stopped by the operator")
            self.store.note(batch, "stopped", "it was stopped by the operator")
        return Reply(True, f"batch {batch}: {do}", state=run.row.state, data={"batch": batch})

    async def _retry(self, row: BatchRow, run: BatchRun | None) -> Reply:
        again = self.store.reset(row.id)
        if not again:
            return Reply(False, f"batch {row.id} has no failed item", state=row.state)
        names = ", ".join(item.name for item in again)
        self.store.note(row.id, "retried", f"begun again: {names}")
        if run is not None:
            run.refresh()
            return self._accepted(row.id, f"begun again: {names}", joined=True)
        return await self._go_on(row, f"begun again: {names}")

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


def _frozen(batch: str, spec: BatchSpec) -> tuple[Pairing, list[ItemRow]]:
    out = Path(spec.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise SpecError(f"{out} cannot be written to")
    weights = _weights(spec)
    manifest = Path(spec.manifest) if spec.manifest else None
    found = pair_up(Path(spec.audio_dir), Path(spec.image_dir), manifest)
    # What lies in an inbox already may be half copied: it enters once it is seen to be whole.
    pairs = () if spec.watch else found.pairs
    return found, freeze(batch, spec, pairs, weights)


def _weights(spec: BatchSpec) -> str:
    """What the weights are: the pinned release, and the files that are read."""
    identity = checkpoint_identity(spec.request)
    return f"{spec.version}:{identity}" if spec.version else identity


def _samples(
    items: Sequence[ItemRow],
) -> tuple[dict[str, Mapping[str, Any]], list[tuple[str, int]]]:
    """One whole request per frame size whose files can be used, and (size, blocks) of every item
    that has work to do."""
    samples: dict[str, Mapping[str, Any]] = {}
    looked: dict[str, int] = {}
    work = []
    for item in items:
        if item.state != WAITING:
            continue
        size = str(item.request.get("size"))
        frames, clips = int(item.request["infer_frames"]), int(item.request["num_clip"])
        work.append((size, clips * blocks_per_clip(frames)))
        if size not in samples and looked.get(size, 0) < _SAMPLED:
            looked[size] = looked.get(size, 0) + 1
            if not any(finding.level == "error" for finding in lint_item(item)):
                samples[size] = item.request
    return samples, work


def _note(batch: str, remark: Remark) -> NoteRow:
    return NoteRow(batch, time.time(), remark.kind, remark.text, remark.name)

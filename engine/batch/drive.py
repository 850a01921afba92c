"""Drives one batch: prepare, claim, render, verify, publish; all of these at once, item by item.

Everything runs on the engine's loop; what blocks runs in two small pools, one before the devices
(checks, resampling) and one behind them (join, verification, publication), so that devices wait
for neither. The store decides what is done; this object only knows what is being done.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from engine.batch import causes, endings, progress
from engine.batch.devices import held_by_others
from engine.batch.lines import Line, Lines
from engine.batch.post import PostError, run_post, values_of
from engine.batch.prepare import NotPrepared, Ready, prepare_item
from engine.batch.publish import WORK, NameTaken, adopt, sweep, taken
from engine.batch.rows import (
    ALIAS,
    CLAIMED,
    DONE,
    FAILED,
    QUARANTINED,
    VERIFYING,
    WAITING,
    BatchRow,
    ItemRow,
)
from engine.batch.spec import BatchSpec
from engine.batch.store import LEASE_SECONDS, BatchStore, LostClaim
from engine.batch.tries import Jobs, Made, TryFailed, make_output
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.messages import BatchChanged, BatchItem

#: Threads of each pool.
POOL: Final = 2
#: Items prepared ahead of every line.
AHEAD: Final = 2
#: Seconds until a line whose device another engine holds is looked at again.
BUSY_SECONDS: Final = 5.0

#: Where no item could be asked about: each fails before a device, or the engine itself decides.
NOWHERE: Final = Lines("cpu", (Line(0, ("cpu",), {}),), "no item is usable", {})

Reached = Callable[[str, str], None]  # step, item's name


def _nothing(_step: str, _name: str) -> None:
    return


class Teller(Protocol):
    """Where a batch's events and log lines go."""

    def publish(self, event: BatchChanged) -> None:
        """An event."""

    def log(self, level: str, text: str) -> None:
        """A line of the engine's log."""


class BatchRun:
    """One batch at work. ``drive`` returns when nothing more happens by itself."""

    def __init__(
        self,
        store: BatchStore,
        client: EngineClient,
        places: Places,
        tell: Teller,
        row: BatchRow,
        spec: BatchSpec,
        lines: Lines | None,
        reached: Reached = _nothing,
    ) -> None:
        self.row = row
        self.spec = spec
        self.lines = lines or NOWHERE
        self.laid_out = lines is not None
        self._store = store
        self._places = places
        self._tell = tell
        self._reached = reached
        self._out = Path(spec.out_dir)
        self._work = self._out / WORK
        self._items = {item.key: item for item in store.items(row.id)}
        self._ready: dict[str, Ready] = {}
        self._doing: dict[str, str] = {}  # key → what is done with it, where the store says less
        self._on_line: dict[int, str] = {}
        self._busy_until: dict[int, float] = {}
        self._told_busy: set[int] = set()
        self._paused = False
        self._stopping: str | None = None
        self._watching = spec.watch
        self._began = time.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._jobs = Jobs(client, row.id)
        self._before = ThreadPoolExecutor(POOL, "avatop-batch-before")
        self._behind = ThreadPoolExecutor(POOL, "avatop-batch-behind")

    # -- what is asked of it -------------------------------------------------------------------

    def pause(self) -> None:
        """Begin nothing more; what is on a device is finished."""
        self._paused = True
        self._change("paused", "items on devices are finished, no more begin")

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False
        self._change("running", "")
        self._wake.set()

    def stop(self, reason: str, *, cancel: bool = True) -> None:
        """End soon: jobs are cancelled (or somebody else ends them), their items wait for a resume
        and lose no try."""
        if self._stopping is None:
            self._stopping = reason
            for item in self._items.values():
                if cancel and item.state in CLAIMED and item.job is not None:
                    self._spawn(self._jobs.cancel(item.job, reason))
        self._wake.set()

    def refresh(self) -> None:
        """The store's items changed (a retry, new files of an inbox)."""
        self._items = {item.key: item for item in self._store.items(self.row.id)}
        self.tell(*self._items.values())
        self._wake.set()

    def lay_out(self, lines: Lines) -> None:
        """Lie on these devices from the next item on."""
        self.lines, self.laid_out = lines, True

    # -- the whole -----------------------------------------------------------------------------

    async def drive(self) -> BatchRow:
        """Work until everything has ended, or it is stopped. The batch's row then."""
        renewing = asyncio.ensure_future(self._renew())
        try:
            recovered = await asyncio.to_thread(
                endings.recover,
                *(self._store, self.spec, self.row.id, self._work, self._final, self._reached),
            )
            for row, text in recovered:
                self._items[row.key] = row
                self._tell.log("WARNING", text)
            self._change("running", "")
            self.tell(*self._items.values())
            for item in self._items.values():
                if item.post == "due":
                    self._spawn(self._post(item))
            await self._loop()
        finally:
            renewing.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._jobs.close()
            self._before.shutdown(wait=False)
            self._behind.shutdown(wait=False)
        sweep(self._out)
        return self._finish()

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            self._publish_aliases()
            if self._stopping is not None:
                return
            if not self._paused:
                self._top_up()
                self._dispatch()
            if not self._watching and not self._tasks and self._over():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._patience())

    def _over(self) -> bool:
        return all(progress.ended(item) for item in self._items.values())

    def _patience(self) -> float | None:
        """Seconds until something is due that wakes nobody."""
        now = time.time()
        due = [i.next_time - now for i in self._items.values() if i.state == WAITING]
        if self._paused:
            return None
        waits = [max(0.05, wait) for wait in due if wait > 0]
        busy = [until - now for until in self._busy_until.values()]
        return min([*waits, *(max(0.05, b) for b in busy)], default=None)

    def _finish(self) -> BatchRow:
        counts = progress.counts(self._items.values())
        left = counts.get(WAITING, 0)
        bad = counts.get(FAILED, 0) + counts.get(QUARANTINED, 0)
        note = self._stopping or ""
        state = "stopped" if left or self._stopping else "failed" if bad else "done"
        if not left and self._stopping:
            state = "failed" if bad else "done"
        now = time.time()
        self.row = self._store.update(
            self.row.id,
            state=state,
            note=note,
            ended=now,
            worked=self.row.worked + now - self._began,
        )
        self._store.let_go(self.row.id)
        return self.row

    # -- before the devices --------------------------------------------------------------------

    def _top_up(self) -> None:
        """Prepare the next items, a few ahead of the lines."""
        ahead = AHEAD * len(self.lines.lines)
        now = time.time()
        for item in self._items.values():
            if len(self._ready) + len(self._doing) >= ahead + len(self._on_line):
                return
            wanted = item.state == WAITING and item.next_time <= now
            if wanted and item.key not in self._ready and item.key not in self._doing:
                self._doing[item.key] = "preparing"
                self.tell(item)
                self._spawn(self._prepare(item))

    async def _prepare(self, item: ItemRow) -> None:
        loop = asyncio.get_running_loop()
        try:
            ready = await loop.run_in_executor(self._before, self._prepare_now, item)
        except (NotPrepared, OSError) as error:
            if isinstance(error, NotPrepared):
                cause = causes.Cause(error.cause, "internal", False)
            else:
                cause = causes.of_os_error(error)
            self._tell.log("ERROR", f"{item.name}: {error}")
            fields = endings.unprepared(self.spec, item, cause, str(error))
            self._keep(self._store.settle(item.batch, item.key, **fields))
        else:
            if ready is None:
                if self._items[item.key].post == "due":
                    await self._post(self._items[item.key])
                return
            self._ready[item.key] = ready
            findings = [finding.to_dict() for finding in ready.findings]
            self._keep(self._store.settle(item.batch, item.key, findings=findings))
        finally:
            self._doing.pop(item.key, None)

    def _prepare_now(self, item: ItemRow) -> Ready | None:
        """None where an earlier run has published it already."""
        final = self._final(item)
        found = adopt(final, item.key, self._steps(item))
        if found is not None:
            fields = endings.done_fields(self.spec, *found)
            self._keep(self._store.settle(item.batch, item.key, **fields))
            self._tell.log("INFO", f"{item.name}: {final} is there already, made from the same")
            return None
        why = taken(final)
        if why is not None:
            raise NotPrepared(why, "name_taken")
        self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
        return prepare_item(item, self._work)

    # -- on the devices ------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give every free line the next prepared item, in the manifest's order."""
        now = time.time()
        for line in self.lines.lines:
            if line.number in self._on_line or self._is_busy(line, now):
                continue
            item = self._next()
            if item is None:
                return
            self._on_line[line.number] = item.key
            self._doing[item.key] = WAITING
            self._spawn(self._try(item, line, self._ready.pop(item.key)))

    def _next(self) -> ItemRow | None:
        """The next item for a device, in the manifest's order; one that is just being prepared
        for its first try is waited for."""
        for item in self._items.values():
            if item.state != WAITING:
                continue
            if item.key in self._ready and item.key not in self._doing:
                return item
            if self._doing.get(item.key) == "preparing" and not item.attempts:
                return None
        return None

    def _is_busy(self, line: Line, now: float) -> bool:
        """Whether another engine holds a device of the line; told once."""
        if self._busy_until.get(line.number, 0.0) > now:
            return True
        held = held_by_others(line.devices)
        if held is None:
            self._busy_until.pop(line.number, None)
            self._told_busy.discard(line.number)
            return False
        self._busy_until[line.number] = now + BUSY_SECONDS
        if line.number not in self._told_busy:
            self._told_busy.add(line.number)
            self._tell.log("WARNING", f"line {line.number} is skipped: {held}")
        return True

    async def _try(self, item: ItemRow, line: Line, ready: Ready) -> None:
        claim: ItemRow | None = None
        try:
            temporary = str(self._work / f"{item.key[:32]}-{{fence}}.mp4")
            devices = ",".join(line.devices)
            claim = await asyncio.to_thread(
                self._store.claim, item.batch, item.key, temporary, devices
            )
            if claim is None:  # somebody else has it
                self.refresh()
                return
            self._doing.pop(item.key, None)
            self._keep(claim)
            self._reached("claimed", claim.name)
            claim = await self._render(claim, line, ready)
        except TryFailed as failed:
            assert claim is not None
            self._failed(claim, failed)
        except LostClaim as lost:
            self._tell.log("WARNING", str(lost))
            self.refresh()
        finally:
            # The device is free; what follows happens beside the next item's work.
            self._doing.pop(item.key, None)
            self._on_line.pop(line.number, None)
            self._wake.set()

    async def _render(self, claim: ItemRow, line: Line, ready: Ready) -> ItemRow:
        """The item's job to its end; its output is verified beside."""
        request = {
            **claim.request,
            "audio": str(ready.audio),
            "output": claim.temporary,
            "retries": max(0, self.spec.retries + 1 - claim.attempts),
            **line.changes,
        }
        job = await self._jobs.submit(request, self.spec.version)
        claim = self._keep(await asyncio.to_thread(self._store.given, claim, job))
        self._reached("submitted", claim.name)
        if self._stopping is not None:
            await self._jobs.cancel(job, self._stopping)
        row = await self._jobs.ended(job, self.spec.item_timeout)
        self._reached("rendered", claim.name)
        claim = self._keep(await asyncio.to_thread(self._store.advance, claim, state=VERIFYING))
        self._spawn(self._behind_devices(claim, row, ready))
        return claim

    # -- behind the devices --------------------------------------------------------------------

    async def _behind_devices(self, claim: ItemRow, row: Any, ready: Ready) -> None:
        facts: dict[str, Any] = {"batch": claim.batch, "key": claim.key, "name": claim.name}
        facts |= {"audio": claim.audio, "image": claim.image, "version": self.spec.version}
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(
                self._behind,
                make_output,
                claim,
                row,
                ready,
                self._final(claim),
                self._places,
                {**facts, "parameters": claim.request},
                self._steps(claim),
            )
            fields = self._made_fields(made, ready)
            attempts = claim.attempts + row.attempt - 1
            done = self._keep(
                await asyncio.to_thread(self._store.end, claim, "done", attempts=attempts, **fields)
            )
            endings.clean(self._work, claim)
            self._reached("done", claim.name)
            self._tell.log("INFO", f"{claim.name}: done, {made.published.path}")
            if done.post == "due":
                await self._post(done)
        except TryFailed as failed:
            self._failed(claim, failed)
        except LostClaim as lost:
            self._tell.log("WARNING", str(lost))
            self.refresh()

    async def _post(self, item: ItemRow) -> None:
        """Its failure is told and harms nothing: the output is there."""
        fields: dict[str, Any] = {"post": "done", "post_error": None}
        try:
            limit, folder = self.spec.post_timeout, self.spec.out_dir
            await run_post(self.spec.post_command, values_of(item), limit, folder)
        except PostError as error:
            fields = {"post": "failed", "post_error": str(error)}
            self._tell.log("ERROR", f"{item.name}: the post-command failed: {error}")
        self._reached("posted", item.name)
        self._keep(await asyncio.to_thread(self._store.settle, item.batch, item.key, **fields))
        self._reached("post", item.name)

    def _publish_aliases(self) -> None:
        for item in list(self._items.values()):
            twin = self._items.get(item.alias_of or "")
            if item.state != ALIAS or twin is None or item.output or item.key in self._doing:
                continue
            if twin.state == DONE:
                self._doing[item.key] = VERIFYING
                self._spawn(self._alias(item, twin))
            elif twin.state in (FAILED, QUARANTINED):
                error = f"it is the same as {twin.name}, which failed"
                self._keep(
                    self._store.settle(
                        item.batch, item.key, state=FAILED, error=error, cause=twin.cause
                    )
                )

    async def _alias(self, item: ItemRow, twin: ItemRow) -> None:
        """The twin's video under this name, too: a link, no bytes."""
        try:
            fields = await asyncio.get_running_loop().run_in_executor(
                self._behind,
                endings.link_twin,
                *(self.spec, item, twin, self._final(item), self._work, self._steps(item)),
            )
        except (OSError, NameTaken) as error:
            fields = {"state": FAILED, "error": str(error), "cause": "name_taken"}
        finally:
            self._doing.pop(item.key, None)
        row = self._keep(
            await asyncio.to_thread(self._store.settle, item.batch, item.key, **fields)
        )
        if row.post == "due":
            await self._post(row)

    # -- ends ----------------------------------------------------------------------------------

    def _failed(self, claim: ItemRow, failed: TryFailed) -> None:
        """A try that gave nothing."""
        endings.clean(self._work, claim)
        found = endings.failure(self.spec, claim, failed, self._stopping is not None)
        if found.outcome == "retry":
            self._tell.log("WARNING", f"{claim.name}: {failed}; again in {found.wait:g} s")
        elif found.outcome == "failed":
            self._tell.log("ERROR", f"{claim.name}: failed: {failed}")
        end = {"cause": found.cause.kind, "origin": found.cause.origin}
        with contextlib.suppress(LostClaim):
            self._keep(self._store.end(claim, found.outcome, **end, **found.fields))
        self._halt_if_many()

    def _halt_if_many(self) -> None:
        """Too large a share of what reached a device failed: a person should look first."""
        tried = [i for i in self._items.values() if i.attempts and i.alias_of is None]
        bad = sum(i.state == FAILED for i in tried)
        ended = bad + sum(i.state == DONE for i in tried)
        if self._stopping is not None or bad < self.spec.halt_least:
            return
        if bad > self.spec.halt_share * ended:
            reason = f"halted: {bad} of {ended} items failed; look at them, then resume"
            self._store.note(self.row.id, "halted", reason)
            self._tell.log("ERROR", reason)
            self.stop(reason)

    def _made_fields(self, made: Made, ready: Ready) -> dict[str, Any]:
        findings = [f.to_dict() for f in (*ready.findings, *made.findings)]
        facts = {name: getattr(made, name) for name in ("frames", "seconds", "fps", "peak_bytes")}
        return {**endings.done_fields(self.spec, made.published, facts), "findings": findings}

    # -- small things --------------------------------------------------------------------------

    def _final(self, item: ItemRow) -> Path:
        return self._out / f"{item.name}.mp4"

    def _steps(self, item: ItemRow) -> Callable[[str], None]:
        return lambda step: self._reached(step, item.name)

    def _keep(self, item: ItemRow) -> ItemRow:
        """Remember an item as the store has it now, and tell it. Any thread."""
        self._items[item.key] = item
        self.tell(item)
        return item

    def _change(self, state: str, note: str) -> None:
        self.row = self._store.update(self.row.id, state=state, note=note, ended=None)
        self.tell()

    def tell(self, *items: ItemRow) -> None:
        """Publish the batch with these items."""
        shown = tuple(self._shown(item) for item in items)
        whole = progress.changed(self.row, self._items.values(), len(self.lines.lines))
        self._tell.publish(dataclasses.replace(whole, items=shown))

    def _shown(self, item: ItemRow) -> BatchItem:
        doing = self._doing.get(item.key) if item.state == WAITING else None
        return dataclasses.replace(item.shown, state=doing or item.state)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            await asyncio.to_thread(self._store.renew, self.row.id)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_over)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell.log("CRITICAL", f"internal error: {type(error).__name__}: {error}")
            self.stop(f"an internal error: {error}")
        self._wake.set()

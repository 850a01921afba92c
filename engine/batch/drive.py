"""Drives one batch: prepare, claim, render, verify, publish; all of these at once, item by item.

Everything runs on the engine's loop; what blocks runs in two small pools, one before the devices
(checks, resampling) and one behind them (join, verification, publication), so that devices wait
for neither. The store decides what is done; this object only knows what is being done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from engine.batch import causes, endings, progress
from engine.batch.behind import Behind
from engine.batch.desk import Desk, Reached, Teller
from engine.batch.devices import held_by_others
from engine.batch.lines import Line, Lines
from engine.batch.prepare import NotPrepared, Ready, prepare_item
from engine.batch.publish import adopt, sweep, taken
from engine.batch.rows import (
    CLAIMED,
    FAILED,
    QUARANTINED,
    VERIFYING,
    WAITING,
    BatchRow,
    ItemRow,
)
from engine.batch.spec import BatchSpec
from engine.batch.store import LEASE_SECONDS, BatchStore, LostClaim
from engine.batch.tries import Jobs, TryFailed
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.sentence import sentence

#: Threads that prepare.
POOL: Final = 2
#: Items prepared ahead of every line.
AHEAD: Final = 2
#: Retries that a request may ask its job for; the batch goes on counting beyond.
MOST_RETRIES: Final = 10
#: Seconds until a line whose device another engine holds is looked at again.
BUSY_SECONDS: Final = 5.0


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
        reached: Reached,
    ) -> None:
        self.desk = Desk(store, tell, row, spec, lines, reached)
        self.desk.on_stop = self._cancel_all
        self._behind = Behind(self.desk, places)
        self._ready: dict[str, Ready] = {}
        self._on_line: dict[int, str] = {}
        self._busy_until: dict[int, float] = {}
        self._told_busy: set[int] = set()
        self._paused = False
        self._cancels = True
        self._began = time.time()
        self._jobs = Jobs(client, row.id)
        self._before = ThreadPoolExecutor(POOL, "avatop-batch-before")

    # -- what is asked of it -------------------------------------------------------------------

    def pause(self) -> None:
        """Begin nothing more; what is on a device is finished."""
        self._paused = True
        self.desk.change("paused", sentence("items on devices are finished, no more begin"))

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False
        self.desk.change("running", "")
        self.desk.wake.set()

    def stop(self, reason: str, *, cancel: bool = True) -> None:
        """End soon: jobs are cancelled (or somebody else ends them), their items wait for a resume
        and lose no try."""
        self._cancels = cancel
        self.desk.stop(reason)

    def lay_out(self, lines: Lines) -> None:
        """Lie on these devices from the next item on."""
        self.desk.lines, self.desk.laid_out = lines, True

    def _cancel_all(self, reason: str) -> None:
        for item in self.desk.items.values():
            if self._cancels and item.state in CLAIMED and item.job is not None:
                self.desk.spawn(self._jobs.cancel(item.job, reason))

    # -- the whole -----------------------------------------------------------------------------

    async def drive(self) -> BatchRow:
        """Work until everything has ended, or it is stopped. The batch's row then."""
        renewing = asyncio.ensure_future(self._renew())
        try:
            recovered = await asyncio.to_thread(
                endings.recover,
                *(
                    self.desk.store,
                    self.desk.spec,
                    self.desk.row.id,
                    self.desk.work,
                    self.desk.final,
                    self.desk.reached,
                ),
            )
            for row, text in recovered:
                self.desk.items[row.key] = row
                self.desk.log("WARNING", text)
            self.desk.change("running", "")
            self.desk.tell(*self.desk.items.values())
            for item in self.desk.items.values():
                if item.post == "due":
                    self.desk.spawn(self._behind.post(item))
            await self._loop()
        finally:
            renewing.cancel()
            while self.desk.tasks:  # what ends may leave more to do (a video to publish)
                await asyncio.wait(self.desk.tasks)
                await asyncio.sleep(0)
            self._jobs.close()
            self._before.shutdown(wait=False)
            self._behind.close()
        sweep(self.desk.work)
        return self._finish()

    async def _loop(self) -> None:
        while True:
            self.desk.wake.clear()
            self._behind.aliases()
            if self.desk.stopping is not None:
                return
            if not self._paused:
                self._top_up()
                self._dispatch()
            if not self.desk.spec.watch and not self.desk.tasks and self._over():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.desk.wake.wait(), self._patience())

    def _over(self) -> bool:
        return all(progress.ended(item) for item in self.desk.items.values())

    def _patience(self) -> float | None:
        """Seconds until something is due that wakes nobody."""
        now = time.time()
        due = [i.next_time - now for i in self.desk.items.values() if i.state == WAITING]
        if self._paused:
            return None
        waits = [max(0.05, wait) for wait in due if wait > 0]
        busy = [until - now for until in self._busy_until.values()]
        return min([*waits, *(max(0.05, b) for b in busy)], default=None)

    def _finish(self) -> BatchRow:
        counts = progress.counts(self.desk.items.values())
        left = counts.get(WAITING, 0)
        bad = counts.get(FAILED, 0) + counts.get(QUARANTINED, 0)
        note = self.desk.stopping or ""
        state = "stopped" if left or self.desk.stopping else "failed" if bad else "done"
        if not left and self.desk.stopping:
            state = "failed" if bad else "done"
        now = time.time()
        self.desk.row = self.desk.store.update(
            self.desk.row.id,
            state=state,
            note=note,
            ended=now,
            worked=self.desk.row.worked + now - self._began,
        )
        self.desk.store.let_go(self.desk.row.id)
        return self.desk.row

    # -- before the devices --------------------------------------------------------------------

    def _top_up(self) -> None:
        """Prepare the next items, a few ahead of the lines."""
        ahead = AHEAD * len(self.desk.lines.lines)
        now = time.time()
        for item in self.desk.items.values():
            if len(self._ready) + len(self.desk.doing) >= ahead + len(self._on_line):
                return
            wanted = item.state == WAITING and item.next_time <= now
            if wanted and item.key not in self._ready and item.key not in self.desk.doing:
                self.desk.doing[item.key] = "preparing"
                self.desk.tell(item)
                self.desk.spawn(self._prepare(item))

    async def _prepare(self, item: ItemRow) -> None:
        loop = asyncio.get_running_loop()
        try:
            ready = await loop.run_in_executor(self._before, self._prepare_now, item)
        except (NotPrepared, OSError) as error:
            if isinstance(error, NotPrepared):
                cause = causes.Cause(error.cause, "internal", False)
            else:
                cause = causes.of_os_error(error)
            self.desk.log("ERROR", f"{item.name}: {error}")
            fields = endings.unprepared(self.desk.spec, item, cause, str(error))
            self.desk.settle(item, **fields)
        else:
            if ready is None:
                if self.desk.items[item.key].post == "due":
                    await self._behind.post(self.desk.items[item.key])
                return
            self._ready[item.key] = ready
            findings = [finding.to_dict() for finding in ready.findings]
            self.desk.settle(item, findings=findings)
        finally:
            self.desk.doing.pop(item.key, None)

    def _prepare_now(self, item: ItemRow) -> Ready | None:
        """None where an earlier run has published it already."""
        final = self.desk.final(item)
        found = adopt(final, item.key, self.desk.steps(item))
        if found is not None:
            fields = endings.done_fields(self.desk.spec, *found)
            self.desk.settle(item, **fields)
            self.desk.log("INFO", f"{item.name}: {final} is there already, made from the same")
            return None
        why = taken(final)
        if why is not None:
            raise NotPrepared(why, "name_taken")
        self.desk.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        return prepare_item(item, self.desk.work)

    # -- on the devices ------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give every free line the next prepared item, in the manifest's order."""
        now = time.time()
        for line in self.desk.lines.lines:
            if line.number in self._on_line or self._is_busy(line, now):
                continue
            item = self._next()
            if item is None:
                return
            self._on_line[line.number] = item.key
            self.desk.doing[item.key] = WAITING
            self.desk.spawn(self._try(item, line, self._ready.pop(item.key)))

    def _next(self) -> ItemRow | None:
        """The next item for a device, in the manifest's order; one that is just being prepared
        for its first try is waited for."""
        for item in self.desk.items.values():
            if item.state != WAITING:
                continue
            if item.key in self._ready and item.key not in self.desk.doing:
                return item
            if self.desk.doing.get(item.key) == "preparing" and not item.attempts:
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
            self.desk.log("WARNING", f"line {line.number} is skipped: {held}")
        return True

    async def _try(self, item: ItemRow, line: Line, ready: Ready) -> None:
        claim: ItemRow | None = None
        try:
            temporary = str(self.desk.work / f"{item.key[:32]}-{{fence}}.mp4")
            devices = ",".join(line.devices)
            claim = await asyncio.to_thread(
                self.desk.store.claim, item.batch, item.key, temporary, devices
            )
            if claim is None:  # somebody else has it
                self.desk.refresh()
                return
            self.desk.doing.pop(item.key, None)
            self.desk.keep(claim)
            self.desk.reached("claimed", claim.name)
            claim = await self._render(claim, line, ready)
        except TryFailed as failed:
            assert claim is not None
            self.desk.failed(claim, failed)
        except LostClaim as lost:
            self.desk.lost(lost)
        finally:
            # The device is free; what follows happens beside the next item's work.
            self.desk.doing.pop(item.key, None)
            self._on_line.pop(line.number, None)
            self.desk.wake.set()

    async def _render(self, claim: ItemRow, line: Line, ready: Ready) -> ItemRow:
        """The item's job to its end; its output is verified beside."""
        request = {
            **claim.request,
            "audio": str(ready.audio),
            "output": claim.temporary,
            "retries": min(MOST_RETRIES, max(0, self.desk.spec.retries + 1 - claim.attempts)),
            **line.changes,
        }
        job = await self._jobs.submit(request, self.desk.spec.version)
        claim = self.desk.keep(await asyncio.to_thread(self.desk.store.given, claim, job))
        self.desk.reached("submitted", claim.name)
        if self.desk.stopping is not None:
            await self._jobs.cancel(job, self.desk.stopping)
        row = await self._jobs.ended(job, self.desk.spec.item_timeout)
        self.desk.reached("rendered", claim.name)
        claim = self.desk.keep(
            await asyncio.to_thread(self.desk.store.advance, claim, state=VERIFYING)
        )
        self.desk.spawn(self._behind.make(claim, row, ready))
        return claim

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            await asyncio.to_thread(self.desk.store.renew, self.desk.row.id)

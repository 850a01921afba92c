"""What a running batch knows, and how it is told: its items, what is done with each, its tasks.

Shared by what works before, on and behind the devices. The engine's loop only, but for ``keep``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from engine.batch import endings, progress
from engine.batch.lines import Line, Lines
from engine.batch.publish import WORK
from engine.batch.rows import DONE, FAILED, WAITING, BatchRow, ItemRow
from engine.batch.spec import BatchSpec
from engine.batch.store import BatchStore, LostClaim
from engine.batch.tries import TryFailed
from engine.messages import BatchChanged, BatchItem
from engine.sentence import internal, sentence

#: Where no item could be asked about: each fails before a device, or the engine itself decides.
NOWHERE: Final = Lines("cpu", (Line(0, ("cpu",), {}),), sentence("no item is usable"), {})

Reached = Callable[[str, str], None]  # step, item's name


class Teller(Protocol):
    """Where a batch's events and log lines go. Any thread."""

    def publish(self, event: BatchChanged) -> None:
        """An event."""

    def log(self, level: str, text: str) -> None:
        """A line of the engine's log."""


class Desk:
    """The state of one running batch."""

    def __init__(
        self,
        store: BatchStore,
        teller: Teller,
        row: BatchRow,
        spec: BatchSpec,
        lines: Lines | None,
        reached: Reached,
    ) -> None:
        self.row = row
        self.spec = spec
        self.lines = lines or NOWHERE
        self.laid_out = lines is not None
        self.store = store
        self.reached = reached
        self.log = teller.log
        self._publish = teller.publish
        self.out = Path(spec.out_dir)
        self.work = self.out / WORK / row.id
        self.items = {item.key: item for item in store.items(row.id)}
        self.doing: dict[str, str] = {}  # key → what is done with it, where the store says less
        self.stopping: str | None = None
        self.on_stop: Callable[[str], None] = lambda _reason: None
        self.tasks: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()

    # -- items ---------------------------------------------------------------------------------

    def final(self, item: ItemRow) -> Path:
        """Where its output goes."""
        return self.out / f"{item.name}.mp4"

    def steps(self, item: ItemRow) -> Callable[[str], None]:
        """To be told each step of this item's publication."""
        return lambda step: self.reached(step, item.name)

    def keep(self, item: ItemRow) -> ItemRow:
        """Remember an item as the store has it now, and tell it. Any thread."""
        self.items[item.key] = item
        self.tell(item)
        return item

    def settle(self, item: ItemRow, **fields: Any) -> ItemRow:
        """Change an item that nobody has claimed. Any thread."""
        return self.keep(self.store.settle(item.batch, item.key, **fields))

    def refresh(self) -> None:
        """The store's items changed (a retry, new files of an inbox)."""
        self.items = {item.key: item for item in self.store.items(self.row.id)}
        self.tell(*self.items.values())
        self.wake.set()

    def lost(self, why: LostClaim) -> None:
        """Somebody else has an item: look at the store again."""
        self.log("WARNING", str(why))
        self.refresh()

    def failed(self, claim: ItemRow, failed: TryFailed) -> None:
        """A try that gave nothing: again later, or never; too many stop the batch."""
        endings.clean(self.work, claim)
        found = endings.failure(self.spec, claim, failed, self.stopping is not None)
        if found.outcome == "retry":
            self.log("WARNING", f"{claim.name}: {failed}; again in {found.wait:g} s")
        elif found.outcome == "failed":
            self.log("ERROR", f"{claim.name}: failed: {failed}")
        end = {"cause": found.cause.kind, "origin": found.cause.origin}
        with contextlib.suppress(LostClaim):
            self.keep(self.store.end(claim, found.outcome, **end, **found.fields))
        self._halt_if_many()

    def _halt_if_many(self) -> None:
        """Too large a share of what reached a device failed: a person should look first."""
        tried = [i for i in self.items.values() if i.attempts and i.alias_of is None]
        bad = sum(i.state == FAILED for i in tried)
        ended = bad + sum(i.state == DONE for i in tried)
        if self.stopping is not None or bad < self.spec.halt_least:
            return
        if bad > self.spec.halt_share * ended:
            reason = sentence(
                "halted: {bad} of {ended} items failed; look at them, then resume",
                bad=bad,
                ended=ended,
            )
            self.store.note(self.row.id, "halted", reason)
            self.log("ERROR", reason)
            self.stop(reason)

    # -- the whole -----------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """End soon; items that are on devices lose no try."""
        if self.stopping is None:
            self.stopping = reason
            self.on_stop(reason)
        self.wake.set()

    def change(self, state: str, note: str) -> None:
        """The batch as a whole is in another state."""
        self.row = self.store.update(self.row.id, state=state, note=note, ended=None)
        self.tell()

    def tell(self, *items: ItemRow) -> None:
        """Publish the batch with these items. Any thread."""
        shown = tuple(self._shown(item) for item in items)
        whole = progress.changed(self.row, self.items.values(), len(self.lines.lines))
        self._publish(dataclasses.replace(whole, items=shown))

    def _shown(self, item: ItemRow) -> BatchItem:
        doing = self.doing.get(item.key) if item.state == WAITING else None
        return dataclasses.replace(item.shown, state=doing or item.state)

    def spawn(self, coroutine: Any) -> None:
        """Work beside; the batch ends only when all of it has."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._task_over)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log("CRITICAL", f"internal error: {type(error).__name__}: {error}")
            self.stop(internal(error))
        self.wake.set()

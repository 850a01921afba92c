"""Batches and the items of one: tables, the strip of the whole progress, an item's details."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar, Final

from textual.strip import Strip

from console import format as fmt
from console.i18n import N_, n, t
from console.production import Batch
from console.spoken import spoken
from console.state import Model
from console.widgets.details import Details, Fact, Said, Section
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from console.widgets.progress import progress
from console.widgets.table import Column, Table
from engine.messages import LIVE_STATES, BatchItem, JobRow

#: States of items in the order in which they are told.
_TOLD: Final = ("running", "verifying", "preparing", "waiting", "done", "failed", "quarantined")
NOTED: Final = 84  # columns from which the table has room for notes
_AT_WORK: Final = frozenset({"preparing", "running", "verifying"})
_FAILED: Final = ("failed", "quarantined")
_ORDER: Final = {"preparing": 0, "running": 0, "verifying": 0, "failed": 1, "quarantined": 1,
                 "waiting": 2}  # fmt: skip


def failed(batch: Batch) -> int:
    """Items that failed or were set apart."""
    return sum(batch.change.counts.get(state, 0) for state in _FAILED)


def over(batch: Batch) -> int:
    """Items to which nothing more happens by itself; a twin ends with the item it is made from."""
    counts = batch.change.counts
    twins = sum(i.state == "alias" and i.output is not None for i in batch.items.values())
    return counts.get("done", 0) + failed(batch) + twins


def at_work(batch: Batch) -> list[BatchItem]:
    """Items that are on a device, or just before or after."""
    return [item for item in batch.items.values() if item.state in _AT_WORK]


def part_done(batch: Batch, jobs: Mapping[int, JobRow]) -> float | None:
    """How much of the batch is done, 0…1; clips of items at work count. None without items."""
    if not batch.change.total:
        return None
    begun = 0.0
    for item in at_work(batch):
        job = jobs.get(item.job) if item.job is not None else None
        if item.state == "verifying":
            begun += 1.0
        elif job is not None and job.clips and job.state in LIVE_STATES:
            begun += min(job.clip / job.clips, 1.0)
    return min((over(batch) + begun) / batch.change.total, 1.0)


def left(batch: Batch, now: float) -> float | None:
    """Seconds until the rest is done: told at an item's begin or end, less since then."""
    told = batch.change.eta_seconds
    return None if told is None else max(0.0, told - max(0.0, now - batch.change.t))


def _done(row: Row, batch: Batch, _model: Model) -> Row:
    return row.put(f"{over(batch):,}/{batch.change.total:,}".rjust(9))


def _failed(row: Row, batch: Batch, _model: Model) -> Row:
    count = failed(batch)
    return row.put(f"{count:,}".rjust(6), "state.act" if count else "faint")


def _left(row: Row, batch: Batch, model: Model) -> Row:
    change = batch.change
    if change.state not in ("running", "preparing"):
        return row
    seconds = left(batch, model.now)
    return row.put(fmt.duration(seconds).rjust(8), "na" if seconds is None else "text")


def _began(row: Row, batch: Batch, _model: Model) -> Row:
    started = batch.change.started
    return row.put(fmt.NA if started is None else fmt.clock(started), "soft")


def _noted(row: Row, batch: Batch, model: Model) -> Row:
    return row.outside(spoken(batch.change.note, model), "state.watch")


class Batches(Table[Batch]):
    """Every batch that the engine told of, the newest first."""

    SHOWS = frozenset({"batches"})
    TITLE = N_("Batches")
    COLUMNS: ClassVar[Sequence[Column[Batch]]] = (
        Column(N_("state"), 13, lambda row, b, _m: row.state(b.change.state),
               value=lambda b: b.change.state),
        Column(N_("name"), 24, lambda row, b, _m: row.outside(b.change.name),
               value=lambda b: b.change.name),
        Column(N_("done"), 11, _done, right=True, inner=9, value=over),
        Column(N_("failed"), 8, _failed, right=True, inner=6, value=failed),
        Column(N_("left"), 10, _left, right=True, inner=8,
               value=lambda b: b.change.eta_seconds),
        Column(N_("started"), 10, _began, 100, value=lambda b: b.change.started),
        Column(N_("number"), 22, lambda row, b, _m: row.outside(b.change.batch, "soft"), 130),
        Column(N_("note"), 0, _noted, NOTED),
    )  # fmt: skip

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self._rows: list[Batch] = []
        self._of: list[object] = []

    def rows(self) -> Sequence[Batch]:
        found = sorted(
            self.model.production.batches.values(), key=lambda b: b.change.batch, reverse=True
        )
        of: list[object] = [batch.change for batch in found]
        if len(of) != len(self._of) or any(a is not b for a, b in zip(of, self._of, strict=True)):
            self._rows, self._of = found, of
            self.stamp += 1
        return self._rows

    def key(self, item: Batch) -> Hashable:
        return item.change.batch

    def words_of(self, item: Batch) -> str:
        change = item.change
        return f"{change.batch} {change.name} {change.state} {change.note}"

    def empty(self, row: Row) -> Row:
        key = self.console_app.keymap.key_of("batch.start")
        return row.phrase(t("No batch yet. Press {key} to make videos of two folders."), key=key)


class WholeBatch(Lines):
    """How far the chosen batch is as a whole: a bar with the time left, and what its items do."""

    DEFAULT_CSS = "WholeBatch { height: 2; }"
    SHOWS = frozenset({"batches", "jobs"})

    def __init__(self, model: Model, paint: Paint, batches: Batches) -> None:
        super().__init__(model, paint, id="whole")
        self.batches = batches

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        batch, paint = self.batches.item, self.paint
        if batch is None:
            return []
        change = batch.change
        right = paint.row(width)
        if change.state == "running":
            seconds = left(batch, self.model.now)
            if seconds is None:
                right.put("  ").put(t("time left not known yet"), "na")
            else:
                right.put("  ").put(t("{time} left", time=fmt.duration(seconds)), "text")
        bar = paint.row(width).put("  ")
        progress(paint, bar, max(width - 3 - right.x, 8), part_done(batch, self.model.jobs))
        return [bar.add(right).strip(), self._counts(batch, paint.row(width).put("  ")).strip()]

    def _counts(self, batch: Batch, row: Row) -> Row:
        change = batch.change
        for state in _TOLD:
            count = change.counts.get(state, 0)
            if count:
                look = fmt.state(state)
                row.put(f"{look.shape} {count:,}", look.role)
                row.put(f" {t(look.word)}  " if row.width >= 100 else f" {t(look.word)} ", "soft")
        twins = change.counts.get("alias", 0)
        if twins:
            row.put(n("{count} twin", "{count} twins", twins) + "  ", "soft")
        lines = n("{count} line of devices", "{count} lines of devices", change.lines)
        if fmt.cells(lines) <= row.left:
            row.put(lines, "soft")
        if change.note and row.width < NOTED:
            row.put("  ").outside(spoken(change.note, self.model), "state.watch")
        return row


def _job(row: Row, item: BatchItem, _model: Model) -> Row:
    return row.put(("" if item.job is None else str(item.job)).rjust(4))


def _tries(row: Row, item: BatchItem, _model: Model) -> Row:
    role = "state.watch" if item.attempts > 1 else "text" if item.attempts else "faint"
    return row.put(str(item.attempts).rjust(5), role)


def _clip(row: Row, item: BatchItem, model: Model) -> Row:
    job = model.jobs.get(item.job) if item.job is not None and item.state in _AT_WORK else None
    return row if job is None else row.put(fmt.fraction(job.clip, job.clips).rjust(7))


def _now(item: BatchItem, model: Model) -> tuple[float | None, int | None]:
    """Frames per second and peak bytes: of what was made, or of its job at the moment."""
    job = model.jobs.get(item.job) if item.job is not None and item.state in _AT_WORK else None
    fps, peak = (None, None) if job is None else (job.fps, job.peak_bytes)
    return (
        fps if item.fps is None else item.fps,
        peak if item.peak_bytes is None else item.peak_bytes,
    )


def _fps(row: Row, item: BatchItem, model: Model) -> Row:
    value = _now(item, model)[0]
    if value is None:
        return row.put(fmt.NA.rjust(6) if item.state == "done" else "", "na")
    return row.put(fmt.significant(value).rjust(6))


def _peak(row: Row, item: BatchItem, model: Model) -> Row:
    value = _now(item, model)[1]
    if value is None:
        return row.put(fmt.NA.rjust(6) if item.state == "done" else "", "na")
    return row.put(fmt.gib(value).rjust(6)).put(" GiB", "unit")


def _time(row: Row, item: BatchItem, _model: Model) -> Row:
    return row if item.seconds is None else row.put(fmt.duration(item.seconds).rjust(7), "soft")


def _outcome(row: Row, item: BatchItem, _model: Model) -> Row:
    if item.error:
        role = "state.act" if item.state in _FAILED else "state.watch"
        return row.outside(spoken(item.error[: fmt.LONGEST].splitlines()[0]), role)
    return row.ending(item.output or "", "soft")


class BatchItems(Table[BatchItem]):
    """The pairs of the chosen batch: at work, failed, waiting, done."""

    SHOWS = frozenset({"batches", "jobs"})
    TITLE = N_("Items")
    COLUMNS: ClassVar[Sequence[Column[BatchItem]]] = (
        Column(N_("state"), 14, lambda row, i, _m: row.state(i.state), value=lambda i: i.state),
        Column(N_("name"), 20, lambda row, i, _m: row.outside(i.name), value=lambda i: i.name),
        Column(N_("job"), 6, _job, right=True, inner=4, value=lambda i: i.job),
        Column(N_("tries"), 7, _tries, right=True, inner=5, value=lambda i: i.attempts),
        Column(N_("clip"), 9, _clip, 100, right=True, inner=7),
        Column(N_("fps"), 7, _fps, right=True, inner=6, value=lambda i: i.fps),
        Column(N_("peak"), 12, _peak, right=True, inner=6, value=lambda i: i.peak_bytes),
        Column(N_("time"), 9, _time, 110, right=True, inner=7, value=lambda i: i.seconds),
        Column(N_("outcome"), 0, _outcome),
    )  # fmt: skip

    def __init__(self, model: Model, paint: Paint, batches: Batches) -> None:
        super().__init__(model, paint, id="items")
        self.batches = batches
        self._of: object = None
        self._rows: list[BatchItem] = []

    def rows(self) -> Sequence[BatchItem]:
        batch = self.batches.item
        of = None if batch is None else batch.change  # every change is an object of its own
        if of is not self._of:
            self._of = of
            items = [] if batch is None else list(batch.items.values())
            self._rows = sorted(items, key=lambda item: _ORDER.get(item.state, 3))
        return self._rows

    def key(self, item: BatchItem) -> Hashable:
        return item.key

    def words_of(self, item: BatchItem) -> str:
        return f"{item.name} {item.state} {item.job or ''} {item.error or ''} {item.output or ''}"

    def empty(self, row: Row) -> Row:
        if self.batches.item is None:
            return row.put(t("Its pairs are told of here, one a line."), "soft")
        return row.put(t("No pair has come into it yet."), "soft")

    def forget(self) -> None:
        self._of = None

    def other_batch(self) -> None:
        """Another batch was chosen: the cursor goes to its first item, marks are gone."""
        self.moved = False
        self.marked = set()


class ItemDetails(Details):
    """One item whole: its error in full, its output, its job."""

    SHOWS = frozenset({"batches", "jobs"})
    TITLE = N_("Item")

    def __init__(self, model: Model, paint: Paint, items: BatchItems) -> None:
        super().__init__(model, paint, id="item")
        self.items = items

    def title(self) -> str:
        item = self.items.item
        return t(self.TITLE) if item is None else fmt.short(fmt.inert(item.name), 40)

    def sections(self, width: int) -> Sequence[Section]:  # noqa: ARG002
        item = self.items.item
        if item is None:
            return ()
        fps, peak = _now(item, self.model)
        lines: list[Fact | Said] = []
        if item.error:
            role = "state.act" if item.state in _FAILED else "state.watch"
            lines.append(Said(spoken(item.error, self.model), role))
        if item.state in _FAILED:
            key = self.console_app.keymap.key_of("batch.retry-failed")
            advice = t("Mend the cause, then press {key}: what failed is begun again.", key=key)
            lines.append(Said(advice, "soft"))
        lines += [
            Fact(t("output"), item.output),
            Fact(t("job"), None if item.job is None else str(item.job)),
            Fact(t("tries"), str(item.attempts)),
            Fact(t("time"), None if item.seconds is None else fmt.duration(item.seconds)),
            Fact("fps", None if fps is None else fmt.significant(fps)),
            Fact(t("peak"), None if peak is None else fmt.gib(peak), "GiB"),
            Fact(t("key"), item.key[:16]),
        ]
        return [Section("", lines)]

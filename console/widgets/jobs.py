"""The job table: state, mode, size, progress, speed, time left, memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.strip import Strip

from console import actions
from console import format as fmt
from console.state import Model
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.messages import END_STATES, LIVE_STATES, JobRow


@dataclass(frozen=True)
class Column:
    """One column: its heading, its cells, and the narrowest table that still has it."""

    name: str
    width: int
    draw: Callable[[Row, JobRow, Model], Row]
    least: int = 0
    right: bool = False


def _progress(row: Row, job: JobRow, _model: Model) -> Row:
    return row.put(fmt.fraction(job.clip, job.clips).rjust(7))


def _fps(row: Row, job: JobRow, _model: Model) -> Row:
    if job.fps is None:
        return row.put(fmt.NA.rjust(6) if job.state in LIVE_STATES else " " * 6, "na")
    return row.put(fmt.significant(job.fps).rjust(6))


def _eta(row: Row, job: JobRow, _model: Model) -> Row:
    if job.state in LIVE_STATES:
        known = job.eta_seconds is not None
        return row.put(fmt.duration(job.eta_seconds).rjust(7), "text" if known else "na")
    if job.ended is not None and job.started is not None:
        return row.put(fmt.duration(job.ended - job.started).rjust(7), "soft")
    return row.put(" " * 7)


def _peak(row: Row, job: JobRow, model: Model) -> Row:
    if job.peak_bytes is not None:
        return row.put(fmt.gib(job.peak_bytes).rjust(6)).put(" GiB", "unit")
    plan = model.plans.get(job.id)
    predicted = [d.get("predicted_bytes") for d in plan.get("devices", ())] if plan else []
    known = [p for p in predicted if isinstance(p, int)]
    if known and job.state not in END_STATES:
        return row.put(fmt.gib(max(known)).rjust(6), "soft").put(" plan", "plan")
    return row.put(" " * 10)


def _spikes(row: Row, job: JobRow, _model: Model) -> Row:
    return row.put(f"▲{job.spikes}" if job.spikes else "", "spike")


def _started(row: Row, job: JobRow, _model: Model) -> Row:
    return row.put(fmt.clock(job.started) if job.started else "", "soft")


def _outcome(row: Row, job: JobRow, _model: Model) -> Row:
    if job.error:
        return row.outside(job.error.splitlines()[0], "state.act")
    return row.outside(fmt.fit_left(fmt.inert(job.output or ""), row.left), "soft")


_WIDEST = max(len(look.word) for look in fmt.STATES.values())
COLUMNS = (
    Column("id", 5, lambda row, job, _m: row.put(f"{job.id:>4}")),
    Column("state", _WIDEST + 3, lambda row, job, _m: row.state(job.state)),
    Column("mode", 10, lambda row, job, _m: row.outside(
        f"{job.mode}×{job.ranks}" if job.ranks > 1 else job.mode), 66),
    Column("size", 9, lambda row, job, _m: row.outside(job.size.replace("*", "×")), 60),
    Column("clip", 8, _progress, right=True),
    Column("fps", 7, _fps, right=True),
    Column("left", 8, _eta, right=True),
    Column("peak", 12, _peak, 76, right=True),
    Column("▲", 5, _spikes, 58),
    Column("started", 10, _started, 112),
    Column("outcome", 0, _outcome, 92),
)  # fmt: skip


def columns_for(width: int) -> list[Column]:
    return [column for column in COLUMNS if width >= column.least]


def job_row(
    paint: Paint, model: Model, job: JobRow, width: int, chosen: bool, focus: bool
) -> Strip:
    """One job in one line; the row under the cursor is laid on the cursor's ground."""
    row = paint.row(width, cursor=chosen and focus)
    row.put("▌" if chosen else " ", "accent" if focus else "faint")
    x = 1
    for column in columns_for(width):
        row.to(x)
        column.draw(row, job, model)
        x += column.width
    return row.strip()


def column_heads(paint: Paint, width: int) -> Strip:
    row = paint.row(width).put(" ")
    x = 1
    for column in columns_for(width):
        row.to(x)
        if column.right:
            inner = {"clip": 7, "fps": 6, "left": 7, "peak": 6}[column.name]
            row.put(column.name.rjust(inner), "faint")
        else:
            row.put(column.name if column.name != "id" else "  id", "faint")
        x += column.width
    return row.strip()


class Jobs(Lines, can_focus=True):
    """The table. The cursor stays on its job when rows move."""

    SHOWS = frozenset({"jobs"})
    SCOPE = "jobs"
    BINDINGS = actions.bindings("jobs")

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.chosen: int | None = None  # job id
        self.moved = False  # until the cursor is moved it stays on the first, the liveliest job
        self._top = 0

    @property
    def job(self) -> JobRow | None:
        """The job under the cursor."""
        rows = self.model.job_rows()
        if not self.moved or self.chosen not in self.model.jobs:
            self.chosen = rows[0].id if rows else None
        return self.model.jobs.get(self.chosen) if self.chosen is not None else None

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        rows = self.model.job_rows()
        self.job  # noqa: B018 - settles the cursor on a job that exists
        room = max(height - 2, 1)
        at = next((n for n, job in enumerate(rows) if job.id == self.chosen), 0)
        self._top = min(max(self._top, at - room + 1), at, max(len(rows) - room, 0))
        note = self.paint.row(24)
        if len(rows) > room:
            note.put(f"{at + 1} of {len(rows):,}", "soft")
        lines = [heading(self.paint, "Jobs", width, self.has_focus, note)]
        if not rows:
            row = self.paint.row(width).put("  No job yet. Press ", "soft").put("s", "key")
            return [*lines, row.put(" to submit one.", "soft").strip()]
        lines.append(column_heads(self.paint, width))
        for job in rows[self._top : self._top + room]:
            chosen = job.id == self.chosen
            lines.append(job_row(self.paint, self.model, job, width, chosen, self.has_focus))
        return lines

    def _go(self, index: int) -> None:
        rows = self.model.job_rows()
        if rows:
            self.chosen = rows[min(max(index, 0), len(rows) - 1)].id
            self.moved = True
            self.update()

    def _at(self) -> int:
        rows = self.model.job_rows()
        return next((n for n, job in enumerate(rows) if job.id == self.chosen), 0)

    def action_move(self, by: int) -> None:
        self._go(self._at() + by)

    def action_page(self, by: int) -> None:
        self._go(self._at() + by * max(self.size.height - 2, 1))

    def action_edge(self, to: int) -> None:
        self._go(0 if to < 0 else len(self.model.jobs))

"""The jobs page: the table, one job in full beside it, its log, and everything one does to jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget

from console import actions
from console.i18n import N_
from console.screens import jobs_deeds
from console.screens.base import Page
from console.state import Model
from console.widgets.jobdetails import JobDetails
from console.widgets.joblog import JobLog
from console.widgets.jobs import COLUMNS, Jobs
from console.widgets.paint import Paint
from console.widgets.table import Column
from engine.messages import JobRow

#: From this many columns on, details and log stand side by side.
WIDE: Final = 120
_MORE: Final[Sequence[Column[JobRow]]] = (
    Column(N_("try"), 4, lambda row, job, _m: row.put(str(job.attempt) if job.attempt > 1 else ""),
           140, value=lambda job: job.attempt),
    Column(N_("release"), 13, lambda row, job, _m: row.outside(job.version or "", "soft"), 150,
           value=lambda job: job.version),
    Column(N_("batch"), 13, lambda row, job, _m: row.outside(job.batch or "", "soft"), 150,
           value=lambda job: job.batch),
)  # fmt: skip


class JobTable(Jobs):
    """The overview's table with more columns where there is room."""

    COLUMNS = (*COLUMNS[:-1], *_MORE, COLUMNS[-1])


class JobsPage(Page):
    """Filter, sort and mark jobs; look into one; steer them."""

    NAME = "jobs"
    BINDINGS = actions.bindings("jobs")
    DEFAULT_CSS = """
    JobsPage > Horizontal { height: 1fr; }
    JobsPage > Horizontal > JobDetails { width: 1fr; height: 100%; }
    JobsPage > Horizontal > JobLog { width: 1fr; height: 100%; }
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.table = JobTable(model, paint, id="job-table")
        self.details = JobDetails(model, paint, lambda: self.table.item, id="job-details")
        self.log_pane = JobLog(model, paint, lambda: self.table.item, id="job-log")
        self.lower = Horizontal(self.details, self.log_pane)
        self._log_asked = False  # on narrow screens: the log instead of the details
        self._shape: tuple[int, bool, bool] | None = None

    def body(self) -> ComposeResult:
        yield self.table
        yield self.lower

    def first_focus(self) -> Widget:
        return self.table

    def on_mount(self) -> None:
        self.share()

    def on_resize(self) -> None:
        self.share()

    def model_changed(self, dirty: set[str]) -> None:
        if "jobs" in dirty:
            self.share()

    def share(self) -> None:
        """Rows of the table by how many jobs there are; the details get the larger part."""
        width, height = self.app.size
        room = height - self.rows_taken
        rows = min(max(len(self.model.jobs) + 2, 5), max(room * 2 // 5, 5))
        wide = width >= WIDE
        shape = (rows, wide or not self._log_asked, wide or self._log_asked)
        if shape == self._shape:
            return
        self._shape = shape
        self.table.styles.height = rows
        self.details.display, self.log_pane.display = shape[1:]
        if wide:
            self.log_pane.styles.margin = (0, 0, 0, 1)

    def on_table_moved(self) -> None:
        self.details.update()
        self.log_pane.update()

    def on_table_opened(self) -> None:
        self._show_log(False)
        self.details.focus()

    def _show_log(self, on: bool) -> None:
        self._log_asked = on
        self.share()

    @property
    def _one(self) -> JobRow | None:
        return self.table.item

    # -- keys --------------------------------------------------------------------------------

    def action_back(self) -> None:
        self.table.focus()

    def action_log(self) -> None:
        if self.focused is self.log_pane:
            self._show_log(False)
            self.table.focus()
        elif self._log_asked and not self.details.display:
            self._show_log(False)
        else:
            self._show_log(True)
            self.log_pane.focus()

    def action_submit(self) -> None:
        jobs_deeds.submit(self.console_app)

    def action_clone(self) -> None:
        jobs_deeds.clone(self.console_app, self._one)

    def action_pause(self) -> None:
        jobs_deeds.pause(self.console_app, self.table.selected(), self.table.unmark)

    def action_resume(self) -> None:
        jobs_deeds.resume(self.console_app, self.table.selected(), self.table.unmark)

    def action_finish(self) -> None:
        jobs_deeds.finish(self.console_app, self._one)

    def action_cancel_job(self) -> None:
        jobs_deeds.cancel(self.console_app, self.table.selected(), self.table.unmark)

    def action_modes(self) -> None:
        from console.screens import modes

        modes.switch(self.console_app, self._one)

    def action_relaunch(self) -> None:
        jobs_deeds.relaunch(self.console_app, self._one)

    def action_next(self) -> None:
        jobs_deeds.run_next(self.console_app, self.table.selected(), self.table.unmark)

    def action_reorder(self, by: int) -> None:
        jobs_deeds.reorder(self.console_app, self._one, by)

    def action_copy_path(self) -> None:
        jobs_deeds.copy_path(self.console_app, self.table.selected())

    def action_copy_scp(self) -> None:
        jobs_deeds.copy_scp(self.console_app, self.table.selected())

    def action_drain(self, on: bool) -> None:
        jobs_deeds.drain(self.console_app, on)

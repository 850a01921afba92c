"""Batches: what a night makes of two folders, item by item."""

from __future__ import annotations

from typing import Any

from console import actions
from console import format as fmt
from console.i18n import n, t
from console.production import Batch
from console.screens.dialog import Choice, Dialog
from console.screens.listed import ListedPage
from console.state import Model
from console.widgets.batches import (
    Batches,
    BatchItems,
    ItemDetails,
    WholeBatch,
    at_work,
    failed,
)
from console.widgets.paint import Paint
from console.widgets.table import Table
from engine.messages import BatchCommand, Reply


class BatchPage(ListedPage):
    """The batches above; of the chosen one the whole progress, its items, and one item."""

    NAME = "batch"
    BINDINGS = actions.bindings("batch")
    DEFAULT_CSS = "BatchPage BatchItems { width: 1fr; height: 1fr; }"
    WIDE = 150
    LISTED = "batches"

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.batches = Batches(model, paint, id="batches")
        self.whole = WholeBatch(model, paint, self.batches)
        self.items = BatchItems(model, paint, self.batches)
        self.item = ItemDetails(model, paint, self.items)
        self.consist_of(self.batches, self.whole, self.items, self.item)

    def share(self, beside: bool, room: int) -> None:
        self.item.styles.width = self.app.size.width // 3 if beside else "100%"
        self.item.styles.height = "100%" if beside else max((room - 11) // 3, 4)

    def on_table_moved(self, event: Table.Moved) -> None:
        if event.table is self.batches:
            self.items.other_batch()
            self.whole.update()
            self.items.update()
        self.item.top = 0
        self.item.update()

    def on_table_opened(self, event: Table.Opened) -> None:
        if event.table is self.batches:
            self.items.focus()
        else:
            self.action_to_job()

    # -- actions -----------------------------------------------------------------------------

    def _chosen(self) -> Batch | None:
        """The batch under the cursor; says so where there is none."""
        batch = self.batches.item
        if batch is None:
            self.console_app.say(t("There is no batch yet."), "soft")
        return batch

    def _change(self, do: str, done: str) -> None:
        batch = self._chosen()
        if batch is not None and not self.console_app.refuses():
            self.console_app.command(BatchCommand(do=do, batch=batch.change.batch), done)

    def action_start(self) -> None:
        app = self.console_app
        if app.refuses():
            return
        from console.screens.batch_form import BatchForm

        def answered(reply: Reply) -> None:
            app.said(reply)
            left_out = len(reply.data.get("remarks", ()))
            if reply.ok and left_out:
                words = n("{count} file is no part of it; the report says why.",
                          "{count} files are no part of it; the report says why.",
                          left_out)  # fmt: skip
                app.say(words, "state.watch")

        def done(spec: dict[str, Any] | None) -> None:
            if spec is not None:
                app.say(t("The folders are being read."))
                app.ask(BatchCommand(do="start", spec=spec), answered)

        app.push_screen(BatchForm(self.model, self.paint), done)

    def action_pause(self) -> None:
        self._change("pause", t("The batch begins no more items."))

    def action_resume(self) -> None:
        self._change("resume", t("The batch goes on."))

    def action_retry(self) -> None:
        batch = self._chosen()
        if batch is None:
            return
        if not failed(batch):
            self.console_app.say(t("No item of this batch has failed."), "soft")
            return
        self._change("retry", t("What failed is begun again."))

    def action_stop(self) -> None:
        batch, app = self._chosen(), self.console_app
        if batch is None or app.refuses():
            return
        change = batch.change
        name = fmt.short(fmt.inert(change.name), 32)
        if change.state not in ("running", "paused", "preparing"):
            word = fmt.word(change.state)
            app.say(t("{name} is {state}; it is not at work.", name=name, state=word), "soft")
            return
        busy = len(at_work(batch))
        jobs = n(
            "{count} item is on a device; its job is cancelled and the clip in progress is lost.",
            "{count} items are on devices; their jobs are cancelled, clips in progress are lost.",
            busy,
        )
        rest = t("Done videos stay. No item loses a try by it, and resume goes on where it was.")

        def done(choice: str | None) -> None:
            if choice == "stop":
                command = BatchCommand(do="stop", batch=change.batch)
                app.command(command, t("The batch is being stopped."))

        app.push_screen(
            Dialog(
                self.model, self.paint, t("Stop the batch {name}?", name=name), [jobs, rest],
                [Choice("keep", t("Keep it running")),
                 Choice("pause", t("Pause instead: what is on a device is finished")),
                 Choice("stop", t("Stop {name} now", name=name), danger=True)],
            ),
            lambda choice: self.action_pause() if choice == "pause" else done(choice),
        )  # fmt: skip

    def action_report(self) -> None:
        """Read the store on a thread; the page opens when the report is there."""
        batch, app = self._chosen(), self.console_app
        if batch is None:
            return
        if app.replay is not None:
            text = t("A recording holds no report; it lies in the batch's output folder.")
            app.say(text, "soft")
            return
        app.say(t("The report is being read."), "soft")
        number, columns = batch.change.batch, self.app.size.width - 4
        self.run_worker(
            lambda: self._read(number, batch.change.name, columns),
            thread=True, exclusive=True, exit_on_error=False, group="report",
        )  # fmt: skip

    def _read(self, number: str, name: str, columns: int) -> None:
        import click

        from console.screens.batch_report import read_report

        try:
            text = read_report(number, columns)
        except LookupError:
            self.app.call_from_thread(self._no_report)
        except click.ClickException as error:
            self.app.call_from_thread(self.console_app.say, error.format_message(), "state.act")
        else:
            self.app.call_from_thread(self._show_report, name, text)

    def _no_report(self) -> None:
        said = t("This host's store does not know the batch; its report lies in its output folder.")
        self.console_app.say(said, "state.watch")

    def _show_report(self, name: str, text: str) -> None:
        from console.screens.batch_report import ReportBody
        from console.screens.help import Scrolled

        self.console_app.push_screen(Scrolled(ReportBody(self.model, self.paint, name, text)))

    def action_to_job(self) -> None:
        item, app = self.items.item, self.console_app
        if item is None or item.job is None:
            app.say(t("This item has no job yet."), "soft")
            return
        from console.widgets.jobs import Jobs

        job = item.job
        if job not in self.model.jobs:
            app.say(t("Job {id} is no longer among the jobs shown.", id=job), "soft")
            return
        app.action_go("jobs" if any(p.name == "jobs" for p in app.pages) else "overview")

        def choose() -> None:
            for table in app.page.query(Jobs):
                table.choose(job)
                table.focus()
                break

        app.call_after_refresh(choose)

"""The page of processes: who holds device memory, what is wrong with it, and how it is ended."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from console import actions
from console.i18n import t
from console.screens.base import Page
from console.state import Model
from console.widgets.paint import Paint
from console.widgets.process_tree import ProcessRow
from console.widgets.processes import Leaked, ProcessDetails, Processes

SIDE_BY_SIDE: int = 150  # columns from which the details stand beside the table


class ProcessesPage(Page):
    """Tree, details, leaked shared memory; ``K`` kills, here alone."""

    NAME = "processes"
    BINDINGS = actions.bindings("processes")
    DEFAULT_CSS = """
    ProcessesPage > Container { height: 1fr; layout: vertical; }
    ProcessesPage > Container.wide { layout: horizontal; }
    ProcessesPage Processes { height: 1fr; }
    ProcessesPage ProcessDetails { height: 1fr; }
    ProcessesPage .wide Processes { width: 3fr; height: 100%; }
    ProcessesPage .wide ProcessDetails { width: 2fr; height: 100%; margin-left: 1; }
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.table = Processes(model, paint, id="processes")
        self.details = ProcessDetails(model, paint, self.table, id="details")
        self.leaked = Leaked(model, paint, id="leaked")
        self.middle = Container(self.table, self.details)

    def body(self) -> ComposeResult:
        yield self.middle
        yield self.leaked

    def first_focus(self) -> Widget:
        return self.table

    def on_mount(self) -> None:
        self.share_rows()

    def on_resize(self) -> None:
        self.share_rows()

    def share_rows(self) -> None:
        """Details beside the table where there is room; leaked memory only where there is any."""
        self.middle.set_class(self.app.size.width >= SIDE_BY_SIDE, "wide")
        wanted = self.leaked.rows_wanted()
        self.leaked.styles.height = wanted
        self.leaked.display = wanted > 0

    def model_changed(self, dirty: set[str]) -> None:
        if "processes" in dirty:
            self.share_rows()

    def on_table_moved(self) -> None:
        self.details.top = 0
        self.details.update()

    # -- what one does here --------------------------------------------------------------------

    def action_kill(self) -> None:
        if self.console_app.refuses():
            return
        rows = self.table.selected()
        if not rows:
            self.console_app.say(t("No process is selected."), "soft")
            return
        from console.screens.processes_kill import Killing

        self.table.held = True  # no row moves while one decides

        def done() -> None:
            self.table.held = False
            self.table.marked = set()
            self.table.update()

        def ends(row: ProcessRow | None) -> None:
            self.table.ending = frozenset() if row is None else frozenset({row.key})
            self.table.update()

        Killing(self.console_app, rows, ends, done).next()

    def action_copy_command(self) -> None:
        item = self.table.item
        if item is None:
            self.console_app.say(t("No process is selected."), "soft")
            return
        command = item.it.next_command or f"avatop reap --pid {item.process.pid} --yes"
        from console import deeds

        said = deeds.to_clipboard(self.console_app, command)
        self.console_app.say(f"{said} {command}")

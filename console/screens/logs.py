"""The log page: lines of the engine, its ranks, or any file, and what the one under the cursor
means.
"""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Input

from console import actions
from console.i18n import t
from console.screens.base import Page
from console.screens.form import Form, Pick, entry
from console.state import Model
from console.widgets.logs_details import LineDetails
from console.widgets.logs_lines import LogLines
from console.widgets.logs_source import FileSource, LiveSource, engine_log
from console.widgets.paint import Paint
from engine.jobs.paths import Places
from engine.triage.catalogue import catalogue

ROOMY: int = 34  # rows from which the meaning is shown without asking


class LogsPage(Page):
    """Lines above, what one of them means below."""

    NAME = "logs"
    BINDINGS = actions.bindings("logs")
    DEFAULT_CSS = """
    LogsPage > LogLines { height: 1fr; }
    LogsPage > LineDetails { height: 12; }
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.lines = LogLines(model, paint, id="lines")
        self.details = LineDetails(model, paint, self.lines, id="details")
        self._asked: bool | None = None  # whether somebody chose to see the meaning

    def body(self) -> ComposeResult:
        yield self.lines
        yield self.details

    def first_focus(self) -> Widget:
        return self.lines

    def on_mount(self) -> None:
        self._share()
        if not self.lines.meaning.ready:
            self.run_worker(self._warm, thread=True, exit_on_error=False)

    def _warm(self) -> None:
        catalogue()
        self.lines.compiled.set()
        self.app.call_from_thread(self.show, {"logs"})

    def on_resize(self) -> None:
        self._share()

    def _share(self) -> None:
        height = self.app.size.height
        shown = height >= ROOMY if self._asked is None else self._asked
        self.details.display = shown
        self.details.styles.height = max(height // 3, 7)

    def on_line_view_moved(self) -> None:
        if self.details.display:
            self.details.top = 0
            self.details.update()

    # -- what one does here --------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enter belongs to what is typed."""
        if action == "explain" and self.lines.prompt.open:
            return False
        return super().check_action(action, parameters)

    def action_explain(self) -> None:
        self._asked = not self.details.display
        self._share()
        self.details.update()

    def action_open_file(self) -> None:
        own = Places.of(self.console_app.environ).log
        now = self.lines.source.name or str(own)

        def done(path: str | None) -> None:
            if path is not None:
                self.open_path(path)

        self.app.push_screen(FileForm(self.model, self.paint, now), done)

    def open_path(self, path: str) -> None:
        """Show a file's lines; with its rotated parts if it is the engine's own."""
        if not path.strip():
            self.lines.show(LiveSource(self.model))
            self.lines.update()
            return
        file = Path(path.strip()).expanduser()
        own = Places.of(self.console_app.environ).log
        try:
            source = FileSource(
                engine_log(file) if file == own else [file], self.model.host or None
            )
        except OSError as error:
            why = error.strerror or str(error)
            self.console_app.say(
                t("{file} cannot be read: {why}", file=file.name or str(file), why=why), "state.act"
            )
            return
        source.poll()
        self.lines.show(source)
        self.lines.update()


class FileForm(Form):
    """Which file; the result is its path, empty for the live lines."""

    def __init__(self, model: Model, paint: Paint, path: str) -> None:
        super().__init__(
            model, paint, t("Open a log file"), t("Enter opens · empty: live lines · Esc leaves")
        )
        hint = t("path of a log file; empty: live lines")
        self.path = entry(path, hint, "path", replaced=True)

    def fields(self) -> list[tuple[str, Input | Pick]]:
        return [(t("file"), self.path)]

    def ready(self) -> None:
        self.path.focus()

    def send(self) -> None:
        self.dismiss(self.path.value)

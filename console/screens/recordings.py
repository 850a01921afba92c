"""The recordings page: what was kept, its marks, and the way into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import Input

from console import actions
from console import format as fmt
from console.i18n import t
from console.screens.base import Page
from console.screens.form import Form, Pick, entry
from console.shelf import Taped, on_shelf, taped
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from console.widgets.recordings import Marks, Recordings
from console.widgets.table import Table
from engine.nightwatch.derived import derived
from engine.telemetry.replay import ReplayClient

#: Seconds before a mark at which a visit begins, so that one sees it coming.
_BEFORE = 3.0


class RecordingsPage(Page):
    """A list above, the marks of the selected recording below."""

    NAME = "recordings"
    BINDINGS = actions.bindings("recordings")
    DEFAULT_CSS = "RecordingsPage > Marks { height: 1fr; }"

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.table = Recordings(model, paint, id="recordings")
        self.marks = Marks(model, paint, self.table)
        self.busy = False  # the disk is being looked at

    def body(self) -> ComposeResult:
        yield self.table
        yield self.marks

    def first_focus(self) -> Widget:
        return self.table

    def opened(self) -> None:
        self.action_reload()

    def action_reload(self) -> None:
        """Look at the disk, on a thread."""
        self.busy = True
        self._look(dict(self.console_app.environ), samples())

    @work(thread=True, exclusive=True, group="shelf")
    def _look(self, environ: dict[str, str], shipped: Path | None) -> None:
        found = on_shelf(environ, shipped, Path.cwd())
        self.app.call_from_thread(self._seen, found)

    def _seen(self, found: list[Taped]) -> None:
        own = [one for one in self.table.tapes or () if one.kind == "file"]
        self.table.tapes = [*found, *own]
        self.busy = False
        self.share()
        self.table.update()
        self.marks.update()

    def on_resize(self) -> None:
        self.share()

    def share(self) -> None:
        """Rows of the list: what it has, half of the page at most."""
        room = self.app.size.height - self.rows_taken
        rows = len(self.table.rows()) + 2
        self.table.styles.height = min(max(rows, 4), max(room // 2, 4))

    # -- what one does here --------------------------------------------------------------------

    def on_table_moved(self, event: Table.Moved) -> None:
        if event.table is self.table:
            self.marks.update()

    def on_table_opened(self, event: Table.Opened) -> None:
        mark = self.marks.item
        if event.table is self.marks and mark is not None:
            self._visit(self.table.item, mark.at - _BEFORE)
        else:
            self.action_watch()

    def action_watch(self) -> None:
        item = self.table.item
        if item is None:
            self.console_app.say(t("No recording is selected."), "soft")
        elif item.kind == "host":  # what happened last is what is looked for
            self._visit(item, item.end)
        else:
            self._visit(item, item.start)

    def _visit(self, item: Taped | None, moment: float | None) -> None:
        if item is None:
            return
        app = self.console_app
        if item.recording is None:
            app.say(fmt.inert(spoken(item.problem or "")), "state.act")
            return
        if app.replay is not None and app.replay.recording is item.recording:
            app.go_to(moment or item.recording.start)
        else:
            client = ReplayClient(item.recording, derived)
            client.seek(item.recording.start if moment is None else moment)
            app.visit(client)
        key = app.keymap.key_of
        if app.visiting:
            keys = {"play": key("replay.play"), "live": key("visit.live")}
            said = t(
                "Every page shows this recording now. {play} plays, {live} leads back.", **keys
            )
            if item.counts.get("error") or item.counts.get("alert"):
                said = t(
                    "Every page shows this recording now. {play} plays, {mark} goes to what went "
                    "wrong, {live} leads back.",
                    mark=key("replay.mark-after"), **keys,
                )  # fmt: skip
            app.say(said, "accent")
        self.table.update()

    def action_file(self) -> None:
        def done(path: str | None) -> None:
            if path is not None:
                self._open_file(Path(path).expanduser())

        self.console_app.push_screen(FileForm(self.model, self.paint), done)

    @work(thread=True, exclusive=True, group="shelf file")
    def _open_file(self, path: Path) -> None:
        self.app.call_from_thread(self._file_read, taped(path, "file"))

    def _file_read(self, item: Taped) -> None:
        if item.problem is not None:
            # The footer has room for why, not for a long path before it.
            why = spoken(item.problem).replace(str(item.path), item.path.name)
            self.console_app.say(fmt.inert(why), "state.act")
            return
        known = [one for one in self.table.tapes or () if one.path != item.path]
        self.table.tapes = [*known, item]
        self.share()
        self.table.choose(str(item.path))
        self._visit(item, item.start)


class FileForm(Form):
    """A path to a recording; the result is the text, or None."""

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(
            model, paint, t("Open a recording"), t("Enter opens it · Esc leaves")
        )  # fmt: skip
        self.path = entry("", t("a bundle, a segment or a folder"), "path")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [(t("path"), self.path)]

    def ready(self) -> None:
        self.path.focus()

    def send(self) -> None:
        if self.path.value.strip():
            self.dismiss(self.path.value.strip())


def samples() -> Path | None:
    """Where the shipped recordings lie, if they came along."""
    from engine.resources import sample_data

    try:
        return sample_data() / "recordings"
    except OSError:
        return None

"""The checkpoint page: what the weights are made of, whether they are whole, what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Input

from console import actions
from console import format as fmt
from console.i18n import t
from console.screens.base import Page
from console.screens.dialog import Choice, Dialog
from console.screens.form import Form, Pick, entry
from console.screens.working import Outcome, Report, Working
from console.spoken import spoken
from console.state import Model
from console.weights import Place, Weights, changed, known, read
from console.widgets.checkpoint import CheckpointDetails, Tensors
from console.widgets.paint import Paint
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.findings import Verdict
from engine.checkpoint.inspect import pickles
from engine.checkpoint.pthlist import list_pth
from engine.checkpoint.verify import READING, verify

#: Columns from which details and tensors stand side by side.
WIDE = 110


class Cancelled(Exception):  # noqa: N818 - says what happened
    """The person cancelled."""


class CheckpointPage(Page):
    """Details and tensors, side by side or one above the other."""

    NAME = "checkpoint"
    BINDINGS = actions.bindings("checkpoint")
    DEFAULT_CSS = """
    CheckpointPage > Container { height: 1fr; layout: vertical; }
    CheckpointPage > Container.-wide { layout: horizontal; }
    CheckpointPage CheckpointDetails { height: 3fr; }
    CheckpointPage Tensors { height: 2fr; }
    CheckpointPage .-wide > CheckpointDetails { width: 1fr; height: 100%; }
    CheckpointPage .-wide > Tensors { width: 1fr; height: 100%; margin-left: 1; }
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.details = CheckpointDetails(model, paint)
        self.table = Tensors(model, paint, self.details)
        self.both = Container(self.details, self.table)
        self.place: Place | None = None  # None: the first that is known
        self.busy = False  # headers are being read

    def body(self) -> ComposeResult:
        yield self.both

    def first_focus(self) -> Widget:
        return self.table

    def on_resize(self) -> None:
        self.both.set_class(self.app.size.width >= WIDE, "-wide")

    def opened(self) -> None:
        self.both.set_class(self.app.size.width >= WIDE, "-wide")
        if self.details.weights is None:
            self.action_reload()
        else:
            self._look_again(self.details.weights)

    def model_changed(self, dirty: set[str]) -> None:
        if "jobs" in dirty and self.details.weights is None and not self.busy:
            self.action_reload()
        if "checkpoint" in dirty and self.details.weights is not None:
            self._look_again(self.details.weights)

    # -- reading, on threads -------------------------------------------------------------------

    def places(self) -> list[Place]:
        """Checkpoints that may be meant."""
        from engine.resources import sample_data

        try:
            sample = sample_data() / "ckpt"
        except OSError:
            sample = None
        return known(self.model, self.console_app.environ, sample)

    def choose(self, folder: str) -> None:
        """Turn to another checkpoint."""
        found = next((place for place in self.places() if place.folder == folder), None)
        self.place = found or Place(folder)
        self.details.weights = self.details.verdict = None
        self.details.top = 0
        self.action_reload()

    def action_reload(self) -> None:
        place = self.place or next(iter(self.places()), None)
        if place is None:
            return
        self.place = place
        self.busy = self.details.reading = True
        self._draw()
        self._read(place, self.model.now)

    @work(thread=True, exclusive=True, group="weights")
    def _read(self, place: Place, now: float) -> None:
        """Headers first; what only a child process can list comes a moment later."""
        weights = read(place, now)
        closed = [] if weights.layout is None else pickles(weights.layout)
        self.app.call_from_thread(self._have, weights, bool(closed))
        if closed:
            try:
                lists = list_pth(closed)
            except CheckpointError:
                lists = {}
            self.app.call_from_thread(self._have, read(place, now, lists), False)

    def _have(self, weights: Weights, more: bool) -> None:
        if weights.place != self.place:
            return  # another was chosen meanwhile
        self.busy = self.details.reading = more
        self.details.weights = weights
        self.details.since_read = []
        self._draw()

    @work(thread=True, exclusive=True, group="weights since")
    def _look_again(self, weights: Weights) -> None:
        self.app.call_from_thread(self._since, weights, changed(weights))

    def _since(self, weights: Weights, paths: list[Path]) -> None:
        if weights is self.details.weights:
            self.details.since_read = paths
            self.details.update()

    def _draw(self) -> None:
        self.details.update()
        self.table.update()

    # -- what one does here --------------------------------------------------------------------

    def action_verify(self, deep: bool) -> None:
        place, app = self.place, self.console_app
        if place is None:
            app.say(t("No checkpoint is chosen."), "soft")
            return

        def work_it(report: Report) -> Verdict:
            def told(part: float, what: str) -> None:
                if report.cancelled:
                    raise Cancelled
                # Headers, tables and tokenizers take what they take; only values are read steadily.
                report.tell(part, what, steady=deep and part >= READING)

            return verify(place.find(), deep=deep, told=told)

        def done(outcome: Outcome | None) -> None:
            if outcome is None or isinstance(outcome.error, Cancelled):
                app.say(t("Cancelled; nothing is known of the rest."), "soft")
                return
            if outcome.error is not None:
                app.say(fmt.inert(spoken(outcome.error)), "state.act")
                return
            verdict: Verdict = outcome.value
            self.details.verdict = (verdict, deep, self.model.now)
            self.details.top = 0
            self.details.update()
            if verdict.ok:
                app.say(t("The checkpoint is usable."), "state.good")
            else:
                app.say(t("The checkpoint is unusable; see what to do."), "state.act")

        title = t("Verify every value") if deep else t("Verify the checkpoint")
        app.push_screen(Working(self.model, self.paint, title, work_it), done)

    def action_other(self) -> None:
        """Choose among those that are known, or type a folder."""
        places = self.places()
        choices = [Choice(place.folder, place.folder) for place in places[:8]]
        choices.append(Choice("", t("Another folder …")))
        held = self.place.folder if self.place is not None else "-"

        def typed(path: str | None) -> None:
            if path:
                self.choose(path)

        def done(folder: str | None) -> None:
            if folder == "":
                form = FolderForm(self.model, self.paint)
                self.console_app.push_screen(form, typed)
            elif folder and folder != held:
                self.choose(folder)

        title = t("Which checkpoint?")
        self.console_app.push_screen(
            Dialog(self.model, self.paint, title, [], choices, held), done
        )  # fmt: skip


class FolderForm(Form):
    """A checkpoint's folder; the result is the text, or None."""

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(
            model, paint, t("Look at a checkpoint"), t("Enter reads it · Esc leaves")
        )  # fmt: skip
        self.path = entry("", t("the folder with config.json and the shards"), "path")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [(t("folder"), self.path)]

    def ready(self) -> None:
        self.path.focus()

    def send(self) -> None:
        if self.path.value.strip():
            self.dismiss(str(Path(self.path.value.strip()).expanduser()))

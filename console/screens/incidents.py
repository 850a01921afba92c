"""The incidents page: what is wrong, why, when, and what to do about it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget

from console import actions, deeds
from console.i18n import t
from console.incidents import Incident
from console.screens.base import Page
from console.state import Model
from console.widgets.incidents import IncidentDetails, Incidents
from console.widgets.paint import Paint
from console.widgets.timeline import Timeline
from engine.messages import Acknowledge, AlertChanged, Silence

#: Columns from which details and timeline stand side by side.
WIDE = 110


class IncidentsPage(Page):
    """A list above; below it the diagnosis, and the timeline beside it or in its place."""

    NAME = "incidents"
    BINDINGS = actions.bindings("incidents")
    DEFAULT_CSS = """
    IncidentsPage > Horizontal { height: 1fr; }
    IncidentsPage IncidentDetails { width: 2fr; height: 100%; }
    IncidentsPage Timeline { width: 3fr; height: 100%; }
    IncidentsPage > Horizontal.-both > Timeline { margin-left: 1; }
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.table = Incidents(model, paint, id="incidents")
        self.details = IncidentDetails(model, paint, self.table)
        self.timeline = Timeline(model, paint, id="timeline")
        self.below = Horizontal(self.details, self.timeline)

    def body(self) -> ComposeResult:
        yield self.table
        yield self.below

    def first_focus(self) -> Widget:
        return self.table

    def opened(self) -> None:
        self.turn()

    def on_resize(self) -> None:
        self.share()

    def model_changed(self, dirty: set[str]) -> None:
        if dirty & {"alerts", "findings"}:
            self.turn()

    def turn(self) -> None:
        """Details and timeline show what the cursor is on."""
        self.share()
        self.timeline.show_incident(self.table.item)
        self.details.update()

    def share(self) -> None:
        """Rows of the list, and whether the timeline has a place of its own."""
        width, height = self.app.size
        room = height - self.rows_taken
        rows = max(len(self.table.shown()), 1) + 2
        self.table.styles.height = min(max(rows, 4), max(room // 3, 5))
        wide = width >= WIDE
        self.below.set_class(wide, "-both")
        alone = not wide and self.focused is self.timeline
        self.details.display = not alone
        self.timeline.display = wide or alone

    def on_table_moved(self) -> None:
        self.details.top = 0
        self.turn()

    def on_table_opened(self) -> None:
        self.action_timeline()

    def on_descendant_focus(self) -> None:
        super().on_descendant_focus()
        self.share()

    # -- what one does here --------------------------------------------------------------------

    def action_timeline(self) -> None:
        """To the timeline, or back to the list."""
        if self.focused is self.timeline:
            self.table.focus()
        else:
            self.timeline.display = True
            self.timeline.focus()

    def action_past(self) -> None:
        self.table.past = not self.table.past
        self.turn()
        self.table.update()

    def _alerts(self) -> list[AlertChanged]:
        """Alerts that are marked, or under the cursor, and not over."""
        chosen = [item for item in self.table.selected() if not item.over]
        alerts = [item.alert for item in chosen if item.alert is not None]
        if not alerts:
            self.console_app.say(t("Only alerts are silenced."), "soft")
        return alerts

    def action_acknowledge(self) -> None:
        app = self.console_app
        if app.refuses():
            return
        chosen = [item.what.id for item in self.table.selected() if not item.over]
        if not chosen:
            app.say(t("There is nothing to acknowledge."), "soft")
        for name in chosen:
            app.command(Acknowledge(alert=name, by=deeds.user()), t("Acknowledged."))
        self.table.marked.clear()

    def action_silence(self) -> None:
        app = self.console_app
        if app.refuses():
            return
        alerts = self._alerts()
        if not alerts:
            return
        from console.screens.incidents_silence import SilenceForm

        def done(answer: tuple[str, float] | None) -> None:
            if answer is None:
                return
            whole, seconds = answer
            named = {a.rule if whole == "rule" else a.id: a for a in alerts}
            for target in named:
                command = Silence(alert=target, seconds=seconds, by=deeds.user())
                said = t("Silenced.") if seconds else t("No longer silenced.")
                app.command(command, said)
            self.table.marked.clear()

        app.push_screen(SilenceForm(self.model, self.paint, alerts), done)

    def action_remedy(self, at: int) -> None:
        from console.screens import incidents_remedy

        item = self._item()
        if item is not None:
            incidents_remedy.begin(self.console_app, item, at)

    def action_export(self) -> None:
        from console.screens import incidents_export

        incidents_export.begin(self.console_app, self.table.item)

    def _item(self) -> Incident | None:
        item = self.table.item
        if item is None:
            self.console_app.say(t("No incident is selected."), "soft")
        return item

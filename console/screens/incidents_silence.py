"""For how long an alert, or all of its rule, is told to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.widgets import Input

from console import format as fmt
from console.i18n import N_, n, t
from console.screens.form import Form, Pick
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from engine.messages import AlertChanged

#: What is picked → seconds, and what it is called.
_TIMES: Final = {
    "15m": (900.0, N_("15 minutes")),
    "1h": (3600.0, N_("an hour")),
    "4h": (4 * 3600.0, N_("4 hours")),
    "8h": (8 * 3600.0, N_("8 hours")),
    "1d": (86_400.0, N_("a day")),
    "3d": (3 * 86_400.0, N_("3 days")),
    "0": (0.0, N_("end the silence")),
}


class SilenceForm(Form):
    """The result is ``("alert" | "rule", seconds)``, or None when left; 0 ends a silence."""

    def __init__(self, model: Model, paint: Paint, alerts: Sequence[AlertChanged]) -> None:
        title = n("Silence {count} alert", "Silence {count} alerts", len(alerts))
        super().__init__(model, paint, title, t("←→ change · Enter does it · Esc leaves"))
        self.alerts = alerts
        rules = sorted({alert.rule for alert in alerts})
        times = [(name, t(words)) for name, (_seconds, words) in _TIMES.items()]
        self.time = Pick(model, paint, times, "1h", id="time")
        which = [("alert", t("these alone")), ("rule", ", ".join(rules))]
        self.which = Pick(model, paint, which, "alert", id="which")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [(t("for"), self.time), (t("what"), self.which)]

    def ready(self) -> None:
        told = [
            (fmt.inert(spoken(alert.message, self.model) or alert.rule), "soft")
            for alert in self.alerts[:4]
        ]
        known = t("It goes on being judged and shown; nobody is told. When it ends, what still "
                  "holds fires again.")  # fmt: skip
        self.about.say([("", "text"), *told, ("", "text"), (known, "soft")])
        self.time.focus()

    def send(self) -> None:
        self.dismiss((self.which.value, _TIMES[self.time.value][0]))

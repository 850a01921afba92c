"""From how many GiB a rise of memory counts as a spike, per job."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widgets import Input

from console import format as fmt
from console.i18n import t
from console.screens.form import Form, Pick, entry
from console.state import Model
from console.widgets.paint import Paint
from engine.messages import JobRow


class ThresholdForm(Form):
    """The result is ``(bytes,)``, ``(None,)`` for the plan's own, or None when left."""

    def __init__(self, model: Model, paint: Paint, job: JobRow) -> None:
        super().__init__(
            model,
            paint,
            t("Spike threshold of job {id}", id=job.id),
            t("Enter sets it · Esc leaves"),
        )
        self.job = job
        self.gib = entry("", t("empty: the plan's own"), "gib")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [("GiB", self.gib)]

    def ready(self) -> None:
        plan = self.model.plans.get(self.job.id) or {}
        known = [b for b in plan.get("spike_threshold_bytes", ()) if isinstance(b, int)]
        text = t("A rise above the threshold is marked ▲ and logged.")
        if known:
            least, most = fmt.gib(min(known)), fmt.gib(max(known))
            span = least if least == most else f"{least} … {most}"
            text = f"{text} {t('The plan says {span} GiB.', span=span)}"
        self.about.say([("", "text"), (text, "soft")])
        self.gib.focus()

    def send(self) -> None:
        text = self.gib.value.strip().lower().removesuffix("gib").strip()
        if not text:
            self.dismiss((None,))
            return
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e6:
            sentence = t(
                "{text} is not a number of GiB above 0, such as 1.5.", text=repr(self.gib.value)
            )
            self.problems.say([("", "text"), (sentence, "state.act")])
            return
        self.dismiss((int(value * fmt.GIB),))

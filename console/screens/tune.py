"""The tune page: parameters at the left, what they cost at the right, the meaning below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from console import actions
from console.i18n import t
from console.screens import tune_deeds
from console.screens.base import Page
from console.spoken import spoken
from console.state import Model
from console.tuning import (
    VARIANTS,
    Ground,
    Planned,
    Variant,
    around,
    ground_key,
    planned,
    read_ground,
    request_of,
    turned,
    ways_of,
    ways_out,
)
from console.widgets.paint import Paint
from console.widgets.tuneplan import PlanPane
from console.widgets.tunetable import Meaning, TuneTable
from engine.params import BadValueError, Parameter

#: Seconds after which devices are read again when the page is opened.
STALE: Final = 15.0
#: Seconds without a key before fits are looked for, so that it does not slow the keys.
REST: Final = 0.12


class TunePage(Page):
    """Variants of values, the present one's plan redrawn at each change."""

    NAME = "tune"
    BINDINGS = actions.bindings("tune")
    DEFAULT_CSS = """
    TunePage > Horizontal { height: 1fr; }
    TunePage > Horizontal > TuneTable { width: 2fr; height: 100%; }
    TunePage > Horizontal > PlanPane { width: 3fr; height: 100%; }
    TunePage > Meaning { height: 6; }
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.variants: list[Variant] = []
        self.at = 0
        self.grounds: dict[tuple[Any, ...], Ground] = {}
        self.read_at = 0.0
        self.wants_fit: Variant | None = None  # asked for while it was still looked for
        self._rest: Timer | None = None
        self.table = TuneTable(model, paint, lambda: self.present, id="tune-table")
        self.pane = PlanPane(
            model, paint, lambda: self.variants or [self.present], lambda: self.at, id="tune-plan"
        )
        self.meaning = Meaning(model, paint, self.table, id="tune-meaning")

    def body(self) -> ComposeResult:
        yield Horizontal(self.table, self.pane)
        yield self.meaning

    def first_focus(self) -> Widget:
        return self.table

    @property
    def present(self) -> Variant:
        """The variant that keys change."""
        if not self.variants:
            self.variants.append(Variant(tune_deeds.starting_values(self.console_app)))
        return self.variants[self.at]

    @property
    def busy(self) -> bool:
        """Whether devices are read, or what fits is looked for."""
        return self.present.reading or self.present.ways is None

    def opened(self) -> None:
        if self.model.now - self.read_at > STALE:
            self.grounds.clear()
        self.replan()

    def on_mount(self) -> None:
        self.share()

    def on_resize(self) -> None:
        self.share()

    def share(self) -> None:
        width, height = self.app.size
        self.meaning.styles.height = 4 if height < 30 else 6
        self.table.styles.width = 34 if width < 100 else "2fr"

    def model_changed(self, dirty: set[str]) -> None:
        tune_deeds.follow(self, dirty)

    def on_table_moved(self) -> None:
        self.present.around = {}
        self.meaning.update()
        self.think()

    def on_table_opened(self) -> None:
        tune_deeds.type_value(self, self.table.item)

    # -- planning ----------------------------------------------------------------------------

    def take(self, values: Mapping[str, Any]) -> None:
        """Set values of the present variant, None being the default, and plan at once."""
        from console.tuning import TUNED

        defaults = {parameter.name: parameter.default for parameter in TUNED}
        present = self.present
        for name, value in values.items():
            if value is None or value == defaults.get(name):
                present.values.pop(name, None)
            else:
                present.values[name] = value
        self.table.stamp += 1
        self.replan()

    def replan(self) -> None:
        """Plan the present values; where devices or files must be read, do that first."""
        variant = self.present
        variant.ways, variant.around, self.wants_fit = None, {}, None
        ground = self.grounds.get(ground_key(variant.values))
        if ground is None:
            self.read(variant)
        else:
            self.plan_on(ground, variant)
        self.draw_all()

    def plan_on(self, ground: Ground, variant: Variant) -> None:
        variant.reading, variant.problem = False, ""
        variant.ways = None  # what a thread found for earlier values may have come meanwhile
        try:
            if request_of(variant.values).external:
                variant.planned, variant.ways = None, []
                variant.problem = t("Another program does the work: there is nothing to plan.")
                return
            variant.planned = planned(ground, variant.values)
        except ValueError as error:
            variant.planned, variant.problem = None, str(error)
        self.think()

    def draw_all(self) -> None:
        for part in (self.table, self.pane, self.meaning):
            part.update()

    def read(self, variant: Variant) -> None:
        """Read devices, checkpoint and portrait on a thread."""
        variant.reading = True
        values = dict(variant.values)
        self.run_worker(
            lambda: ("ground", variant, ground_key(values), read_ground(values)),
            thread=True, exit_on_error=False, group=f"ground {self.variants.index(variant)}",
            exclusive=True, name="ground",
        )  # fmt: skip

    def think(self) -> None:
        """Once keys rest: look for what fits instead, and at the chosen value's neighbours."""
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(REST, self.look_around)

    def look_around(self) -> None:
        """On a thread, because it takes longer than a key may."""
        variant, item = self.present, self.table.item
        found, values = variant.planned, dict(variant.values)
        ground = self.grounds.get(ground_key(values))
        if ground is None or item is None or (found is None and variant.ways is not None):
            return
        known = variant.ways

        def look() -> tuple[str, Variant, Planned | None, tuple[Any, Any]]:
            if found is None:
                return "ways", variant, None, (ways_out(ground, values), {})
            near = around(ground, values, item)
            return "ways", variant, found, (ways_of(found) if known is None else known, near)

        self.run_worker(look, thread=True, exit_on_error=False, group="think", exclusive=True,
                        name="think")  # fmt: skip

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Something read or reckoned on a thread is there."""
        if event.state is WorkerState.ERROR and event.worker.name == "ground":
            for variant in self.variants:
                if variant.reading:
                    variant.reading, variant.planned, variant.ways = False, None, []
                    variant.problem = str(event.worker.error)
            self.draw_all()
        if event.state is not WorkerState.SUCCESS or not isinstance(event.worker.result, tuple):
            return
        kind, variant, about, result = event.worker.result
        if kind == "ground":
            self.grounds[about] = result
            self.read_at = self.model.now
            if ground_key(variant.values) == about:
                self.plan_on(result, variant)
        elif kind == "ways" and variant.planned is about:
            variant.ways, variant.around = result
            if self.wants_fit is variant and variant is self.present:
                tune_deeds.fit(self)
        elif kind == "likeness":
            tune_deeds.compared(variant, about, result)
        self.draw_all()

    # -- keys --------------------------------------------------------------------------------

    def action_turn(self, by: int) -> None:
        item = self.table.item
        if item is None:
            return
        found = self.present.planned
        ranks = found.plan.world_size if found is not None else 1
        try:
            value = turned(item, self.present.value(item), by, ranks)
        except BadValueError as error:
            self.refused(item, error)
            return
        self.take({item.name: value})

    def refused(self, parameter: Parameter, error: BadValueError) -> None:
        said = f"{parameter.name} {spoken(error.reason)}" + (
            f"; {spoken(error.suggestion)}" * bool(error.suggestion)
        )
        self.console_app.say(said, "state.watch")

    def action_default(self) -> None:
        if self.table.item is not None:
            self.take({self.table.item.name: None})

    def action_another(self) -> None:
        if len(self.variants) >= VARIANTS:
            self.console_app.say(t("There are {count} variants at most.", count=VARIANTS), "soft")
            return
        self.variants.insert(self.at + 1, self.present.copy())
        self.action_variant(1)

    def action_drop(self) -> None:
        if len(self.variants) < 2:
            self.console_app.say(t("This is the only variant."), "soft")
            return
        del self.variants[self.at]
        self.at = min(self.at, len(self.variants) - 1)
        tune_deeds.follow(self, {"jobs"})  # another one may be the first now
        self.action_variant(0)

    def action_variant(self, by: int) -> None:
        self.at = (self.at + by) % len(self.variants)
        self.table.stamp += 1
        self.wants_fit = None
        if self.present.planned is None or self.present.problem:
            self.replan()
        else:
            self.think()
            self.draw_all()

    def action_fit(self) -> None:
        tune_deeds.fit(self)

    def action_fits(self) -> None:
        tune_deeds.choose_fit(self)

    def action_modes(self) -> None:
        tune_deeds.modes(self)

    def action_submit(self) -> None:
        tune_deeds.submit(self)

    def action_preview(self) -> None:
        tune_deeds.preview(self)

    def action_cancel_preview(self) -> None:
        tune_deeds.cancel_preview(self)

    def action_preset(self) -> None:
        tune_deeds.preset(self)

    def action_past(self) -> None:
        tune_deeds.past(self)

    def action_save(self) -> None:
        tune_deeds.save(self)

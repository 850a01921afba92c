"""The table of parameters being tuned, and what the one under the cursor means."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Final

from textual.strip import Strip

from console import format as fmt
from console.i18n import N_, t
from console.state import Model
from console.tuning import TUNED, Variant, fullest
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from console.widgets.table import Column, Table
from engine.params import Parameter

_FIRST: Final = {group: next(p.name for p in TUNED if p.group == group)
                 for group in dict.fromkeys(p.group for p in TUNED)}  # fmt: skip
#: From this width on the table says groups too.
WITH_GROUPS: Final = 46


def written(parameter: Parameter, value: Any) -> str:
    """A value as a person reads it; empty where it is left open."""
    if value is None:
        return ""
    if parameter.kind == "bytes":
        return f"{fmt.gib(int(value))} GiB"
    if parameter.kind == "size":
        return str(value).replace("*", "×")
    return str(value)


class TuneTable(Table[Parameter]):
    """Every parameter with its value in the present variant."""

    TITLE = N_("Parameters")
    COLUMNS: ClassVar[Sequence[Column[Any]]] = ()

    def __init__(
        self, model: Model, paint: Paint, present: Callable[[], Variant], *, id: str  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(model, paint, id=id)
        self.present = present
        self.own_columns: Sequence[Column[Parameter]] = (
            Column(N_("group"), 12, self.cell_group, WITH_GROUPS),
            Column(N_("parameter"), 22, self.cell_name, value=lambda p: p.name),
            Column(N_("value"), 0, self.cell_value),
        )

    def columns_for(self, width: int) -> list[Column[Parameter]]:
        return [column for column in self.own_columns if width >= column.least]

    def rows(self) -> Sequence[Parameter]:
        return TUNED

    def key(self, item: Parameter) -> Hashable:
        return item.name

    def words_of(self, item: Parameter) -> str:
        return f"{item.name} {item.group} {t(item.group)} {item.help} {t(item.help)}"

    def typed(self, outcome: str) -> None:
        """A filter puts the cursor on the parameter of that name, else on the first alike."""
        super().typed(outcome)
        words = self.words.strip().lower()
        if self.prompt.open or not words:
            return
        names = [p.name for p in self.shown() if words in p.name]
        if names:
            self.choose(words if words in names else names[0])

    @staticmethod
    def cell_group(row: Row, item: Parameter, _model: Model) -> None:
        first = _FIRST[item.group] == item.name
        row.put(fmt.short(t(item.group), 11) if first else "", "faint")

    def cell_name(self, row: Row, item: Parameter, _model: Model) -> None:
        own = item.name in self.present().values
        row.put(item.name, "text" if own else "soft")

    def cell_value(self, row: Row, item: Parameter, _model: Model) -> None:
        variant = self.present()
        text = written(item, variant.value(item))
        if item.name in variant.values:
            row.outside(text, "accent")
        elif text:
            row.outside(text, "soft")
        else:
            row.put(t("default"), "faint")


def span_of(parameter: Parameter) -> str:
    """What values it may have."""
    if parameter.choices:
        return " | ".join(parameter.choices)
    if parameter.kind == "bool":
        return "False | True"
    low, high = parameter.minimum, parameter.maximum
    if low is None and high is None:
        return ""

    def said(value: float) -> str:
        return f"{fmt.gib(value)} GiB" if parameter.kind == "bytes" else f"{value:g}"

    step = t("in steps of {step}", step=parameter.multiple_of) if parameter.multiple_of else ""
    if high is None:
        text = t("from {low} on", low=said(low or 0))
    else:
        text = t("{low} to {high}", low=said(low or 0), high=said(high))
    return f"{text} {step}".strip()


class Meaning(Lines):
    """Meaning, range, default, and what the present value and its neighbours do to memory."""

    def __init__(
        self, model: Model, paint: Paint, table: TuneTable, *, id: str  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(model, paint, id=id)
        self.table = table

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        item = self.table.item
        if item is None:
            return [heading(self.paint, t("Meaning"), width, False)]
        paint, variant = self.paint, self.table.present()
        default = written(item, item.default) or t("left open")
        note = paint.row(width - len(item.name) - 8)
        span = fmt.short(span_of(item), max(note.width - fmt.cells(default) - 14, 8))
        if span:
            note.outside(span, "soft").put(" · ", "faint")
        note.put(t("default {value}", value=fmt.short(default, 24)), "soft")
        lines = [heading(paint, item.name, width, False, note)]
        room = max(height - 2, 1)
        parts = fmt.wrap(t(item.help), width - 3)[:room]
        lines += [paint.row(width).put("  ").outside(part).strip() for part in parts]
        lines.append(self._effect(item, variant, width))
        return lines

    def _effect(self, item: Parameter, variant: Variant, width: int) -> Strip:
        """Memory of the fullest device now, and with the values next to this one."""
        row = self.paint.row(width).put("  ")
        if variant.planned is None or item.group not in ("generation", "placement"):
            return row.strip()
        now = fullest(variant.planned.plan)[0]
        row.put(t("fullest device now") + " ", "soft").number(now / fmt.GIB, "GiB")
        for value, plan in variant.around.items():
            other, name = fullest(plan)[0], value.replace("*", "×") or t("default")
            change = t("the same") if other == now else f"{(other - now) / fmt.GIB:+.2f}"
            told = self.paint.row(width).put("   ").outside(name, "accent").put(" → ", "faint")
            told.number(other / fmt.GIB, "GiB", "text" if plan.fits else "over")
            if row.left >= told.x + fmt.cells(change) + 3:
                told.put(f" ({change})", "faint" if other == now else "soft")
            if row.left >= told.x:  # a figure is told whole or not at all
                row.add(told)
        return row.strip()

"""Forms of the tune page: one value, and the name of a preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.widgets import Input

from console.i18n import t
from console.screens.form import Form, Pick, entry
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from engine.params import BadValueError, Parameter, parse


class ValueForm(Form):
    """One parameter's value. The result is ``(value,)``, None in it for the default; None: left."""

    def __init__(self, model: Model, paint: Paint, parameter: Parameter, value: Any) -> None:
        super().__init__(
            model, paint, parameter.name,
            t("Enter takes it · empty is the default · Esc leaves it as it was"),
        )  # fmt: skip
        self.parameter = parameter
        now = "" if value is None else str(value)
        self.typed = entry(now, t("default"), "value", replaced=True)

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [(t("value"), self.typed)]

    def ready(self) -> None:
        self.about.say([("", "text"), (t(self.parameter.help), "soft")])
        self.typed.focus()

    def send(self) -> None:
        text = self.typed.value.strip()
        if not text:
            self.dismiss((None,))
            return
        try:
            self.dismiss((parse(self.parameter, text),))
        except BadValueError as error:
            said = f"{spoken(error.reason)}. {spoken(error.suggestion)}".strip()
            self.problems.say([("", "text"), (said, "state.act")])


class PresetForm(Form):
    """Name and purpose of a preset of one's own; the result is both."""

    def __init__(self, model: Model, paint: Paint, about: str) -> None:
        super().__init__(model, paint, t("Save as a preset"), t("Enter saves · Esc leaves"))
        self.said = about
        self.name_field = entry("", t("a-z, 0-9, - and _"), "name")
        self.purpose = entry("", t("what it is good for"), "purpose")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [(t("name"), self.name_field), (t("purpose"), self.purpose)]

    def ready(self) -> None:
        self.about.say([("", "text"), (self.said, "soft")])
        self.name_field.focus()

    def send(self) -> None:
        name = self.name_field.value.strip().lower()
        if not name:
            self.problems.say([("", "text"), (t("A name is needed."), "state.act")])
            return
        self.dismiss((name, self.purpose.value.strip()))

"""The engine's sentences in the console's language, devices by the names the pages give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.i18n import t
from console.state import Model
from engine.sentence import Sentence


def spoken(text: str, model: Model) -> str:
    """A sentence of the engine as it is said here; what no catalogue knows stays as it is."""
    return _said(text, model.machines.names())


def _said(text: str, names: Mapping[str, str]) -> str:
    if not isinstance(text, Sentence):
        return t(text)
    return t(text.template, **{name: _value(value, names) for name, value in text.values.items()})


def _value(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list | tuple):
        return ", ".join(str(_value(each, names)) for each in value)
    return names.get(value) or _said(value, names) if isinstance(value, str) else value

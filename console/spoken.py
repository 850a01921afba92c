"""The engine's sentences in the console's language, devices by the names the pages give them.

A ``Sentence`` brings its template and values. What comes as plain text, from a row of the job store
or an earlier version's recording, is recognised by the catalogue's templates; whatever no template
fits is somebody else's words and stays as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Final

from console import i18n
from console.i18n import recognise, t
from console.state import Model
from engine.sentence import Sentence

#: What stands between sentences that were told one after the other.
_BETWEEN: Final = re.compile(r"(;\s+|(?<=[.!?])\s+|\n+)")
_MOST: Final = 4000


def spoken(text: str | BaseException, model: Model | None = None) -> str:
    """A sentence of the engine, or an error's, as it is said here."""
    names = {} if model is None else model.machines.names()
    return _said(text if isinstance(text, str) else str(text), names)


def _said(text: str, names: Mapping[str, str]) -> str:
    if isinstance(text, Sentence):
        values = {name: _value(value, names) for name, value in text.values.items()}
        template = t(text.template)
        if template.startswith("{s0}"):  # engine.sentence.joined
            template = template.replace("; ", t("; ")).replace(". ", t(". "))
        return template.format(**values)
    for uuid, name in names.items():
        if uuid in text:
            text = text.replace(uuid, name)
    return text if i18n.english() or len(text) > _MOST else _known(text)


def _value(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list | tuple):
        return ", ".join(str(_value(each, names)) for each in value)
    return names.get(value) or _said(value, names) if isinstance(value, str) else value


def _known(text: str) -> str:
    """A plain text, or each sentence of it, where the catalogue knows it."""
    return _looked_up(i18n.language(), text)


@functools.lru_cache(maxsize=2048)
def _looked_up(language: str, text: str) -> str:
    whole = _recognised(language, text)
    if whole is not None:
        return whole
    parts = _BETWEEN.split(text)
    if len(parts) == 1:
        return text
    said = [_recognised(language, part) for part in parts[::2]]
    if not any(said):
        return text
    out = []
    for at, (new, old) in enumerate(zip(said, parts[::2], strict=True)):
        out.append(old if new is None else new)
        if at < len(said) - 1:
            between = parts[2 * at + 1]
            both = new is not None and said[at + 1] is not None and "\n" not in between
            out.append((t("; ") if between.startswith(";") else t(" ")) if both else between)
    return "".join(out)


def _recognised(language: str, text: str) -> str | None:
    """The same in the console's language; None where no template fits."""
    for form in _forms(text):
        said = t(form)
        if said == form:
            found = _templates(language).find(form)
            if found is None:
                continue
            values = {name: _known(value) for name, value in found.values.items()}
            said = recognise.plain(t(found.template)).format(**values)
        return _ended(said, text, form)
    return None


def _forms(text: str) -> list[str]:
    """The text, and as it is where it begins or ends another sentence."""
    bare = text.removesuffix(".")
    lower, upper = text[:1].lower() + text[1:], text[:1].upper() + text[1:]
    forms = (text, bare, f"{bare}.", lower, upper, lower.removesuffix("."))
    return list(dict.fromkeys(forms))


def _ended(said: str, text: str, form: str) -> str:
    if text.endswith(".") and not form.endswith("."):
        return said + t(".")
    return said if text.endswith(".") or not form.endswith(".") else said.rstrip("。.")


@functools.lru_cache(maxsize=4)
def _templates(language: str) -> recognise.Templates:  # noqa: ARG001 - one for each language
    return recognise.Templates(i18n.messages())

"""The engine's sentences in the console's language, devices by the names the pages give them.

A ``Sentence`` brings its template and values. What comes as plain text, from a row of the job store
or an earlier version's recording, is recognised by the catalogue's templates; whatever no template
fits is somebody else's words and stays as it is.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from console import i18n
from console.i18n import t
from console.state import Model
from engine.sentence import Sentence

if TYPE_CHECKING:
    from console.i18n.recognise import Templates

#: What stands between sentences, and between the clauses of one.
_ENDS: Final = re.compile(r"((?<=[.!?])\s+|\n+)")
_CLAUSES: Final = re.compile(r"(;\s+)")
#: A sentence with figures or a reason in brackets behind it.
_ASIDE: Final = re.compile(r"(.+?) \(((?:[^()]|\([^()]*\))+)\)(\.?)", re.DOTALL)
_LISTED: Final = re.compile(r"\S+(?: (?:or|and) \S+)+")
_MOST: Final = 4000
#: Between the duties of one rank, and of two on one device; which steps are one's own.
_PARTS: Final = re.compile(r", | \+ ")
_STEPS: Final = re.compile(r"step (\d+(?:-\d+)?) of \d+")
#: Sentences as earlier versions said them, which recordings keep, and as they are said now: a piece
#: by which one is known, what it was, what it is.
_FORMER: Final = (
    (" times in ", re.compile(r", (\d+) times in 10 minutes$"), r" (\1 in 10 minutes)"),
    ("1 clips are", re.compile(r"\b1 clips are\b"), "1 clip is"),
)


def spoken(text: str | BaseException, model: Model | None = None) -> str:
    """A sentence of the engine, or an error's, as it is said here."""
    names = {} if model is None else model.machines.names()
    return _said(text if isinstance(text, str) else str(text), names)


def quoted(text: str, model: Model) -> str:
    """Evidence: a sentence of ours is said here, a line of somebody's log stays as it is."""
    return spoken(text, model) if isinstance(text, Sentence) else text


def duty(text: str) -> str:
    """What a rank does (``engine.ranks.onrank.observer.role_of``), part by part."""
    parts = [spoken(part) for part in text.split(", ")]
    return ", ".join(parts).replace(" and ", t(" and "))


def duties(text: str) -> tuple[str, str, str, str]:
    """The same, ever shorter: all, without layers, which steps alone, their numbers alone."""
    return _duties(i18n.language(), text)


@functools.lru_cache(maxsize=256)
def _duties(language: str, text: str) -> tuple[str, str, str, str]:  # noqa: ARG001 - one for each
    parts = [part for part in _PARTS.split(text) if not part.startswith("layer ")]
    steps = [(part, _STEPS.fullmatch(part)) for part in parts]
    some = [t("step {steps}", steps=m[1]) if m else spoken(part) for part, m in steps]
    bare = [f"s{m[1]}" if m else part for part, m in steps]
    return duty(text), duty(", ".join(parts)), ", ".join(some), " ".join(bare)


def _said(text: str, names: Mapping[str, str]) -> str:
    if isinstance(text, Sentence):
        values = {name: _value(value, names) for name, value in text.values.items()}
        template = t(text.template)
        if template.startswith("{s0}"):  # engine.sentence.joined
            return _joined(template, values)
        return template.format(**values)
    for uuid, name in names.items():
        if uuid in text:
            text = text.replace(uuid, name)
    for piece, former, now in _FORMER:
        if piece in text:
            text = former.sub(now, text)
    return text if i18n.english() or len(text) > _MOST else _known(text)


def _joined(template: str, values: Mapping[str, Any]) -> str:
    for between in ("; ", ". ", ", "):
        template = template.replace(between, t(between))
    said = template.format(**values)
    stop = t(". ")
    return said if stop == ". " else said.replace(f"{stop} ", stop)


def _between(between: str, before: str) -> str:
    """What stands between two sentences of which both were said anew."""
    if between.startswith(";"):
        return t("; ")
    return "" if before.endswith(t(". ")) else between


def _value(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list | tuple):
        return ", ".join(str(_value(each, names)) for each in value)
    return names.get(value) or _said(value, names) if isinstance(value, str) else value


def _known(text: str) -> str:
    """A plain text, or each sentence of it, where the catalogue knows it."""
    return _looked_up(i18n.language(), text)


@functools.lru_cache(maxsize=2048)
def _looked_up(language: str, text: str) -> str:
    """A sentence, several that follow each other, or none that is known."""
    return (
        _sentence(language, text)
        or _one_by_one(language, text, _ENDS)
        or _one_by_one(language, text, _CLAUSES)
        or _choices(text)
    )


def _choices(text: str) -> str:
    """``one or other``, ``one and other``: names with our word between them."""
    if not _LISTED.fullmatch(text):
        return text
    return text.replace(" or ", t(" or ")).replace(" and ", t(" and "))


def _sentence(language: str, text: str) -> str | None:
    """A known sentence; what it is about may stand before it, and figures behind it."""
    whole = _recognised(language, text)
    if whole is not None:
        return whole
    before, colon, rest = text.partition(": ")
    about = colon and not _ENDS.search(before) and before.count("(") == before.count(")")
    told = _sentence(language, rest) if about else None
    if told is not None:
        return f"{_sentence(language, before) or before}{t(': ')}{told}"
    aside = _ASIDE.fullmatch(text)
    told = None if aside is None else _sentence(language, aside[1])
    if aside is None or told is None:
        return None
    return f"{told}{t('({aside})', aside=_aside(aside[2]))}{t('.') if aside[3] else ''}"


def _aside(text: str) -> str:
    """Figures one by one, or else what is known as a whole."""
    parts = text.split(", ")
    told = [_known(part) for part in parts]
    whole = text if all(map(operator.ne, told, parts)) else _known(text)
    return ", ".join(told) if whole == text else whole


def _one_by_one(language: str, text: str, ends: re.Pattern[str]) -> str | None:
    """Sentences that follow each other; None where none of them is known."""
    parts = ends.split(text)
    if len(parts) == 1:
        return None
    told = [_looked_up(language, part) for part in parts[::2]]
    said = [None if new == old else new for new, old in zip(told, parts[::2], strict=True)]
    if said[0] is None or 2 * said.count(None) > len(said):
        return None  # somebody else's text, in which words of ours occur
    out = []
    for at, (new, old) in enumerate(zip(said, parts[::2], strict=True)):
        out.append(old if new is None else new)
        if at < len(said) - 1:
            between = parts[2 * at + 1]
            both = new is not None and said[at + 1] is not None and "\n" not in between
            out.append(_between(between, str(new)) if both else between)
    return "".join(out)


def _recognised(language: str, text: str) -> str | None:
    """The same in the console's language; None where no template fits."""
    from console.i18n.recognise import plain

    for form in _forms(text):
        said = t(form)
        if said == form:
            found = _templates(language).find(form)
            if found is None:
                continue
            values = {name: _known(value) for name, value in found.values.items()}
            said = plain(t(found.template)).format(**values)
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
def _templates(language: str) -> Templates:  # noqa: ARG001 - one for each language
    from console.i18n.recognise import Templates

    return Templates(i18n.messages())

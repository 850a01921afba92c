"""The filter line of tables: words, exclusions, comparisons with a column.

``gpu !idle fps>40`` shows rows that have "gpu", have not "idle", and whose fps is above 40.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.plain import Plain, late_dataclass

_COMPARISON: Final = re.compile(r"^(\w[\w.-]*)(>=|<=|!=|=|>|<)(.+)$")
_UNITS: Final = {"k": 1e3, "m": 1e6, "g": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}


@late_dataclass(frozen=True)
class Term(Plain):
    """One word of a filter; with a ``column`` it is compared, else looked for in the row."""

    text: str
    column: str = ""
    sign: str = ""
    excludes: bool = False


def parse(text: str, columns: Mapping[str, Any]) -> list[Term]:
    """The terms of a filter. A comparison with an unknown column is a plain word."""
    terms = []
    for word in text.split():
        excludes = len(word) > 1 and word.startswith("!")
        found = _COMPARISON.match(word[1:] if excludes else word)
        if found and found[1].casefold() in columns:
            column = found[1].casefold()
            terms.append(Term(found[3].casefold(), column, found[2], excludes))
        else:
            terms.append(Term(word[1:].casefold() if excludes else word.casefold(), "", "",
                              excludes))  # fmt: skip
    return terms


def passes(
    terms: list[Term], text: Callable[[], str], values: Mapping[str, Callable[[], Any]]
) -> bool:
    """Whether a row passes every term.

    Args:
        text: what plain words are looked for in. values: column → its value in this row.
    """
    whole: str | None = None
    for term in terms:
        if term.column:
            found = _compares(values[term.column](), term)
        else:
            if whole is None:
                whole = text().casefold()
            found = term.text in whole
        if found == term.excludes:
            return False
    return True


def _compares(value: Any, term: Term) -> bool:
    if value is None:
        return False
    wanted = _number(term.text)
    if isinstance(value, int | float) and wanted is not None:
        order = (value > wanted) - (value < wanted)
    elif term.sign in ("=", "!="):  # words: a part is enough
        has = term.text in str(value).casefold()
        return has == (term.sign == "=")
    else:
        given = str(value).casefold()
        order = (given > term.text) - (given < term.text)
    return {
        ">": order > 0, ">=": order >= 0, "<": order < 0, "<=": order <= 0, "=": order == 0,
        "!=": order != 0,
    }[term.sign]  # fmt: skip


def _number(text: str) -> float | None:
    """A figure, with a unit of bytes or a factor if one is written: ``40``, ``1.5gib``."""
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)([a-z]*)", text)
    if not found or (found[2] and found[2] not in _UNITS):
        return None
    return float(found[1]) * _UNITS.get(found[2], 1.0)

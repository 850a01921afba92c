"""Parameters into a foreign program's words and environment; no shell ever sees them.

A placeholder is ``{name}``, any parameter of a request or one of ``OURS``. A word
``{name?--flag}`` becomes ``--flag`` where ``name`` is set and true, and is left out where not;
``{name?--flag={name}}`` carries the value along. ``{{`` and ``}}`` stand for braces. A value always
stays within its word, whatever characters it has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from engine.parameters.problems import ParamError, Problem, closest
from engine.parameters.request import Request
from engine.parameters.table import PARAMETERS
from engine.sentence import sentence

#: What avatop adds to a request's parameters.
OURS: Final = ("port", "gpu_indices", "gpu_uuids", "gpu_count", "job", "job_dir")

_CONDITION = re.compile(r"\{(\w+)\?(.*)\}", re.DOTALL)
_PART = re.compile(r"\{\{|\}\}|\{(\w+)\}|\$\{(\w+)\}")


def values_of(request: Request, ours: Mapping[str, Any]) -> dict[str, str]:
    """Every name a placeholder may have, as text; what is not set is missing."""
    known = {**request.to_dict(), **ours}
    return {name: _text(value) for name, value in known.items() if value is not None}


def fill_words(words: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """An argument list with its placeholders replaced.

    Raises:
        ParamError: a placeholder that is none, or whose parameter is not set.
    """
    filled = []
    for word in words:
        condition = _CONDITION.fullmatch(word)
        if condition is None:
            filled.append(fill(word, values))
        elif _known(condition[1]) and values.get(condition[1], "False") not in ("False", ""):
            filled.append(fill(condition[2], values))
    return tuple(filled)


def fill(text: str, values: Mapping[str, str], env: Mapping[str, str] = os.environ) -> str:
    """One text with its placeholders; ``${NAME}`` is a variable of avatop's own environment.

    Raises:
        ParamError: as ``fill_words``; a variable that is not set.
    """

    def one(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[2] is not None:
            if found[2] not in env:
                raise ParamError(
                    [
                        Problem(
                            f"${{{found[2]}}}", None, sentence("is not set"), f"export {found[2]}=…"
                        )
                    ]
                )
            return env[found[2]]
        name = found[1]
        _known(name)
        if name not in values:
            raise ParamError(
                [
                    Problem(
                        f"--{name}",
                        None,
                        sentence("is needed by {{{name}}}", name=name),
                        sentence("give the flag"),
                    )
                ]
            )
        return values[name]

    return _PART.sub(one, text)


def injected(request: Request) -> dict[str, str]:
    """Every parameter under each name the environment knows it by (B3)."""
    given = request.to_dict()
    return {
        name: _text(given[parameter.name])
        for parameter in PARAMETERS
        if given.get(parameter.name) is not None
        for name in parameter.env_names
    }


def wanted(words: Iterable[str]) -> set[str]:
    """Names of the placeholders that words hold."""
    return {m[1] for word in words for m in _PART.finditer(word) if m[1] is not None}


def _known(name: str) -> bool:
    names = {parameter.name for parameter in PARAMETERS} | set(OURS)
    if name not in names:
        raise ParamError(
            [Problem(f"{{{name}}}", None, sentence("is no placeholder"), closest(name, names))]
        )
    return True


def _text(value: Any) -> str:
    return str(value)

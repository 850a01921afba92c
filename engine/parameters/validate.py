"""Checks of whole requests: types from a dict, and what this version refuses and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.parameters.modes import contradictions
from engine.parameters.parse import BadValueError, parse
from engine.parameters.problems import ParamError, Problem, closest
from engine.parameters.request import DEFAULTS, Request
from engine.parameters.table import BY_NAME
from engine.sentence import sentence


def request_from(data: Mapping[str, Any]) -> Request:
    """A checked request from parameter names and values; ``None`` keeps the default.

    Raises:
        ParamError: every problem found.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in data.items():
        if name not in DEFAULTS:
            problems.append(
                Problem(
                    name, None, sentence("is not a parameter of a request"), closest(name, DEFAULTS)
                )
            )
        elif value is not None:
            try:
                values[name] = parse(BY_NAME[name], value)
            except BadValueError as error:
                problems.append(Problem(name, shown(value), error.reason, error.suggestion))
    if problems:
        raise ParamError(problems)
    request = Request(**values)
    problems = refusals(request) + contradictions(request)
    if problems:
        raise ParamError(problems)
    return request


def refusals(request: Request) -> list[Problem]:
    """Values that parse and that this version cannot honour, with the reason."""
    problems = []
    if request.sample_guide_scale > 0:
        problems.append(
            Problem(
                "--sample_guide_scale",
                f"{request.sample_guide_scale:g}",
                sentence(
                    "the model is distilled to run without guidance, and this version "
                    "has no unconditional pass to guide against"
                ),
                sentence(
                    "leave it out or use 0; sample_steps 5 or 6 follow the prompt more closely"
                ),
            )
        )
    return problems


def shown(value: Any) -> str:
    """A value as a message quotes it: short, on one line, without control characters."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    text = text if len(text) <= 60 else text[:57] + "..."
    return text if text.strip() else "''"

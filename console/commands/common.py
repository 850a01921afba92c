"""Flags out of the table of parameters, for the verbs that take a request."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from console.exits import BadInput
from engine.params import (
    GROUPS,
    MODES_NOW,
    PARAMETERS,
    REQUIRED,
    ParamError,
    Parameter,
    Resolved,
    resolve,
)

F = TypeVar("F", bound=Callable[..., Any])


def source_options(function: F) -> F:
    """Where parameters come from below the flags: ``--preset`` and ``--file``."""
    file = click.option(
        *("--file", "--config", "file"),
        type=click.Path(path_type=Path),
        metavar="TOML",
        help="Parameters from a TOML file, below flags and environment.",
    )
    preset = click.option("--preset", metavar="NAME", help="quick, standard, long or high.")
    return preset(file(function))


def parameter_options(function: F) -> F:
    """Every parameter of a request as a flag, in the table's order and spelling.

    Values stay text here: ``engine.params.resolve`` gives them their type, so that a flag, an
    environment variable and a line of a file are refused with the same words.
    """
    for parameter in sorted(PARAMETERS, key=lambda p: GROUPS.index(p.group), reverse=True):
        function = option_of(parameter)(function)
    return function


def option_of(parameter: Parameter, *, hidden: bool = False) -> Callable[[F], F]:
    """The flag of one parameter; its value stays text."""
    names = [parameter.flag, *(f"--{alias}" for alias in parameter.aliases)]
    text = parameter.help
    if parameter.no_effect:
        text = f"{text} No effect: {parameter.no_effect}."
    elif parameter.default not in (None, "", False) and parameter.name != "prompt":
        text = f"{text} [default: {parameter.default}]"
    # ``--load_lora`` and ``--load_lora True`` are both the reference's.
    bare: dict[str, Any] = (
        {"is_flag": False, "flag_value": "True"} if parameter.kind == "bool" else {}
    )
    return click.option(
        *names, parameter.name, type=str, metavar=_metavar(parameter), help=text, hidden=hidden,
        **bare,
    )  # fmt: skip


def _metavar(parameter: Parameter) -> str:
    match parameter.kind:
        case "choice":
            return "|".join(parameter.choices)
        case "bool":
            return "[True|False]"
        case "size":
            return "W*H"
        case kind:
            return kind.upper()


def resolve_flags(
    flags: Mapping[str, Any],
    file: Path | None,
    preset: str | None,
    *,
    required: tuple[str, ...] = REQUIRED,
    modes: tuple[str, ...] = MODES_NOW,
) -> Resolved:
    """Flags > environment > file > preset > default.

    Args:
        required, modes: as of ``engine.params.resolve``.

    Raises:
        BadInput: with one message that names every problem.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return resolve(given, os.environ, file, preset, required=required, modes=modes)
    except ParamError as error:
        raise BadInput(str(error)) from error

"""Parameters of a generation request: the public import.

``PARAMETERS`` is the one table; ``resolve`` turns flags, environment, TOML file and preset into
a checked ``Request``; ``read_mode`` says which mode its flags mean. Parts: ``engine.parameters``.
"""

from engine.parameters.modes import ModeReading, contradictions, read_mode
from engine.parameters.parse import BadValueError, parse, parse_bytes, parse_size
from engine.parameters.presets import Preset, find_preset, presets
from engine.parameters.problems import ParamError, Problem, closest
from engine.parameters.request import DEFAULT_PROMPT, Request
from engine.parameters.resolve import REQUIRED, Resolved, resolve
from engine.parameters.table import (
    ALL_MODES,
    BY_NAME,
    GROUPS,
    MODES_NOW,
    PARAMETERS,
    Kind,
    Parameter,
    find,
)

__all__ = [
    "ALL_MODES",
    "BY_NAME",
    "DEFAULT_PROMPT",
    "GROUPS",
    "MODES_NOW",
    "PARAMETERS",
    "REQUIRED",
    "BadValueError",
    "Kind",
    "ModeReading",
    "ParamError",
    "Parameter",
    "Preset",
    "Problem",
    "Request",
    "Resolved",
    "closest",
    "contradictions",
    "find",
    "find_preset",
    "parse",
    "parse_bytes",
    "parse_size",
    "presets",
    "read_mode",
    "resolve",
]

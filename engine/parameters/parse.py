"""Text, TOML and JSON values into the type a parameter has."""

from __future__ import annotations

import math
import re
from typing import Any

from engine.parameters.problems import closest
from engine.parameters.table import Parameter
from engine.sentence import sentence

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]+)\s*[*xX×]\s*([0-9]+)")
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z-]+", re.IGNORECASE)
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class BadValueError(Exception):
    """Why a value is refused, and what would do (clauses)."""

    def __init__(self, reason: str, suggestion: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.suggestion = suggestion


def parse(parameter: Parameter, value: Any) -> Any:
    """The typed, range-checked value of ``parameter``.

    Raises:
        BadValueError: not of its type, or outside its range.
    """
    match parameter.kind:
        case "bool":
            return _bool(value)
        case "int":
            return _ranged(parameter, _int(value))
        case "float":
            return _ranged(parameter, _float(value))
        case "bytes":
            return _ranged(parameter, parse_bytes(value))
        case "size":
            width, height = parse_size(value)
            return f"{width}*{height}"
        case "choice":
            return _choice(parameter, value)
        case "gpus":
            return _gpus(value)
        case _:
            return _text(value)


def parse_size(value: Any) -> tuple[int, int]:
    """``704*384`` or ``704x384`` → (width, height).

    Raises:
        BadValueError: another form, or a side under 64 or over 8192.
    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise BadValueError(
            sentence("a size is width*height in pixels"),
            sentence("write it like 704*384 or 704x384"),
        )
    width, height = int(match[1]), int(match[2])
    if not (64 <= width <= 8192 and 64 <= height <= 8192):
        raise BadValueError(
            sentence("each side must be 64 to 8192 pixels"),
            sentence("use 384*256 for a preview, 704*384 for quality"),
        )
    return width, height


def parse_bytes(value: Any) -> int:
    """``22.15GiB``, ``500MB``, ``1000`` → bytes.

    Raises:
        BadValueError: another form.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _BYTES.fullmatch(str(value).strip())
    if match is None:
        raise BadValueError(
            sentence("not an amount of memory"), sentence("write it like 20GiB, 500MiB or 1000000")
        )
    unit = match[2].lower().removesuffix("b")
    base = 1024 if unit.endswith("i") else 1000
    factor: int = base ** _UNITS[unit.removesuffix("i")]
    return round(float(match[1]) * factor)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadValueError(sentence("not a truth value"), sentence("use True or False"))


def _int(value: Any) -> int:
    if isinstance(value, bool):
        raise BadValueError(sentence("not a whole number"))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return int(str(value).strip())
    except ValueError:
        raise BadValueError(sentence("not a whole number")) from None


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise BadValueError(sentence("not a number"))
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadValueError(sentence("not a number")) from None
    if not math.isfinite(number):
        raise BadValueError(sentence("not a finite number"))
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValueError(sentence("not a text"))
    if not value.strip():
        raise BadValueError(sentence("is empty"))
    if "\0" in value:
        raise BadValueError(sentence("contains a NUL character"))
    return value


def _choice(parameter: Parameter, value: Any) -> str:
    word = str(value).strip()
    for choice in parameter.choices:
        if word.lower() == choice.lower():
            return choice
    if parameter.name == "sample_solver":
        raise BadValueError(
            sentence(
                "the model is distilled for the Euler steps of its own schedule; another "
                "solver would need steps it was not trained for"
            ),
            sentence("leave it out or use euler"),
        )
    allowed = " or ".join(parameter.choices)
    raise BadValueError(
        sentence("must be {allowed}", allowed=allowed), closest(word, parameter.choices)
    )


def _gpus(value: Any) -> str:
    parts = [part.strip() for part in str(value).split(",")]
    if parts == ["cpu"]:
        return "cpu"
    for part in parts:
        if not (part.isdecimal() or _UUID.fullmatch(part)):
            raise BadValueError(
                sentence("devices are indices or UUIDs with commas between, or cpu"),
                sentence("write it like 0,2"),
            )
    if len(set(parts)) != len(parts):
        raise BadValueError(sentence("names a device twice"))
    return ",".join(parts)


def _ranged(parameter: Parameter, value: Any) -> Any:
    low, high, step = parameter.minimum, parameter.maximum, parameter.multiple_of
    if step and (value % step or (low is not None and value < low)):
        below = max(int(low or step), value // step * step)
        near = f"{below}" if value <= below else f"{below} or {below + step}"
        why = sentence("must be a multiple of {step}, the frames of one block", step=step)
        raise BadValueError(why, f"use {near}")
    if low is not None and value < low:
        raise BadValueError(_low_text(parameter))
    if high is not None and value > high:
        limit = f"{high:g}" if high < 1e9 else str(int(high))
        raise BadValueError(sentence("must be at most {limit}", limit=limit))
    return value


def _low_text(parameter: Parameter) -> str:
    low = parameter.minimum or 0
    if low > 1:
        told = f"{int(low) >> 20} MiB" if parameter.kind == "bytes" else f"{low:g}"
        return sentence("must be at least {told}", told=told)
    if parameter.kind == "float" and low:
        return sentence("must be above 0")
    return sentence("must be {low:g} or more", low=low)

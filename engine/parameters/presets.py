"""Presets: named sets of values for the common purposes, and those of one's own.

One's own lie in ``presets.toml``, a table each:

    [lecture]
    purpose = "an hour of talking"
    size = "688*368"
    num_clip = 1800
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import platformdirs

from engine.geometry import DEFAULT_FPS, predicted_frames
from engine.parameters.problems import ParamError, Problem, closest
from engine.parameters.request import DEFAULTS
from engine.sentence import sentence


@dataclass(frozen=True)
class Preset:
    """A name, what it is for, and the values it sets (below flags, environment and file)."""

    name: str
    purpose: str
    values: Mapping[str, Any]

    @property
    def predicted_frames(self) -> int:
        """Frames if the audio lasts as long as the clips asked for."""
        clips = int(self.values["num_clip"])
        return predicted_frames(clips, clips, DEFAULTS["infer_frames"])

    @property
    def predicted_seconds(self) -> float:
        """Length at 25 fps if the audio lasts; the articles count the same frames at 16 fps."""
        return self.predicted_frames / DEFAULT_FPS


def _preset(name: str, purpose: str, **values: Any) -> Preset:
    return Preset(name, purpose, MappingProxyType(values))


_PRESETS = (
    _preset(
        "quick",
        sentence("see at once how inputs work out"),
        size="384*256",
        num_clip=10,
        sample_steps=3,
    ),
    _preset(
        "standard", sentence("a presentable video"), size="688*368", num_clip=100, sample_steps=4
    ),
    _preset(
        "long",
        sentence("lectures and courses"),
        size="688*368",
        num_clip=1000,
        sample_steps=4,
        enable_online_decode=True,
    ),
    _preset(
        "high",
        sentence("the highest resolution of the articles"),
        size="704*384",
        num_clip=50,
        sample_steps=4,
    ),
)


#: What every preset says, so that length and time can be told of it.
_ALWAYS: Final = ("size", "num_clip", "sample_steps")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_LARGEST: Final = 1 << 20


def presets_file(env: Mapping[str, str] | None = None) -> Path:
    """``AVATOP_PRESETS_FILE``, else ``presets.toml`` in the configuration folder of avatop."""
    named = (os.environ if env is None else env).get("AVATOP_PRESETS_FILE")
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_config_path("avatop") / "presets.toml"


def presets() -> tuple[Preset, ...]:
    """All presets, the quickest shipped one first, then one's own by name."""
    return (*_PRESETS, *own_presets(presets_file())[0])


def own_presets(file: Path) -> tuple[list[Preset], list[str]]:
    """Presets of a file, and sentences about what is wrong in it and left out."""
    try:
        tables = _tables(file)
    except (OSError, ValueError) as error:
        return [], [sentence("{file} cannot be read: {error}", file=file, error=error)]
    found: list[Preset] = []
    problems: list[str] = []
    for name, table in tables.items():
        try:
            found.append(_checked(name, table))
        except ParamError as error:
            problems.append(
                sentence("preset {name} in {file}: {error}", name=name, file=file.name, error=error)
            )
    return sorted(found, key=lambda preset: preset.name), problems


def save_preset(name: str, purpose: str, values: Mapping[str, Any], file: Path) -> Preset:
    """Add a preset of one's own, or replace it; the other tables stay.

    Raises:
        ParamError: a name that is taken or no name, values that are refused.
        OSError, ValueError: the file cannot be read or written.
    """
    preset = _checked(name.strip().lower(), {**values, "purpose": purpose})
    tables = _tables(file)
    tables[preset.name] = {"purpose": preset.purpose, **preset.values}
    lines = [
        "\n".join([f"[{title}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""])
        for title, table in tables.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text("\n".join(lines), encoding="utf-8")
    fresh.replace(file)
    return preset


def _tables(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        return {}
    if len(raw) > _LARGEST:
        raise ValueError(sentence("it is over 1 MiB, no file of presets"))
    return tomllib.loads(raw.decode())


def _checked(name: str, table: Any) -> Preset:
    """A preset whose values are parameters with values that can be.

    Raises:
        ParamError: every problem found.
    """
    from engine.parameters.parse import BadValueError, parse
    from engine.parameters.table import BY_NAME

    if _NAME.fullmatch(name) is None:
        why = sentence("is no name of a preset")
        raise ParamError([Problem("preset", name, why, sentence("use a-z, 0-9, - and _"))])
    if name in {preset.name for preset in _PRESETS}:
        raise ParamError(
            [
                Problem(
                    "preset", name, sentence("is a shipped preset"), sentence("choose another name")
                )
            ]
        )
    if not isinstance(table, dict):
        raise ParamError([Problem("preset", name, sentence("is not a table"))])
    values: dict[str, Any] = {key: DEFAULTS[key] for key in _ALWAYS}
    problems: list[Problem] = []
    for key, value in table.items():
        parameter = BY_NAME.get(key)
        if key == "purpose":
            continue
        if parameter is None or key not in DEFAULTS:
            problems.append(
                Problem(key, None, sentence("is not a parameter"), closest(key, BY_NAME))
            )
            continue
        try:
            values[key] = parse(parameter, value)
        except BadValueError as error:
            problems.append(Problem(key, str(value)[:60], error.reason, error.suggestion))
    if problems:
        raise ParamError(problems)
    return _preset(name, str(table.get("purpose", "")), **values)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    return json.dumps("".join(c if c.isprintable() else " " for c in value), ensure_ascii=False)


def find_preset(name: str) -> Preset:
    """Raises ``ParamError`` for an unknown name."""
    known = presets()
    for preset in known:
        if preset.name == name.strip().lower():
            return preset
    names = [preset.name for preset in known]
    advice = closest(name, names) or sentence(
        "use {names} or {last}", names=names[:-1], last=names[-1]
    )
    raise ParamError([Problem("--preset", name, sentence("is not a preset"), advice)])

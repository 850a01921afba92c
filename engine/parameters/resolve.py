"""From flags, environment, TOML file and preset to one checked request."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engine.parameters.modes import contradictions, read_mode
from engine.parameters.parse import BadValueError, parse
from engine.parameters.presets import Preset, find_preset
from engine.parameters.problems import ParamError, Problem, closest
from engine.parameters.request import DEFAULTS, Request
from engine.parameters.table import MODES_NOW, PARAMETERS, SPELLINGS, Parameter, find
from engine.parameters.validate import refusals, shown
from engine.sentence import sentence

#: Inputs without which there is no job.
REQUIRED = ("image", "audio", "ckpt_dir")
#: Where the reference takes its LoRA from.
DEFAULT_LORA = "Quark-Vision/Live-Avatar"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MAX_TOML = 1 << 20


@dataclass(frozen=True)
class Resolved:
    """A request and where each value came from.

    ``sources`` maps every parameter to ``flag``, ``environment NAME``, ``file NAME``,
    ``preset NAME`` or ``default``. ``remarks`` are sentences for the user.
    """

    request: Request
    sources: Mapping[str, str]
    remarks: tuple[str, ...]
    preset: str | None = None


@dataclass(frozen=True)
class _Given:
    value: Any
    source: str
    label: str  # how a message names it
    base: Path  # what relative paths are relative to


def resolve(
    flags: Mapping[str, Any],
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
    preset: str | None = None,
    *,
    required: tuple[str, ...] = REQUIRED,
    check_paths: bool = True,
    modes: tuple[str, ...] = MODES_NOW,
    cwd: Path | None = None,
) -> Resolved:
    """One request out of all sources; flag > environment > file > preset > default.

    Args:
        flags: name (any spelling) → text or typed value; ``None`` means not given.
        env: the environment, or ``None`` for none.
        file: a TOML file with parameters as top-level keys and, if wanted, ``preset``.
        required: parameters that must be given. check_paths: inputs must exist.
        modes: modes that may be asked for. cwd: base of relative flag and environment paths.

    Raises:
        ParamError: every problem found, each naming the value where its writer put it.
    """
    here = cwd or Path.cwd()
    env = env or {}
    problems: list[Problem] = []
    remarks: list[str] = []
    from_flags = _read_flags(flags, here, problems)
    from_env = _read_env(env, here, set(from_flags), problems, remarks)
    from_file, file_preset = _read_file(file, problems) if file else ({}, None)
    chosen = _choose_preset(preset or env.get("AVATOP_PRESET") or file_preset, problems)
    from_preset = _read_preset(chosen, here)

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    labels: dict[str, str] = {}
    for parameter in PARAMETERS:
        name = parameter.name
        layers = (from_flags, from_env, from_file, from_preset)
        given = next((layer[name] for layer in layers if name in layer), None)
        sources[name] = given.source if given else "default"
        labels[name] = given.label if given else parameter.flag
        if given is None:
            continue
        try:
            value = parse(parameter, given.value)
            if parameter.kind in ("path", "file"):
                value = _path(parameter, value, given.base, check_paths)
        except BadValueError as error:
            problems.append(
                Problem(given.label, shown(given.value), error.reason, error.suggestion)
            )
            continue
        if parameter.no_effect:
            remarks.append(
                sentence(
                    "{flag} has no effect: {no_effect}.",
                    flag=parameter.flag,
                    no_effect=parameter.no_effect,
                )
            )
        else:
            values[name] = value
    if "command" in values or "profile" in values:
        required = ()  # what a program needs is seen from its placeholders
        values.setdefault("workdir", str(here))
    refused = {problem.parameter for problem in problems}
    problems += [
        _missing(name) for name in required if name not in values and labels[name] not in refused
    ]
    if problems:
        raise ParamError(problems)

    request = _with_lora(Request(**values), remarks)
    problems = refusals(request) + contradictions(request)
    if problems:
        raise ParamError(problems)
    read_mode(request, available=modes)
    remarks = _source_remarks(sources) + remarks + _effect_remarks(request, sources)
    return Resolved(request, sources, tuple(remarks), chosen.name if chosen else None)


def _read_flags(flags: Mapping[str, Any], here: Path, problems: list[Problem]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for spelling, value in flags.items():
        if value is None:
            continue
        parameter = find(spelling)
        if parameter is None:
            bare = spelling.lstrip("-").replace("-", "_")
            problems.append(
                Problem(f"--{bare}", None, sentence("is not a flag"), closest(bare, SPELLINGS))
            )
            continue
        known = given.get(parameter.name)
        if known is not None and str(known.value) != str(value):
            problems.append(
                Problem(
                    f"{known.label} and --{spelling.lstrip('-')}",
                    None,
                    sentence(
                        "are the same parameter with different values, {value} and {other}",
                        value=shown(known.value),
                        other=shown(value),
                    ),
                    sentence("give it once"),
                )
            )
        given[parameter.name] = _Given(value, "flag", parameter.flag, here)
    return given


def _read_env(
    env: Mapping[str, str],
    here: Path,
    decided: set[str],
    problems: list[Problem],
    remarks: list[str],
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for parameter in PARAMETERS:
        own, *others = parameter.env_names
        # An empty variable is an unset one: shells have no other way to clear an export.
        found = [(name, env[name]) for name in others if env.get(name, "").strip()]
        if env.get(own, "").strip():
            found = [(own, env[own])]
        if not found or parameter.name in decided:
            continue
        if len({_comparable(parameter, value) for _, value in found}) > 1:
            said = " and ".join(f"{name}={shown(value)}" for name, value in found)
            problems.append(
                Problem(
                    said,
                    None,
                    sentence("both mean {name} and differ", name=parameter.name),
                    sentence("unset one of them"),
                )
            )
            continue
        name, value = found[0]
        given[parameter.name] = _Given(value, f"environment {name}", name, here)
    names = {name for parameter in PARAMETERS for name in parameter.env_names}
    other = {"AVATOP_PRESET", "AVATOP_GOLDEN"}
    other |= {f"AVATOP_{place}_DIR" for place in ("STATE", "CACHE", "LEASE", "MIRROR")}
    for name in sorted(env):
        if name.startswith("AVATOP_") and name not in names | other:
            near = get_close_matches(name, sorted(names), n=1, cutoff=0.8)
            if near:
                remarks.append(
                    sentence(
                        "{name} is no parameter and was ignored; {near} is one.",
                        name=name,
                        near=near[0],
                    )
                )
    return given


def _comparable(parameter: Parameter, value: str) -> str:
    try:
        return str(parse(parameter, value))
    except BadValueError:
        return value


def _read_file(path: Path, problems: list[Problem]) -> tuple[dict[str, _Given], str | None]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_TOML + 1)
        if len(raw) > _MAX_TOML:
            raise ParamError(
                [Problem(str(path), None, sentence("is over 1 MiB, no parameter file"))]
            )
        data = tomllib.loads(raw.decode())
    except OSError as error:
        reason = sentence("cannot be read, {strerror}", strerror=error.strerror or error)
        raise ParamError([Problem(str(path), None, reason)]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParamError(
            [Problem(str(path), None, sentence("is not valid TOML, {error}", error=error))]
        ) from error
    given: dict[str, _Given] = {}
    preset = data.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        problems.append(
            Problem(
                sentence("preset in {name}", name=path.name),
                shown(preset),
                sentence("is not a text"),
            )
        )
        preset = None
    for key, value in data.items():
        parameter = find(key)
        label = f"{key} in {path.name}"
        if parameter is None:
            problems.append(
                Problem(
                    label,
                    None,
                    sentence("is not a parameter"),
                    closest(key, [*SPELLINGS, "preset"]),
                )
            )
        else:
            source = f"file {path.name}"
            given[parameter.name] = _Given(value, source, label, path.resolve().parent)
    return given, preset


def _choose_preset(name: str | None, problems: list[Problem]) -> Preset | None:
    if not name:
        return None
    try:
        return find_preset(name)
    except ParamError as error:
        problems.extend(error.problems)
        return None


def _read_preset(preset: Preset | None, here: Path) -> dict[str, _Given]:
    if preset is None:
        return {}
    label = f"preset {preset.name}"
    return {name: _Given(value, label, label, here) for name, value in preset.values.items()}


def _path(parameter: Parameter, value: str, base: Path, check: bool) -> str:
    """Absolute, or a Hub id as it is where one is accepted and nothing local has its name."""
    try:
        path = Path(os.path.abspath(base / Path(value).expanduser()))  # noqa: PTH100 (no symlinks)
        exists = path.exists()
    except (OSError, RuntimeError) as error:
        raise BadValueError(sentence("cannot be looked up, {error}", error=error)) from error
    if parameter.hub and not exists and _HUB_ID.fullmatch(value):
        return value
    if parameter.name == "output":
        return _output(path, value)
    if parameter.name == "dump_latents":
        if path.suffix != ".safetensors":
            raise BadValueError(
                sentence("latents are written as .safetensors"), sentence("name the file so")
            )
        return str(path)
    if not check:
        return str(path)
    if not exists:
        raise BadValueError(sentence("does not exist"), _hint(path))
    if parameter.kind == "file" and not path.is_file():
        raise BadValueError(sentence("is not a file"))
    if parameter.name == "ckpt_dir" and not path.is_dir():
        raise BadValueError(
            sentence("is not a folder"), sentence("name the folder that holds the checkpoint")
        )
    if not os.access(path, os.R_OK):
        raise BadValueError(
            sentence("may not be read by this user"), sentence("check its permissions")
        )
    return str(path)


def _output(path: Path, value: str) -> str:
    if path.is_dir() or value.endswith("/"):
        return str(path) + "/"
    if path.suffix.lower() != ".mp4":
        raise BadValueError(
            sentence("the output is an .mp4 file or an existing folder"), sentence("end it in .mp4")
        )
    parent = next(p for p in path.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BadValueError(
            sentence("{parent} cannot be written to", parent=parent),
            sentence("choose another folder"),
        )
    return str(path)


def _hint(path: Path) -> str:
    """A near name in the same folder, or the first folder on the way that is missing."""
    parent = path.parent
    if not parent.is_dir():
        missing = next(p for p in reversed(path.parents) if not p.exists())
        return sentence("its folder {missing} does not exist either", missing=missing)
    try:
        names = [entry.name for _, entry in zip(range(1000), parent.iterdir(), strict=False)]
    except OSError:
        return ""
    return closest(path.name, names)


def _missing(name: str) -> Problem:
    parameter = find(name)
    assert parameter is not None
    names = " or ".join(parameter.env_names[1:] or parameter.env_names)
    return Problem(
        parameter.flag,
        None,
        sentence("is required"),
        sentence("give the flag or set {names}; `avatop demo` has all", names=names),
    )


def _with_lora(request: Request, remarks: list[str]) -> Request:
    if request.load_lora and request.lora_path_dmd is None:
        remarks.append(
            sentence(
                "load_lora without lora_path_dmd reads {default_lora}.", default_lora=DEFAULT_LORA
            )
        )
        values = {**request.to_dict(), "lora_path_dmd": DEFAULT_LORA}
        return Request(**values)
    if request.lora_path_dmd is not None and not request.load_lora:
        remarks.append(sentence("lora_path_dmd has no effect without load_lora; add --load_lora."))
    return request


def _source_remarks(sources: Mapping[str, str]) -> list[str]:
    pairs = [
        f"{name} ({source.removeprefix('environment ')})"
        for name, source in sources.items()
        if source.startswith("environment ")
    ]
    return (
        [sentence("Taken from the environment: {pairs}.", pairs=", ".join(pairs))] if pairs else []
    )


def _effect_remarks(request: Request, sources: Mapping[str, str]) -> list[str]:
    remarks: list[str] = []
    asked = sources["enable_online_decode"]
    if asked != "default" and not asked.startswith("preset"):
        remarks.append(
            sentence(
                "enable_online_decode has no effect: every block is decoded as soon as it is done."
            )
        )
    if sources["prompt"] == "default":
        remarks.append(
            sentence(
                'No prompt was given; the default is used: "{prompt}"', prompt=DEFAULTS["prompt"]
            )
        )
    if request.dtype == "fp32" and request.gpus != "cpu":
        remarks.append(sentence("dtype fp32 takes twice the memory of bf16."))
    return remarks

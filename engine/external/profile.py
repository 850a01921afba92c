"""Profiles: how a program of others is called, as data.

Shipped ones lie in ``profiles/``, a user's own in the ``profiles`` folder of avatop's
configuration; a user's takes the place of a shipped one of the same name. docs/external.md
describes the keys.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import platformdirs

from engine.parameters.problems import ParamError, Problem, closest
from engine.sentence import sentence

SHIPPED: Final = Path(__file__).parent / "profiles"
#: How tqdm counts; other bars are a profile's to describe.
TQDM: Final = r"(?P<done>\d+)/(?P<total>\d+) \["
_MAX_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class Profile:
    """One way to call a program.

    ``argv`` and the values of ``env`` hold placeholders (``engine.external.fill``). ``gpus`` is how
    many it takes, None: those that were chosen. ``collect`` finds the video where the program does
    not write to ``{output}``: a pattern relative to ``workdir``, the newest file wins. ``progress``
    is a regular expression with the groups ``done`` and ``total``.
    """

    name: str
    argv: tuple[str, ...]
    summary: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    gpus: int | None = None
    collect: str | None = None
    progress: str | None = None
    ready: str | None = None  # a line that matches says that the program has loaded
    stop: tuple[str, ...] = ()  # a command that ends what a signal does not reach (a container)


def from_command(command: str) -> Profile:
    """The profile of a command line as typed; words are split as a shell would, none is run.

    Raises:
        ParamError: quotes that do not close, or nothing to run.
    """
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise ParamError(
            [
                Problem(
                    "--command", None, sentence("cannot be split into words, {error}", error=error)
                )
            ]
        ) from error
    if not words:
        raise ParamError([Problem("--command", "''", sentence("names no program"))])
    return Profile("command", words, progress=TQDM)


def folders() -> tuple[Path, ...]:
    """Where profiles are looked for, the first wins."""
    return platformdirs.user_config_path("avatop") / "profiles", SHIPPED


def names(places: Iterable[Path] | None = None) -> list[str]:
    """Every profile there is, by name."""
    found = {f.stem for place in places or folders() for f in place.glob("*.toml")}
    return sorted(found)


def load(name: str, places: Iterable[Path] | None = None) -> Profile:
    """A profile by its name, or by the path of its file.

    Raises:
        ParamError: there is none of that name, or the file is not one.
    """
    places = tuple(places or folders())
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        paths = [place / f"{name}.toml" for place in places]
        path = next((p for p in paths if p.is_file()), paths[-1])
    if not path.is_file():
        known = names(places)
        hint = closest(name, known) or sentence("there are {known}", known=", ".join(known))
        raise ParamError([Problem("--profile", name, sentence("is no profile"), hint)])
    return _read(path)


def _read(path: Path) -> Profile:
    def refuse(reason: str, hint: str = "") -> ParamError:
        return ParamError([Problem(f"profile {path}", None, reason, hint)])

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise refuse(sentence("is over 256 KiB, no profile"))
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise refuse(sentence("cannot be read, {error}", error=error)) from error
    kinds = {f.name for f in fields(Profile)} - {"name"}
    for key in data:
        if key not in kinds:
            raise refuse(sentence("has an unknown key {key}", key=key), closest(key, kinds))
    _words(data, "argv", refuse)
    _words(data, "stop", refuse)
    if not data.get("argv"):
        raise refuse(sentence("has no argv"), sentence('write argv = ["program", "{{image}}", …]'))
    env = data.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
        raise refuse(sentence("env is a table of texts"))
    gpus = data.get("gpus")
    if gpus is not None and (not isinstance(gpus, int) or isinstance(gpus, bool) or gpus < 0):
        raise refuse(sentence("gpus is a whole number, 0 or more"))
    for key in ("progress", "ready"):
        _pattern(data, key, refuse)
    return Profile(**{"name": path.stem, **data})


def _words(data: dict[str, Any], key: str, refuse: Any) -> None:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise refuse(sentence("{key} is a list of texts", key=key))
    data[key] = tuple(value)


def _pattern(data: Mapping[str, Any], key: str, refuse: Any) -> None:
    value = data.get(key)
    if value is None:
        return
    try:
        groups = re.compile(value).groupindex
    except (re.error, TypeError) as error:
        raise refuse(
            sentence("{key} is no regular expression, {error}", key=key, error=error)
        ) from error
    if key == "progress" and not {"done", "total"} <= set(groups):
        raise refuse(
            sentence("progress needs the groups done and total"), "(?P<done>…) and (?P<total>…)"
        )

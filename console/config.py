"""The console's configuration: one TOML file of a person's own, all of it optional.

    theme = "signature"            # a shipped theme, one's own, or a path
    lang = "zh_CN"
    mouse = false                  # the terminal's own selection instead
    [keys.app]                     # scope, then the action's name in the help
    messages = ["f2", "M"]
    [thresholds]
    temperature_margin = 3.0

What is wrong in it is told by name and left out; the console opens with the rest.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Final

from engine.plain import Plain, late_dataclass

#: Environment variable that names another file.
VARIABLE: Final = "AVATOP_CONFIG"
_TOP: Final = ("theme", "lang", "mouse", "keys", "thresholds")


@late_dataclass(frozen=True)
class Thresholds(Plain):
    """From where on the console draws a thing as worth watching.

    Args:
        memory_over_plan: percent above the plan's peak.
        temperature_margin: degrees Celsius below the device's limit.
        bottleneck: percent that the slowest stage takes longer than the fastest.
        host_memory: percent of the host's memory in use.
    """

    memory_over_plan: float = 2.0
    temperature_margin: float = 3.0
    bottleneck: float = 2.0
    host_memory: float = 90.0


@late_dataclass(frozen=True)
class Config(Plain):
    """What the file says, checked.

    Args:
        theme: name or path. lang: language. mouse: whether the console takes it; read at its start.
        keys: action id → Textual key names.
        problems: sentences about what was wrong and is left out.
    """

    theme: str | None = None
    lang: str | None = None
    mouse: bool = True
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    problems: tuple[str, ...] = ()


def folder() -> Path:
    """A person's own folder: ``config.toml``, ``themes/``, ``alerts.toml``."""
    import platformdirs

    return platformdirs.user_config_path("avatop")


def place(environ: Mapping[str, str]) -> Path:
    """The file that is read, whether or not it exists."""
    named = environ.get(VARIABLE)
    return Path(named) if named else folder() / "config.toml"


def load(file: Path) -> Config:
    """Read and check the file; one that does not exist is empty."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return Config(problems=(f"{file} cannot be read: {error}.",))
    return check(data)


def check(data: Mapping[str, Any]) -> Config:
    """What of a parsed file holds, and sentences about the rest."""
    problems = [_unknown(f"{name!r}", name, _TOP) for name in data if name not in _TOP]
    theme, lang = (_text(data, name, problems) for name in ("theme", "lang"))
    if theme is not None:
        problem = _theme(theme)
        if problem:
            problems.append(problem)
            theme = None
    if lang is not None:
        from console.i18n import LANGUAGES, known

        if known(lang) is None:
            problems.append(f"lang: there is no language {lang!r}; {_one_of(LANGUAGES)}.")
            lang = None
    mouse = data.get("mouse", True)
    if not isinstance(mouse, bool):
        problems.append(f"mouse: true or false is needed, not {mouse!r}.")
        mouse = True
    keys = _keys(data.get("keys", {}), problems)
    thresholds = _thresholds(data.get("thresholds", {}), problems)
    return Config(theme, lang, mouse, keys, thresholds, tuple(problems))


def _text(data: Mapping[str, Any], name: str, problems: list[str]) -> str | None:
    value = data.get(name)
    if value is None or isinstance(value, str):
        return value
    problems.append(f"{name}: a text in quotes is needed, not {value!r}.")
    return None


def _theme(name: str) -> str | None:
    from console import theme as themes

    try:
        themes.load(name)
    except themes.ThemeError as error:
        return f"theme: {error}"
    return None


def _thresholds(table: Any, problems: list[str]) -> Thresholds:
    if not isinstance(table, dict):
        problems.append("thresholds: a table of numbers is needed.")
        return Thresholds()
    known = [entry.name for entry in fields(Thresholds)]
    taken: dict[str, float] = {}
    for name, value in table.items():
        if name not in known:
            problems.append(_unknown(f"thresholds.{name}", name, known))
        elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            problems.append(f"thresholds.{name}: a number from 0 on is needed, not {value!r}.")
        else:
            taken[name] = float(value)
    return Thresholds(**taken)


def _keys(table: Any, problems: list[str]) -> dict[str, tuple[str, ...]]:
    from console import actions

    if not isinstance(table, dict):
        problems.append("keys: tables such as [keys.app] are needed.")
        return {}
    by_id = {action.id: action for action in actions.ACTIONS}
    taken: dict[str, tuple[str, ...]] = {}
    for scope, entries in table.items():
        if scope not in actions.SCOPES:
            problems.append(_unknown(f"keys.{scope}", scope, actions.SCOPES))
            continue
        if not isinstance(entries, dict):
            problems.append(f"keys.{scope}: a table is needed, e.g. [keys.{scope}].")
            continue
        for name, given in entries.items():
            wanted = [given] if isinstance(given, str) else given
            id_ = f"{scope}.{name}"
            if id_ not in by_id:
                names = [a.id.partition(".")[2] for a in actions.in_scope(scope)]
                problems.append(_unknown(f"keys.{id_}", name, names))
            elif (
                not isinstance(wanted, list)
                or not wanted
                or not all(isinstance(key, str) and key for key in wanted)
            ):
                problems.append(f"keys.{id_}: a key or a list of keys is needed, not {given!r}.")
            else:
                taken[id_] = tuple(actions.named(key) for key in wanted)
    return _without_clashes(taken, problems)


def _without_clashes(
    taken: dict[str, tuple[str, ...]], problems: list[str]
) -> dict[str, tuple[str, ...]]:
    """A key does one thing in a scope, and a page takes none from what works everywhere; a
    changed one that clashes is left out."""
    while (found := _clash(taken)) is not None:
        id_, key, other = found
        inner = other.partition(".")[0] != id_.partition(".")[0]
        where = ", which works everywhere" if inner else " already"
        problems.append(f"keys.{id_}: {key} is {other}{where}.")
        del taken[id_]
    return taken


def _clash(taken: Mapping[str, tuple[str, ...]]) -> tuple[str, str, str] | None:
    """A changed action, one of its keys, and the action that has this key; None: all is well.

    The registry's own keys may hide what works everywhere (``q`` leaves the history's view), also
    where a person gave that one another key.
    """
    from console import actions

    keymap = actions.Keymap(taken)
    for action in (action for action in actions.ACTIONS if action.id in taken):
        for other in actions.ACTIONS:
            same = other.scope == action.scope
            if other is action or not (same or other.scope == "app"):
                continue
            new = set(keymap.keys(action)) - (set() if same else set(action.keys))
            if shared := new & set(keymap.keys(other)):
                return action.id, actions.shown(min(shared)), other.id
    return None


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"{what} is not known; {f'did you mean {near[0]!r}?' if near else _one_of(known) + '.'}"


def _one_of(known: Iterable[str]) -> str:
    return f"known are {', '.join(known)}"

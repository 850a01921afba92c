"""Rules out of TOML: the file that ships with avatop, and the user's on top of it."""

from __future__ import annotations

import difflib
import re
import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from engine.alerts.expr import Condition, ExprError, Window, parse, scope_of, terms
from engine.alerts.measures import MEASURES
from engine.alerts.units import duration_seconds, duration_text

SEVERITIES: Final = ("info", "warning", "critical")
FIELDS: Final = (
    "id",
    "when",
    "for",
    "clear",
    "clear_for",
    "severity",
    "message",
    "labels",
    "enabled",
    "remind",
    "remedies",
)
#: What a message may name in braces.
SLOTS: Final = ("device", "gpu", "job", "host", "value", "threshold", "for", "rule")
DEFAULTS_NAME: Final = "the rules that ship with avatop"
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class RuleError(ValueError):
    """A rules file that cannot be used. ``problems`` holds one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Rule:
    """One rule. Durations in seconds; ``clear`` None means: when the condition no longer holds."""

    id: str
    when: str
    condition: Condition = field(repr=False)
    scope: str
    for_seconds: float = 0.0
    clear: str | None = None
    clear_condition: Condition | None = field(default=None, repr=False)
    clear_for_seconds: float = 0.0
    severity: str = "warning"
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True
    remind_seconds: float | None = None
    unit: str = ""
    remedies: tuple[str, ...] = ()  # ids of triage's remedies

    def to_dict(self) -> dict[str, Any]:
        """As it would stand in a file."""
        return {
            "id": self.id,
            "when": self.when,
            "for": duration_text(self.for_seconds),
            "clear": self.clear,
            "clear_for": duration_text(self.clear_for_seconds),
            "severity": self.severity,
            "message": self.message,
            "labels": dict(self.labels),
            "enabled": self.enabled,
            "remind": None if self.remind_seconds is None else duration_text(self.remind_seconds),
            "remedies": list(self.remedies),
            "scope": self.scope,
        }


def defaults_text() -> str:
    """The file that ships."""
    return (files("engine.alerts") / "defaults.toml").read_text(encoding="utf-8")


def load_rules(user: Path | None) -> tuple[Rule, ...]:
    """The rules in force: the defaults, each overridden by the user's of the same ``id``.

    A user's rule that names a known ``id`` need only say what differs, e.g. ``enabled = false``.

    Raises:
        RuleError: every problem of the user's file, each with the rule it is in.
    """
    bodies = _bodies(tomllib.loads(defaults_text()), DEFAULTS_NAME)
    if user is not None:
        table = read_toml(user)
        problems: list[str] = []
        for name, body in _bodies(table, user.name).items():
            bodies[name] = {**bodies.get(name, {}), **body}
            if "when" in body:  # another condition: the old way back does not belong to it
                bodies[name]["clear"] = body.get("clear")
        unknown = set(table) - {"rule", "notify"}
        problems += [f"{user.name}: unknown table [{word}]" for word in sorted(unknown)]
        if problems:
            raise RuleError(problems)
    return build(bodies)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; an absent one is empty.

    Raises:
        RuleError: unreadable, or not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RuleError([f"{path}: {error.strerror or error}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError([f"{path}: not TOML: {error}"]) from error


def build(bodies: Mapping[str, Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Rules out of tables.

    Raises:
        RuleError: with every problem.
    """
    rules, problems = [], []
    for name, body in bodies.items():
        found, wrong = _rule(name, body)
        problems += [f"rule {name}: {text}" for text in wrong]
        if found is not None:
            rules.append(found)
    if problems:
        raise RuleError(problems)
    return tuple(rules)


def _bodies(table: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    entries = table.get("rule", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise RuleError([f"{where}: rules are written as [[rule]] tables"])
    for number, body in enumerate(entries, 1):
        name = body.get("id")
        if not isinstance(name, str) or _ID.fullmatch(name) is None:
            raise RuleError(
                [f"{where}: rule {number} needs an id of small letters, figures and hyphens"]
            )
        if name in found:
            raise RuleError([f"{where}: two rules are called {name}"])
        found[name] = body
    return found


def _rule(name: str, body: Mapping[str, Any]) -> tuple[Rule | None, list[str]]:
    wrong = []
    for word in set(body) - set(FIELDS):
        near = difflib.get_close_matches(word, FIELDS, 1)
        wrong.append(f"unknown field {word!r}" + (f"; did you mean {near[0]}?" if near else ""))
    times = {}
    for word, default in (("for", "0s"), ("clear_for", "0s"), ("remind", None)):
        text = body.get(word, default)
        seconds = duration_seconds(text) if isinstance(text, str) else None
        if seconds is None and text is not None:
            wrong.append(f'{word}: {text!r} is no duration such as "2m" or "90s"')
        times[word] = seconds
    severity = body.get("severity", "warning")
    if severity not in SEVERITIES:
        wrong.append(f"severity: {severity!r} is none of {', '.join(SEVERITIES)}")
    labels = body.get("labels", {})
    if not isinstance(labels, dict) or not all(
        _LABEL.fullmatch(k) and isinstance(v, str) for k, v in labels.items()
    ):
        wrong.append("labels: a table of words, e.g. { team = 'video' }")
        labels = {}
    remedies = body.get("remedies", [])
    if not isinstance(remedies, list) or not all(isinstance(name, str) for name in remedies):
        wrong.append("remedies: a list of names, e.g. ['kill_holder']")
        remedies = []
    enabled = body.get("enabled", True)
    if not isinstance(enabled, bool):
        wrong.append("enabled: true or false")
    message = body.get("message", "")
    wrong += _slots(message)
    condition, scope, said = _condition("when", body.get("when"))
    wrong += said
    clear_condition = None
    if body.get("clear") is not None:
        clear_condition, clear_scope, said = _condition("clear", body["clear"])
        wrong += said
        if not said and scope and clear_scope not in (scope, "host"):
            wrong.append(f"clear is about each {clear_scope}, when about each {scope}")
    if wrong or condition is None:
        return None, wrong
    units = {MEASURES[leaf.name].unit for leaf in terms(condition)}
    return (
        Rule(
            id=name,
            when=body["when"],
            condition=condition,
            scope=scope,
            for_seconds=times["for"] or 0.0,
            clear=body.get("clear"),
            clear_condition=clear_condition,
            clear_for_seconds=times["clear_for"] or 0.0,
            severity=severity,
            message=message or body["when"],
            labels=dict(labels),
            enabled=enabled,
            remind_seconds=times["remind"],
            remedies=tuple(remedies),
            unit=units.pop() if len(units) == 1 else "",
        ),
        [],
    )


def _condition(word: str, text: Any) -> tuple[Condition | None, str, list[str]]:
    if not isinstance(text, str) or not text.strip():
        return None, "", [f'{word}: a condition is needed, e.g. "memory_percent > 90"']
    try:
        condition = parse(text)
        return condition, scope_of(condition), []
    except ExprError as error:
        return None, "", [f"{word}: {error} (in {text!r})"]


def _slots(message: Any) -> list[str]:
    if not isinstance(message, str):
        return ["message: a text"]
    try:
        names = [(name, form) for _, name, form, _ in string.Formatter().parse(message)]
    except ValueError as error:
        return [f"message: {error}"]
    return [
        f"message: {{{name}}} is none of {', '.join(SLOTS)}"
        for name, form in names
        if name is not None and (name not in SLOTS or form)
    ]


def widest_windows(rules: Iterable[Rule]) -> dict[str, float]:
    """Measurement → the widest window that a rule in force looks back on."""
    widest: dict[str, float] = {}
    for rule in rules:
        for condition in (rule.condition, rule.clear_condition):
            for leaf in terms(condition) if condition is not None else ():
                if isinstance(leaf, Window) and rule.enabled:
                    widest[leaf.name] = max(widest.get(leaf.name, 0.0), leaf.seconds)
    return widest

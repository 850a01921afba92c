"""Who is told: targets out of the ``[notify]`` table. An address is a secret: it is only ever
named by the environment variable or the file that holds it.

    [notify]
    group_wait = "10s"      # alerts that come together are told together
    max_per_hour = 30       # per target; what is over is told in one summary

    [[notify.target]]
    name = "ops"
    url_env = "AVATOP_WECOM_URL"      # or url_file = "/run/secrets/wecom"
    severity = "warning"              # this and graver
    resolved = true
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.alerts.rules import SEVERITIES, RuleError
from engine.alerts.units import duration_seconds

_TARGET_FIELDS: Final = frozenset({"name", "url_env", "url_file", "severity", "resolved"})
_NOTIFY_FIELDS: Final = frozenset({"target", "group_wait", "max_per_hour", "retries"})
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


class SecretError(RuntimeError):
    """An address that is not where the configuration says. Never contains the address."""


@dataclass(frozen=True)
class Target:
    """One place to tell. Holds no secret: ``address`` fetches it when it is needed."""

    name: str
    url_env: str | None = None
    url_file: Path | None = None
    severity: str = "warning"
    resolved: bool = True

    def wants(self, severity: str) -> bool:
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)

    def address(self, env: Mapping[str, str] | None = None) -> Secret:
        """The address.

        Raises:
            SecretError: the variable or the file is not there, empty, or open to others.
        """
        if self.url_env is not None:
            text = (os.environ if env is None else env).get(self.url_env, "").strip()
            if not text:
                raise SecretError(f"the environment variable {self.url_env} is not set")
            return Secret(text)
        assert self.url_file is not None
        try:
            mode = self.url_file.stat().st_mode
            text = self.url_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"{self.url_file}: cannot be read") from error
        if mode & _READABLE_BY_OTHERS:
            raise SecretError(f"{self.url_file}: others may read it; chmod 600 it")
        if not text:
            raise SecretError(f"{self.url_file}: empty")
        return Secret(text)


class Secret:
    """A text that does not show itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not stored")


@dataclass(frozen=True)
class Notify:
    """How and whom to tell."""

    targets: tuple[Target, ...] = ()
    group_wait: float = 10.0
    max_per_hour: int = 30
    retries: int = 6


def notify_of(table: Mapping[str, Any]) -> Notify:
    """The ``[notify]`` table of a rules file.

    Raises:
        RuleError: every problem.
    """
    body = table.get("notify", {})
    if not isinstance(body, dict):
        raise RuleError(["notify: write it as a [notify] table"])
    problems = [f"notify: unknown field {word!r}" for word in sorted(set(body) - _NOTIFY_FIELDS)]
    wait = body.get("group_wait", "10s")
    seconds = duration_seconds(wait) if isinstance(wait, str) else None
    if seconds is None:
        problems.append(f'notify: group_wait: {wait!r} is no duration such as "10s"')
    numbers = {}
    for word, default in (("max_per_hour", 30), ("retries", 6)):
        value = body.get(word, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
            problems.append(f"notify: {word}: a whole number from 1 to 1000")
            value = default
        numbers[word] = value
    targets: list[Target] = []
    entries = body.get("target", [])
    if not isinstance(entries, list):
        entries = []
        problems.append("notify: targets are written as [[notify.target]] tables")
    for number, entry in enumerate(entries, 1):
        found, wrong = _target(entry, number)
        problems += wrong
        if found is not None:
            if found.name in {t.name for t in targets}:
                problems.append(f"notify: two targets are called {found.name}")
            targets.append(found)
    if problems:
        raise RuleError(problems)
    return Notify(tuple(targets), seconds or 0.0, numbers["max_per_hour"], numbers["retries"])


def _target(entry: Any, number: int) -> tuple[Target | None, list[str]]:
    if not isinstance(entry, dict):
        return None, [f"notify: target {number}: write it as a [[notify.target]] table"]
    name = entry.get("name")
    where = f"notify: target {name or number}"
    if not isinstance(name, str) or not name:
        return None, [f"{where}: it needs a name"]
    if "url" in entry:
        return None, [
            f"{where}: an address is a secret and does not belong into this file: put it into an "
            "environment variable (url_env) or a file only you can read (url_file)"
        ]
    wrong = [f"{where}: unknown field {w!r}" for w in sorted(set(entry) - _TARGET_FIELDS)]
    given = [w for w in ("url_env", "url_file") if isinstance(entry.get(w), str) and entry[w]]
    if len(given) != 1:
        wrong.append(f"{where}: it needs one of url_env and url_file")
    severity = entry.get("severity", "warning")
    if severity not in SEVERITIES:
        wrong.append(f"{where}: severity: {severity!r} is none of {', '.join(SEVERITIES)}")
    resolved = entry.get("resolved", True)
    if not isinstance(resolved, bool):
        wrong.append(f"{where}: resolved: true or false")
    if wrong:
        return None, wrong
    file = entry.get("url_file")
    return (
        Target(
            name,
            entry.get("url_env"),
            Path(file).expanduser() if file else None,
            severity,
            resolved,
        ),
        [],
    )

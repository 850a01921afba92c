"""``AVATOP_READ_ONLY``: verbs that change something are refused before they begin."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any, Final

import click

from console.exits import Refused
from engine.guard.readonly import read_only

#: Verb → those of its words that change something; () means the verb itself. ``reap`` looks by
#: itself: its dry run changes nothing.
_WRITES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "run", "demo", "submit", "cancel", "pause", "resume", "switch", "finish", "mirror",
            "detach", "stop", "drill", "web",
        ),
        (),
    ),
    "batch": ("pause", "resume", "retry", "start", "stop"),
    "release": (
        "add", "advance", "pause", "promote", "resume", "rollback", "start", "validate",
    ),
    "alerts": ("ack", "silence"),
}  # fmt: skip


def asked() -> bool:
    """Whether this shell may only look."""
    return read_only(os.environ)


def guarded(verb: str, command: click.Command) -> click.Command:
    """The verb, or in its place (or in its words') one that refuses."""
    if verb not in _WRITES or not asked():
        return command
    words = _WRITES[verb]
    if not isinstance(command, click.Group) or not words:
        return _refusing(verb, command)
    group = copy.copy(command)
    group.commands = {
        name: _refusing(f"{verb} {name}", word) if name in words else word
        for name, word in command.commands.items()
    }
    return group


def _refusing(name: str, command: click.Command) -> click.Command:
    def refuse(**_: Any) -> None:
        raise Refused(f"{name} changes something, and AVATOP_READ_ONLY is set: nothing was done")

    return click.Command(
        command.name,
        callback=refuse,
        help=command.help,
        params=[click.Argument(["anything"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
    )

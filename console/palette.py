"""What the command palette offers: the registry's actions, and the themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from console import actions
from console import theme as themes

if TYPE_CHECKING:
    from console.app import AvatopApp


def commands(app: AvatopApp) -> Iterator[SystemCommand]:
    """Every action that works everywhere, and every theme."""
    for action in actions.in_scope("app"):
        if action.name != "command_palette":
            title = f"{action.label} ({actions.shown(action.keys[0])})"
            yield SystemCommand(title, action.help, _runner(app, action.name))
    for name in themes.names():
        yield SystemCommand(f"theme: {name}", f"Use the theme {name}.", _setter(app, name))


def _runner(app: AvatopApp, name: str) -> Callable[[], None]:
    def run() -> None:
        app.call_later(app.run_action, f"app.{name}")

    return run


def _setter(app: AvatopApp, name: str) -> Callable[[], None]:
    return lambda: app.set_look(name)

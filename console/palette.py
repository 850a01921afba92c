"""What the command palette offers: what can be done here, the pages, and the themes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.command import CommandPalette, SearchIcon

from console import actions
from console import theme as themes
from console.i18n import t
from console.keys.kinds import Action

if TYPE_CHECKING:
    from console.app import AvatopApp


class Palette(CommandPalette):
    """Textual's, drawn with characters that every terminal has."""

    DEFAULT_CSS = """
    Palette #--container, Palette CommandInput, Palette CommandList { background: $surface; }
    Palette SearchIcon { color: $accent; }
    Palette #--input, Palette #--input.--list-visible { border: none; padding: 1 0; }
    Palette CommandList, Palette LoadingIndicator { border: none; }
    Palette LoadingIndicator.--visible { visibility: hidden; }
    """

    def on_mount(self) -> None:
        self.query_one(SearchIcon).icon = "> "

    def _action_command_list(self, action: str) -> None:
        # A key may come while the list is filled anew and not laid out yet: Textual then looks for
        # lines that are not there.
        with contextlib.suppress(LookupError):
            super()._action_command_list(action)


def open_palette(app: AvatopApp) -> None:
    """Open the palette, its line in the console's language."""
    if not isinstance(app.screen, CommandPalette):
        said = app.paint.text(t("Search for commands …"))
        app.push_screen(Palette(id="--command-palette", placeholder=said))


def commands(app: AvatopApp) -> Iterator[SystemCommand]:
    """Every action that works here, the page's before what works everywhere, and every theme."""
    place = app.place()
    scopes = tuple(scope for scope in place.scopes if scope in (app.page.NAME, "app"))
    for action in actions.reachable(scopes, place.keymap, read_only=place.read_only):
        if action.name != "command_palette":
            label, help_text = actions.words(action)
            title = f"{label} ({place.keymap.shown(action)})"
            yield SystemCommand(title, help_text, _runner(app, action))
    for name in themes.names():
        title = t("theme: {name}", name=name)
        yield SystemCommand(title, t("Use the theme {name}.", name=name), _setter(app, name))


def _runner(app: AvatopApp, action: Action) -> Callable[[], None]:
    def run() -> None:
        where = app if action.scope == "app" else app.page
        app.call_later(app.run_action, action.name, where)

    return run


def _setter(app: AvatopApp, name: str) -> Callable[[], None]:
    return lambda: app.set_look(name)

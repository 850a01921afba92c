"""A theme of ours as a theme of Textual's, for the few widgets of its that the console uses."""

from __future__ import annotations

from typing import Any

from textual.app import App
from textual.theme import BUILTIN_THEMES
from textual.theme import Theme as TextualTheme

from console.theme import Theme

_DEFAULT = "ansi_default"


def dressed(look: Theme) -> TextualTheme:
    """Colours for inputs, the palette and dialog grounds; ANSI ones where there are few."""
    ansi = look.colors != "truecolor"
    return TextualTheme(
        name=f"avatop-{look.name}",
        primary=look.hex("accent", _DEFAULT),
        secondary=look.hex("soft", _DEFAULT),
        accent=look.hex("accent", _DEFAULT),
        warning=look.hex("state.watch", _DEFAULT),
        error=look.hex("state.act", _DEFAULT),
        success=look.hex("state.good", _DEFAULT),
        foreground=look.hex("text", _DEFAULT),
        background=_DEFAULT if look.base == "default" else look.base,
        surface=_DEFAULT if look.raised == "default" else look.raised,
        panel=_DEFAULT if look.raised == "default" else look.raised,
        boost=_DEFAULT if look.raised == "default" else look.raised,
        dark=look.dark,
        ansi=ansi,
        variables=dict(BUILTIN_THEMES["ansi-dark"].variables) if ansi else {},
    )


def registered(app: App[Any], look: Theme) -> str:
    """Make a theme known to an app; the name by which it is."""
    theme = dressed(look)
    app.register_theme(theme)
    return theme.name


def first(app: App[Any], look: Theme) -> None:
    """Wear a theme from the start: setting ``theme`` would read every style sheet once more.

    Textual starts out dark; a light theme changes more than its style sheets.
    """
    name = registered(app, look)
    if look.dark:
        app.set_reactive(App.theme, name)
        app.stylesheet.set_variables(app.get_css_variables())
    else:
        app.theme = name

"""Keys of the log pane (console/widgets/logs.py)."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action

SCOPES: Final = {"log": N_("Log")}

ACTIONS: Final = (
    Action("scroll(-1)", ("up", "k"), N_("up"), N_("Scroll up; the view then holds still."), "log"),
    Action("scroll(1)", ("down", "j"), N_("down"), N_("Scroll down."), "log"),
    Action("page(-1)", ("pageup", "b"), N_("page up"), N_("Scroll a page up."), "log"),
    Action("page(1)", ("pagedown", "space"), N_("page down"), N_("Scroll a page down."), "log"),
    Action("first", ("home",), N_("oldest"), N_("Go to the oldest line kept."), "log"),
    Action("follow", ("f", "end"), N_("follow"), N_("Follow new lines, or stop following."),
           "log", 4),
    Action("level", ("l",), N_("level"), N_("Show only lines of a level or above."), "log", 5),
    Action("search", ("slash",), N_("search"), N_("Search; Enter finds, Escape ends."), "log", 4),
    Action("match(-1)", ("n",), N_("older match"), N_("Go to the next match upwards."), "log"),
    Action("match(1)", ("N",), N_("newer match"), N_("Go to the next match downwards."), "log"),
)  # fmt: skip

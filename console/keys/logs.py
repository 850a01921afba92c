"""Keys of the log page (console/screens/logs.py) and of its list of lines."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "logs", "5", "console.screens.logs:LogsPage", N_("logs"),
    N_("Every line that was said: filter, search, jump in time, and what it means."),
)  # fmt: skip

SCOPES: Final = {"logs": N_("Logs"), "loglines": N_("Log lines")}

ACTIONS: Final = (
    Action("explain", ("enter",), N_("meaning"),
           N_("Show or hide what the line under the cursor means and what to do."), "logs", 6),
    Action("open_file", ("o",), N_("file"),
           N_("Open the engine's log file, or any other program's; empty returns to live lines."),
           "logs", 8),
    Action("move(-1)", ("up", "k"), N_("up"), N_("Go a line up; following stops."), "loglines"),
    Action("move(1)", ("down", "j"), N_("down"), N_("Go a line down."), "loglines"),
    Action("leaf(-1)", ("pageup",), N_("page up"), N_("Go a page up; following stops."),
           "loglines"),
    Action("leaf(1)", ("pagedown", "space"), N_("page down"), N_("Go a page down."), "loglines"),
    Action("first", ("home", "g"), N_("oldest"), N_("Go to the oldest line."), "loglines"),
    Action("follow", ("f", "end", "G"), N_("follow"),
           N_("Go to the newest line and follow; again: hold still."), "loglines", 1),
    Action("filter", ("F", "ampersand"), N_("filter"),
           N_("Show only lines that match, as level>=warning rank=2 class=nccl since=10m."),
           "loglines", 2),
    Action("search", ("slash",), N_("search"), N_("Search; Enter finds, Escape ends."),
           "loglines", 3),
    Action("match(-1)", ("n",), N_("older match"), N_("Go to the next match upwards."),
           "loglines"),
    Action("match(1)", ("N",), N_("newer match"), N_("Go to the next match downwards."),
           "loglines"),
    Action("error(-1)", ("E",), N_("error before"), N_("Go to the error before."),
           "loglines", 4),
    Action("error(1)", ("e",), N_("next error"), N_("Go to the next error."), "loglines", 4),
    Action("level", ("l",), N_("level"), N_("Show all lines, warnings and above, or errors."),
           "loglines", 5),
    Action("jump", ("t",), N_("time"), N_("Go to a moment: 10:30, 10m ago, 2025-12-25T10:30."),
           "loglines", 5),
    Action("bookmark", ("m",), N_("bookmark"), N_("Set or take away a bookmark on the line."),
           "loglines", 7),
    Action("to_bookmark(1)", ("b",), N_("next bookmark"), N_("Go to the next bookmark."),
           "loglines"),
    Action("to_bookmark(-1)", ("B",), N_("bookmark before"), N_("Go to the bookmark before."),
           "loglines"),
    Action("bookmarks", ("M",), N_("bookmarks"),
           N_("List the bookmarks; Enter goes to one."), "loglines"),
    Action("wrap", ("w",), N_("wrap"), N_("Wrap long lines, or cut them."), "loglines", 7),
)  # fmt: skip

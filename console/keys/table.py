"""Keys of every table (console/widgets/table.py)."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action

SCOPES: Final = {"table": N_("Tables")}

ACTIONS: Final = (
    Action("move(-1)", ("up", "k"), N_("up"), N_("Select the row above."), "table"),
    Action("move(1)", ("down", "j"), N_("down"), N_("Select the row below."), "table"),
    Action("leaf(-1)", ("pageup",), N_("page up"), N_("Go a page up."), "table"),
    Action("leaf(1)", ("pagedown",), N_("page down"), N_("Go a page down."), "table"),
    Action("edge(-1)", ("home",), N_("first"), N_("Go to the first row."), "table"),
    Action("edge(1)", ("end",), N_("last"), N_("Go to the last row."), "table"),
    Action("filter", ("slash",), N_("filter"),
           N_("Show only rows with these words; column>value compares, !word excludes."),
           "table", 6),
    Action("sort(1)", ("o",), N_("sort"), N_("Order the rows by the next column."), "table", 9),
    Action("reverse", ("O",), N_("reverse"), N_("Turn the order of the rows around."), "table"),
    Action("mark", ("space",), N_("mark"),
           N_("Mark the row, so that several are acted on at once."), "table"),
    Action("mark_all", ("asterisk",), N_("mark all"), N_("Mark every row shown, or none."),
           "table"),
    Action("open", ("enter",), N_("open"), N_("Open the selected row."), "table"),
)  # fmt: skip

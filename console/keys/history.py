"""Keys of the zoomed history of one device."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action

SCOPES: Final = {"history": N_("History of one device")}

ACTIONS: Final = (
    Action("zoom(-1)", ("plus", "equals_sign", "up"), N_("closer"),
           N_("Show less time, in more detail."), "history", 1),
    Action("zoom(1)", ("minus", "down"), N_("wider"), N_("Show more time."), "history", 2),
    Action("pan(-1)", ("left", "h"), N_("earlier"), N_("Go back in time."), "history", 3),
    Action("pan(1)", ("right", "l"), N_("later"), N_("Go forward in time."), "history", 4),
    Action("now", ("end", "n"), N_("now"), N_("Return to the present."), "history", 5),
    Action("other(1)", ("tab",), N_("next device"), N_("Show the next device."), "history", 6),
    Action("close", ("escape", "q", "z"), N_("back"), N_("Return to the overview."), "history", 0),
)  # fmt: skip

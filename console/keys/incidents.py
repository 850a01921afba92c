"""Keys of the incidents page and its timeline."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "incidents", "7", "console.screens.incidents:IncidentsPage", N_("incidents"),
    N_("Alerts and what triage found: the cause, its evidence, the timeline, what to do."),
    N_("incid"),
)  # fmt: skip

SCOPES: Final = {"incidents": N_("Incidents"), "timeline": N_("Timeline of an incident")}

#: Keys of the remedies, in the order they are listed.
REMEDY_KEYS: Final = ("r", "t", "y", "u", "i")

ACTIONS: Final = (
    Action("remedy(0)", ("r",), N_("remedy"),
           N_("See exactly what the first remedy changes, and apply it."), "incidents", 1,
           writes=True),
    Action("remedy(1)", ("t",), N_("second remedy"), N_("The same with the second."),
           "incidents", writes=True),
    Action("remedy(2)", ("y",), N_("third remedy"), N_("The same with the third."),
           "incidents", writes=True),
    Action("remedy(3)", ("u",), N_("fourth remedy"), N_("The same with the fourth."),
           "incidents", writes=True),
    Action("remedy(4)", ("i",), N_("fifth remedy"), N_("The same with the fifth."),
           "incidents", writes=True),
    Action("acknowledge", ("a",), N_("acknowledge"),
           N_("Say that the selected alerts and findings are seen: findings are over with it."),
           "incidents", 2,
           writes=True),
    Action("silence", ("s",), N_("silence"),
           N_("Tell nobody of the selected alerts for a while."), "incidents", 3, writes=True),
    Action("export", ("x",), N_("export"),
           N_("Write an incident bundle: recording, logs, plans, facts; redacted, one file."),
           "incidents", 4),
    Action("past", ("p",), N_("past ones"), N_("Show what is over too, or hide it."),
           "incidents", 7),
    Action("timeline", ("w",), N_("timeline"),
           N_("Go to the plots and log lines around it, and back."), "incidents", 5),
    Action("cursor(-1)", ("left", "comma"), N_("earlier"), N_("Move the time cursor back."),
           "timeline", 0),
    Action("cursor(1)", ("right", "full_stop"), N_("later"), N_("Move the time cursor on."),
           "timeline", 0),
    Action("span(1)", ("minus",), N_("longer"), N_("Let the timeline cover more time."),
           "timeline", 1),
    Action("span(-1)", ("plus", "equals_sign"), N_("shorter"),
           N_("Let the timeline cover less time."), "timeline", 1),
    Action("device(1)", ("d",), N_("device"), N_("Show the next device's plots."), "timeline", 2),
    Action("home", ("home",), N_("incident"), N_("Put the cursor back on the incident."),
           "timeline", 6),
)  # fmt: skip

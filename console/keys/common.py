"""Keys that work everywhere."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action

SCOPES: Final = {"app": N_("Everywhere")}

ACTIONS: Final = (
    Action("help", ("question_mark", "f1"), N_("help"),
           N_("Show all keys and what the signs mean."), rank=0),
    Action("quit_console", ("q", "ctrl+c", "ctrl+q"), N_("quit"),
           N_("Leave; with work running, ask what becomes of it."), rank=3),
    Action("command_palette", ("ctrl+p", "colon"), N_("commands"),
           N_("Find a command by its name."), rank=7),
    Action("focus_next", ("tab",), N_("next part"), N_("Go to the next part of the screen."),
           rank=9),
    Action("focus_previous", ("shift+tab",), N_("previous part"),
           N_("Go to the previous part.")),
    Action("jump", ("apostrophe",), N_("jump"),
           N_("Show a letter at every part, device and row; the letter goes there."), rank=8),
    Action("messages", ("f2",), N_("messages"), N_("Read what the console has said.")),
    Action("next_theme", ("f3",), N_("theme"), N_("Switch to the next theme.")),
    Action("suspend_process", ("ctrl+z",), N_("suspend"),
           N_("Give the terminal back to the shell; its fg returns. The engine works on.")),
    Action("redraw", ("ctrl+l",), N_("redraw"), N_("Paint the whole screen again.")),
)  # fmt: skip

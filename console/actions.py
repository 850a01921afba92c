"""The one registry of what a person can do: bindings, footer, help and palette come from it.

An action belongs to a scope: ``app`` (everywhere), or the part of the screen that has the focus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.binding import Binding, BindingType


@dataclass(frozen=True)
class Action:
    """Something a key does.

    Args:
        name: Textual action, e.g. ``submit`` for ``action_submit``.
        keys: Textual key names; the first is shown.
        label: one or two words for the footer.
        help: a sentence for the help screen and the palette.
        scope: ``app``, ``devices``, ``jobs``, ``logs``, ``history`` or ``replay``.
        rank: order in the footer, lower is kept longer on narrow screens; None is not shown.
    """

    name: str
    keys: tuple[str, ...]
    label: str
    help: str
    scope: str = "app"
    rank: int | None = None


SCOPES: Final = {
    "app": "Everywhere",
    "devices": "Devices",
    "jobs": "Jobs",
    "logs": "Log",
    "history": "History of one device",
    "replay": "Recordings (avatop replay)",
}

ACTIONS: Final = (
    Action("submit", ("s",), "submit", "Submit a job from a preset.", rank=1),
    Action("cancel_job", ("c",), "cancel", "Cancel the selected job, after asking.", rank=2),
    Action("history", ("z",), "history", "Zoom into one device's memory and temperature.", rank=5),
    Action("threshold", ("t",), "threshold", "Set from how many GiB a rise counts as a spike.",
           rank=9),
    Action("help", ("question_mark", "f1"), "help", "Show all keys and what the signs mean.",
           rank=0),
    Action("command_palette", ("ctrl+p", "colon"), "commands", "Find a command by its name.",
           rank=7),
    Action("next_theme", ("f3",), "theme", "Switch to the next theme."),
    Action("redraw", ("ctrl+l",), "redraw", "Paint the whole screen again."),
    Action("quit_console", ("q", "ctrl+c", "ctrl+q"), "quit",
           "Leave; with work running, ask what becomes of it.", rank=3),
    Action("focus_next", ("tab",), "next part", "Go to the next part of the screen.", rank=8),
    Action("focus_previous", ("shift+tab",), "previous part", "Go to the previous part."),
    Action("panel(-1)", ("up", "k", "left"), "up", "Select the device before.", "devices"),
    Action("panel(1)", ("down", "j", "right"), "down", "Select the device after.", "devices"),
    Action("open", ("enter",), "zoom", "Zoom into the selected device.", "devices", 4),
    Action("span(1)", ("minus",), "longer", "Let the plots cover more time.", "devices", 6),
    Action("span(-1)", ("plus", "equals_sign"), "shorter", "Let the plots cover less time.",
           "devices"),
    Action("move(-1)", ("up", "k"), "up", "Select the job above.", "jobs"),
    Action("move(1)", ("down", "j"), "down", "Select the job below.", "jobs"),
    Action("page(-1)", ("pageup",), "page up", "Go a page up.", "jobs"),
    Action("page(1)", ("pagedown",), "page down", "Go a page down.", "jobs"),
    Action("edge(-1)", ("home",), "first", "Go to the first job.", "jobs"),
    Action("edge(1)", ("end",), "last", "Go to the last job.", "jobs"),
    Action("scroll(-1)", ("up", "k"), "up", "Scroll up; the view then holds still.", "logs"),
    Action("scroll(1)", ("down", "j"), "down", "Scroll down.", "logs"),
    Action("page(-1)", ("pageup", "b"), "page up", "Scroll a page up.", "logs"),
    Action("page(1)", ("pagedown", "space"), "page down", "Scroll a page down.", "logs"),
    Action("first", ("home",), "oldest", "Go to the oldest line kept.", "logs"),
    Action("follow", ("f", "end"), "follow", "Follow new lines, or stop following.", "logs", 4),
    Action("level", ("l",), "level", "Show only lines of a level or above.", "logs", 5),
    Action("search", ("slash",), "search", "Search; Enter finds, Escape ends.", "logs", 4),
    Action("match(-1)", ("n",), "older match", "Go to the next match upwards.", "logs"),
    Action("match(1)", ("N",), "newer match", "Go to the next match downwards.", "logs"),
    Action("zoom(-1)", ("plus", "equals_sign", "up"), "closer", "Show less time, in more detail.",
           "history", 1),
    Action("zoom(1)", ("minus", "down"), "wider", "Show more time.", "history", 2),
    Action("pan(-1)", ("left", "h"), "earlier", "Go back in time.", "history", 3),
    Action("pan(1)", ("right", "l"), "later", "Go forward in time.", "history", 4),
    Action("now", ("end", "n"), "now", "Return to the present.", "history", 5),
    Action("other(1)", ("tab",), "next device", "Show the next device.", "history", 6),
    Action("close", ("escape", "q", "z"), "back", "Return to the overview.", "history", 0),
    Action("transport('play')", ("space",), "play", "Play or pause the recording.", "replay", 0),
    Action("transport('mark',-1)", ("left_square_bracket",), "mark before",
           "Go to the spike, alert or error before.", "replay", 1),
    Action("transport('mark',1)", ("right_square_bracket",), "mark after",
           "Go to the next spike, alert or error.", "replay", 2),
    Action("transport('step',-1)", ("left",), "back", "Go back five seconds.", "replay", 3),
    Action("transport('step',1)", ("right",), "on", "Go on five seconds.", "replay", 4),
    Action("transport('speed',1)", ("plus", "equals_sign"), "faster", "Play faster, up to 60×.",
           "replay", 5),
    Action("transport('speed',-1)", ("minus",), "slower", "Play slower, down to 1×.",
           "replay", 6),
    Action("transport('edge',-1)", ("home",), "start", "Go to the recording's start.", "replay", 7),
    Action("transport('edge',1)", ("end",), "end", "Go to the recording's end.", "replay", 8),
)  # fmt: skip

_SHOWN: Final = {
    "question_mark": "?", "slash": "/", "colon": ":", "minus": "-", "plus": "+",
    "equals_sign": "=", "enter": "↵", "escape": "Esc", "tab": "Tab", "shift+tab": "Shift-Tab",
    "left_square_bracket": "[", "right_square_bracket": "]",
    "space": "Space", "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "PgUp",
    "pagedown": "PgDn", "home": "Home", "end": "End", "f1": "F1", "f3": "F3",
}  # fmt: skip


def shown(key: str) -> str:
    """A key as it is printed on the keyboard."""
    if key in _SHOWN:
        return _SHOWN[key]
    return "^" + key[5:].upper() if key.startswith("ctrl+") else key


def bindings(scope: str, *, priority: bool = False) -> list[BindingType]:
    """Textual bindings of one scope; with ``priority`` they come before the focused part's."""
    return [
        Binding(key, action.name, action.label, show=False, priority=priority or key == "ctrl+c")
        for action in in_scope(scope)
        for key in action.keys
    ]


def in_scope(scope: str) -> list[Action]:
    return [action for action in ACTIONS if action.scope == scope]


def footer(scope: str | None) -> list[Action]:
    """Actions the footer shows for a focus, most important first."""
    shown_here = [a for a in ACTIONS if a.scope in ("app", scope) and a.rank is not None]
    if scope == "history":
        shown_here = [a for a in shown_here if a.scope == scope]
    elif scope == "replay":  # of what works everywhere, what a recording allows
        allowed = ("help", "history", "quit_console", "focus_next")
        shown_here = [a for a in shown_here if a.scope == scope or a.name in allowed]
    return sorted(shown_here, key=lambda a: (a.rank or 0, a.scope == "app"))

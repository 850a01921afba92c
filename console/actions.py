"""The one registry of what a person can do: bindings, footer, help, palette and remapping.

Its entries lie in ``console/keys/``, one module per page or part. An action belongs to a scope:
``app`` (everywhere), a page, or the part of the screen that has the focus.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from textual.binding import Binding, BindingType

from console.i18n import t
from console.keys import MODULES
from console.keys.kinds import Action, PageEntry

_KEYS: Final[tuple[Any, ...]] = tuple(
    importlib.import_module(f"console.keys.{name}") for name in MODULES
)
_FOUND: Final = [module.PAGE for module in _KEYS if hasattr(module, "PAGE")]
#: The pages that exist, in the order of their keys.
PAGES: Final[tuple[PageEntry, ...]] = tuple(sorted(_FOUND, key=lambda p: "1234567890".index(p.key)))
#: Scope → its title in the help.
SCOPES: Final[dict[str, str]] = {k: v for module in _KEYS for k, v in module.SCOPES.items()}
ACTIONS: Final[tuple[Action, ...]] = (
    *(Action(f"go('{page.name}')", (page.key,), page.label, page.help) for page in PAGES),
    *(action for module in _KEYS for action in module.ACTIONS),
)

#: Keys that always work, so that nobody locks themselves in.
FIXED: Final = frozenset({"ctrl+c", "ctrl+q"})

_SHOWN: Final = {
    "question_mark": "?", "slash": "/", "colon": ":", "minus": "-", "plus": "+",
    "equals_sign": "=", "enter": "↵", "escape": "Esc", "tab": "Tab", "shift+tab": "Shift-Tab",
    "left_square_bracket": "[", "right_square_bracket": "]", "asterisk": "*", "comma": ",",
    "full_stop": ".", "exclamation_mark": "!", "less_than_sign": "<", "greater_than_sign": ">",
    "space": "Space", "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "PgUp",
    "pagedown": "PgDn", "home": "Home", "end": "End", "backspace": "Bksp", "delete": "Del",
    "semicolon": ";", "backslash": "\\", "underscore": "_", "number_sign": "#", "at": "@",
    "apostrophe": "'",
}  # fmt: skip


class Keymap:
    """Which keys do what: the registry's, or those of a configuration.

    Args:
        changed: action id (``app.submit``) → its keys instead of the registry's.
    """

    def __init__(self, changed: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.changed = dict(changed or {})

    def keys(self, action: Action) -> tuple[str, ...]:
        """The keys of an action; the first is shown."""
        own = self.changed.get(action.id)
        if own is None:
            return action.keys
        return (*own, *(key for key in action.keys if key in FIXED))

    def shown(self, action: Action) -> str:
        """The key as it is printed on the keyboard."""
        keys = self.keys(action)
        return shown(keys[0]) if keys else ""

    def key_of(self, id: str) -> str:  # noqa: A002
        """The same by the action's id, for sentences such as "Press s to submit"."""
        found = next((action for action in ACTIONS if action.id == id), None)
        return self.shown(found) if found is not None else "?"

    def textual(self) -> dict[str, str]:
        """For ``App.set_keymap``."""
        return {id_: ",".join(keys) for id_, keys in self.changed.items()}


PLAIN: Final = Keymap()


def shown(key: str) -> str:
    """A key as it is printed on the keyboard."""
    if key in _SHOWN:
        return _SHOWN[key]
    if key.startswith("ctrl+"):
        return "^" + key[5:].upper()
    return key.upper() if len(key) > 1 and key[0] == "f" and key[1:].isdigit() else key


def named(key: str) -> str:
    """Textual's name of a key as a person writes it: ``?`` → ``question_mark``, ``^L`` too."""
    if len(key) == 2 and key[0] == "^":
        return f"ctrl+{key[1].lower()}"
    if len(key) == 1 and not key.isalnum():
        from textual.keys import _character_to_key

        return _character_to_key(key)
    return key if len(key) == 1 else key.lower()


def bindings(scope: str, *, priority: bool = False) -> list[BindingType]:
    """Textual bindings of one scope; with ``priority`` they come before the focused part's."""
    return [
        Binding(
            key, action.name, action.label, show=False, priority=priority or key == "ctrl+c",
            id=None if key in FIXED else action.id,
        )
        for action in in_scope(scope)
        for key in action.keys
    ]  # fmt: skip


def in_scope(scope: str) -> list[Action]:
    return [action for action in ACTIONS if action.scope == scope]


def words(action: Action) -> tuple[str, str]:
    """Label and help in the console's language."""
    return t(action.label), t(action.help)


def reachable(
    scopes: Sequence[str], keymap: Keymap = PLAIN, *, read_only: bool = False
) -> list[Action]:
    """What can be done here, nearest scope first; a key that is taken nearer by is left out.

    Args:
        scopes: of the focused part, its page, …, ``app``.
        read_only: leave out what changes something.
    """
    taken: set[str] = set()
    out: list[Action] = []
    for scope in scopes:
        mine = [a for a in in_scope(scope) if not (read_only and a.writes)]
        out += [a for a in mine if not set(keymap.keys(a)[:1]) & taken]
        taken |= {key for action in mine for key in keymap.keys(action)}
    return out


def footer(
    scopes: Sequence[str], keymap: Keymap = PLAIN, *, read_only: bool = False
) -> list[Action]:
    """Actions the footer shows, most important first."""
    here = [a for a in reachable(scopes, keymap, read_only=read_only) if a.rank is not None]
    return sorted(here, key=lambda a: (a.rank or 0, scopes.index(a.scope)))

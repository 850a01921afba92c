"""What the key registry is made of: actions, and the pages that number keys open."""

from __future__ import annotations

from engine.plain import Plain, late_dataclass


@late_dataclass(frozen=True)
class Action(Plain):
    """Something a key does.

    Args:
        name: Textual action, e.g. ``submit`` for ``action_submit``.
        keys: Textual key names; the first is shown.
        label: one or two words for the footer, unique in its scope; marked with ``N_``.
        help: a sentence for the help screen and the palette; marked with ``N_``.
        scope: ``app`` (everywhere), a page's name, or a part's ``SCOPE``.
        rank: order in the footer, lower is kept longer on narrow screens; None is not shown.
        writes: it changes something outside the console: off while one may only look.
    """

    name: str
    keys: tuple[str, ...]
    label: str
    help: str
    scope: str = "app"
    rank: int | None = None
    writes: bool = False

    @property
    def id(self) -> str:
        """Its name in the configuration's ``[keys]``, e.g. ``app.submit``, ``log.page-up``."""
        return f"{self.scope}.{self.label.replace(' ', '-')}"


@late_dataclass(frozen=True)
class PageEntry(Plain):
    """A screen of its own behind a number key.

    Args:
        name: also its scope of keys.
        key: ``1`` … ``9``, ``0``.
        at: ``module:Class`` of the ``console.screens.base.Page``; imported when first opened.
        label: its word in the row of pages; marked with ``N_``.
        short: the same where the row has little room; marked with ``N_``; empty: ``label``.
        help: what one sees there, a sentence; marked with ``N_``.
    """

    name: str
    key: str
    at: str
    label: str
    help: str
    short: str = ""

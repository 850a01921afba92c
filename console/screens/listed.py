"""A page of a list, a strip about the item under the cursor, and two panes about its parts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.widget import Widget

from console.screens.base import Page
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint
from console.widgets.table import Table


class ListedPage(Page):
    """The list is as high as it must be; the panes stand beside each other where there is room.

    Subclasses set ``WIDE`` (columns from which there is) and ``LISTED`` (the word of what alters
    the list), call ``consist_of`` and implement ``share``.
    """

    WIDE: ClassVar[int]
    LISTED: ClassVar[str]
    DEFAULT_CSS = "ListedPage > Container { height: 1fr; }"

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self._list: Table[Any]
        self._strip: Lines
        self.below: Container

    def consist_of(self, listed: Table[Any], strip: Lines, *panes: Lines) -> None:
        """Say of what parts, from top to bottom."""
        self._list, self._strip, self.below = listed, strip, Container(*panes)

    @abstractmethod
    def share(self, beside: bool, room: int) -> None:
        """Size the panes.

        Args:
            beside: they stand beside each other. room: rows of the page's body.
        """

    def body(self) -> ComposeResult:
        yield self._list
        yield self._strip
        yield self.below

    def first_focus(self) -> Widget:
        return self._list

    def on_mount(self) -> None:
        super().on_mount()
        self.lay_out()

    def on_resize(self) -> None:
        super().on_resize()
        self.lay_out()

    def model_changed(self, dirty: set[str]) -> None:
        if self.LISTED in dirty:
            self.lay_out()

    def lay_out(self) -> None:
        """Give everything its size and place."""
        room = self.app.size.height - self.rows_taken
        count = len(self._list.rows())
        self._list.styles.height = min(count + 2, max(room // 4, 4)) if count else "1fr"
        beside = self.app.size.width >= self.WIDE
        self.below.styles.layout = "horizontal" if beside else "vertical"
        self.share(beside, room)
        self._strip.display = self.below.display = count > 0

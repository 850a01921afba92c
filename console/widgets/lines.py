"""The base of the console's widgets: lines drawn once, and only what changed sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from console.state import Model
from console.widgets.paint import Paint

if TYPE_CHECKING:
    from console.app import AvatopApp


class Lines(Widget):
    """A widget that is a list of strips.

    Subclasses implement ``draw``; ``update`` draws and marks as dirty the smallest span of each
    row that differs from what the terminal shows.
    """

    DEFAULT_CSS = "Lines { height: 1; }"
    #: Which part of the model this widget shows (``Model.dirty``).
    SHOWS: ClassVar[frozenset[str]] = frozenset()
    #: Scope of the key registry while this widget has the focus.
    SCOPE: ClassVar[str | None] = None

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.model = model
        self.paint = paint
        self._lines: list[Strip] = []
        self._drawn_size = (-1, -1)

    @property
    def console_app(self) -> AvatopApp:
        return cast("AvatopApp", self.app)

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        """All lines at this size; fewer are padded, more are cut."""
        raise NotImplementedError

    def _all(self, width: int, height: int) -> list[Strip]:
        lines = list(self.draw(width, height))[:height]
        return lines + [self.paint.blank(width)] * (height - len(lines))

    def update(self) -> None:
        """Draw again; the terminal gets what changed."""
        width, height = self.size
        if width <= 0 or height <= 0:
            return
        new = self._all(width, height)
        old, self._lines = self._lines, new
        if self._drawn_size != (width, height):
            self._drawn_size = (width, height)
            self.refresh()
            return
        regions = []
        for y, (before, after) in enumerate(zip(old, new, strict=True)):
            span = changed(before, after)
            if span is not None:
                regions.append(Region(span[0], y, span[1] - span[0], 1))
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        if self._drawn_size != (self.size.width, self.size.height):
            width, height = self._drawn_size = (self.size.width, self.size.height)
            self._lines = self._all(width, height)
        if y < len(self._lines):
            return self._lines[y]
        return self.paint.blank(self.size.width)

    def on_resize(self) -> None:
        self.update()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.update()


def changed(before: Strip, after: Strip) -> tuple[int, int] | None:
    """The cells [first, past last) in which two strips of equal width differ."""
    if before is after:
        return None
    a, b = before._segments, after._segments
    if a == b:
        return None
    first = 0
    start = 0
    while start < len(a) and start < len(b) and a[start] == b[start]:
        first += a[start].cell_length
        start += 1
    last = after.cell_length
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
        last -= a[-end].cell_length
    if (
        len(a) - end - start == 1
        and len(b) - end - start == 1
        and a[start].style == b[start].style
        and a[start].text.isascii()
        and b[start].text.isascii()
    ):
        # One piece of plain text changed: find where.
        x, y = a[start].text, b[start].text
        same = 0
        while same < min(len(x), len(y)) and x[same] == y[same]:
            same += 1
        first += same
    return (first, max(last, first + 1)) if last > first else None

"""The base of the console's widgets: lines drawn once, and only what changed sent again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from console.format import cells
from console.state import Model
from console.widgets.paint import Paint

if TYPE_CHECKING:
    from console.app import AvatopApp


class Jump(NamedTuple):
    """A place within a widget that a jump key leads to: its cell, and what going there does."""

    x: int
    y: int
    go: Callable[[], object]


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
    #: Whether keys are text at the moment (a filter or a search is being written).
    typing: bool = False

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.model = model
        self.paint = paint
        self._lines: list[Strip] = []
        self._drawn_size = (-1, -1)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes of keys that hold while this has the focus, nearest first."""
        return (self.SCOPE,) if self.SCOPE else ()

    @property
    def console_app(self) -> AvatopApp:
        return cast("AvatopApp", self.app)

    def jumps(self) -> list[Jump]:
        """Places that jump keys lead to; the widget itself is the first."""
        return [Jump(0, 0, self.focus)] if self.can_focus else []

    def forget(self) -> None:
        """The model has become another: drop what was remembered of the one before."""

    @abstractmethod
    def draw(self, width: int, height: int) -> Sequence[Strip]:
        """All lines at this size; fewer are padded, more are cut."""

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
            regions += [Region(first, y, last - first, 1) for first, last in changes(before, after)]
        if regions:
            self.refresh(*regions)

    def _settle(self) -> None:
        """Draw, if that was not done at this size."""
        width, height = self.size
        if self._drawn_size != (width, height):
            self._drawn_size = (width, height)
            self._lines = self._all(width, height)

    def render_line(self, y: int) -> Strip:
        self._settle()
        return self._lines[y] if y < len(self._lines) else self.paint.blank(self.size.width)

    def render_lines(self, crop: Region) -> list[Strip]:
        # No part has a border, padding or opacity: what Textual's styles would add is nothing.
        if self.app.no_color:
            return super().render_lines(crop)
        self._settle()
        lines = self._lines[crop.y : crop.bottom]
        lines += [self.paint.blank(self._drawn_size[0])] * (crop.height - len(lines))
        return [strip.crop(crop.x, crop.right) for strip in lines]

    def on_resize(self) -> None:
        self.update()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.update()


GAP = 10  # equal cells between two changes that are cheaper sent again than jumped over


def changes(before: Strip, after: Strip) -> list[tuple[int, int]]:
    """The spans [first, past last) of cells in which two strips of equal width differ."""
    spans: list[tuple[int, int]] = []
    if before is after:
        return spans
    a, b = before._segments, after._segments
    past_a, past_b = len(a), len(b)
    while past_a and past_b and a[past_a - 1] == b[past_b - 1]:  # the same at the right edge
        past_a, past_b = past_a - 1, past_b - 1
    i = j = used_a = used_b = x = 0
    while i < past_a and j < past_b:
        one, two = a[i], b[j]
        if not (used_a or used_b) and one == two:
            x += cells(two.text)
            i, j = i + 1, j + 1
            continue
        old, new = one.text, two.text
        if not (used_a or _narrow(old)) or not (used_b or _narrow(new)):
            # Wide characters: from here on everything counts as changed.
            _join(spans, x, after.cell_length)
            return spans
        left_a, left_b = len(old) - used_a, len(new) - used_b
        length = min(left_a, left_b)
        if left_a != left_b or used_a or used_b:
            old, new = old[used_a : used_a + length], new[used_b : used_b + length]
        if one.style is not two.style and one.style != two.style:
            if not (_same_ground(one.style, two.style) and old.isspace() and new.isspace()):
                _join(spans, x, x + length)
        elif old != new:
            first = next(n for n in range(length) if old[n] != new[n])
            last = next(n for n in range(length, 0, -1) if old[n - 1] != new[n - 1])
            _join(spans, x + first, x + last)
        x += length
        i, used_a = (i + 1, 0) if length == left_a else (i, used_a + length)
        j, used_b = (j + 1, 0) if length == left_b else (j, used_b + length)
    return spans


def _same_ground(one: Style | None, two: Style | None) -> bool:
    """Whether blanks look alike in both."""
    if one is None or two is None:
        return False
    return one.bgcolor == two.bgcolor and one.reverse == two.reverse


def _join(spans: list[tuple[int, int]], first: int, last: int) -> None:
    if spans and first - spans[-1][1] <= GAP:
        spans[-1] = (spans[-1][0], last)
    else:
        spans.append((first, last))


def _narrow(text: str) -> bool:
    """Whether every character takes one cell."""
    return text.isascii() or cells(text) == len(text)

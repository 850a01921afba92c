"""The details pane: sections of labelled values and sentences beside or below a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.state import Model
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row


@dataclass(frozen=True)
class Fact:
    """A label and its value, which is outside text; the unit is dimmed, None is shown as n/a."""

    label: str
    value: str | None
    unit: str = ""
    role: str = "text"


@dataclass(frozen=True)
class Said:
    """A sentence, wrapped; outside text."""

    text: str
    role: str = "text"


@dataclass(frozen=True)
class Drawn:
    """A row drawn by its maker, for bars and plots: as wide as the pane's text."""

    row: Row


@dataclass(frozen=True)
class Section:
    """A titled group; an empty title groups by a blank line alone."""

    title: str
    lines: Sequence[Fact | Said | Drawn] = field(default_factory=tuple)


class Details(Lines, can_focus=True):
    """Shows what ``sections`` says for a width; scrolled by keys while it has the focus."""

    DEFAULT_CSS = "Details { height: 1fr; }"
    TITLE: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", show=False),
        Binding("down,j", "scroll_by(1)", show=False),
        Binding("pageup", "scroll_by(-10)", show=False),
        Binding("pagedown", "scroll_by(10)", show=False),
        Binding("home", "scroll_by(-99999)", show=False),
        Binding("end", "scroll_by(99999)", show=False),
    ]

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.top = 0
        self._more = 0

    def title(self) -> str:
        return t(self.TITLE)

    def sections(self, width: int) -> Sequence[Section]:  # noqa: ARG002 - for bars that fill it
        """What to show; ``width`` cells are there for each line."""
        return ()

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        lines = lay(self.paint, self.sections(width - 3), width)
        room = max(height - 1, 0)
        self._more = max(len(lines) - room, 0)
        self.top = min(max(self.top, 0), self._more)
        note = self.paint.row(30)
        if self.top < self._more:
            note.put(t("{count} more below", count=self._more - self.top), "soft")
        first = heading(self.paint, self.title(), width, self.has_focus, note)
        return [first, *lines[self.top : self.top + room]]

    def action_scroll_by(self, by: int) -> None:
        self.top += by
        self.update()


def lay(paint: Paint, sections: Sequence[Section], width: int) -> list[Strip]:
    """Sections as lines; labels of a section stand in one column."""
    out: list[Strip] = []
    for section in sections:
        if out:
            out.append(paint.blank(width))
        if section.title:
            out.append(paint.row(width).put("  ").outside(section.title, "title").strip())
        labels = [fmt.cells(x.label) for x in section.lines if isinstance(x, Fact)]
        column = min(max(labels, default=0) + 2, max(width // 2 - 2, 8))
        for item in section.lines:
            out += _laid(paint, item, column, width)
    return out


def _laid(paint: Paint, item: Fact | Said | Drawn, column: int, width: int) -> list[Strip]:
    if isinstance(item, Drawn):
        return [paint.row(width).put("  ").add(item.row).strip()]
    if isinstance(item, Said):
        parts = fmt.wrap(fmt.inert(item.text), max(width - 3, 8))
        return [paint.row(width).put("  ").outside(part, item.role).strip() for part in parts]
    row = paint.row(width).put("  ").outside(fmt.fit(item.label, column), "soft")
    if item.value is None:
        return [row.put(fmt.NA, "na").strip()]
    room = max(width - row.x - 1, 8)
    parts = fmt.wrap(fmt.inert(item.value), room) or [""]
    row.outside(parts[0], item.role)
    if item.unit and len(parts) == 1:
        row.outside(f" {item.unit}", "unit")
    rest = [paint.row(width).to(column + 2).outside(part, item.role).strip() for part in parts[1:]]
    return [row.strip(), *rest]

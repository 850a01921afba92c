"""A table of the Line API: keyed rows, a cursor that holds still, marks, order, filter.

Only rows in sight are drawn, and only what differs is sent. A subclass says where the rows come
from and how a cell is drawn; see docs/console.md.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar

from textual import events
from textual.message import Message
from textual.strip import Strip

from console import actions
from console import format as fmt
from console.i18n import n, t
from console.state import Model
from console.widgets import filters
from console.widgets.bars import heading
from console.widgets.lines import Jump
from console.widgets.paint import Paint, Row
from console.widgets.prompt import Prompted
from engine.plain import Plain, late_dataclass

R = TypeVar("R")


@late_dataclass(frozen=True)
class Column(Plain, Generic[R]):
    """One column.

    Args:
        name: heading (marked with ``N_``) and the word filters know it by.
        width: cells with the gap after it; 0 takes what is left (the last column).
        draw: ``draw(row, item, model)`` writes the cell; what is too wide is cut.
        least: the narrowest table that still has it.
        right: the heading stands at the right, ``inner`` cells wide.
        value: what is ordered and compared by; None where the column cannot be.
    """

    name: str
    width: int
    draw: Callable[[Row, R, Model], object]
    least: int = 0
    right: bool = False
    inner: int = 0
    value: Callable[[R], Any] | None = None


class Table(Prompted, Generic[R], can_focus=True):
    """The table. The cursor stays on its row when rows move."""

    SCOPE = "table"
    #: A second scope of keys that hold while this table has the focus, before the table's own.
    OWN_SCOPE: ClassVar[str | None] = None
    BINDINGS = actions.bindings("table")
    COLUMNS: ClassVar[Sequence[Column[Any]]] = ()
    TITLE: ClassVar[str] = ""

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> Table[Any]:
            return self.table

    class Opened(Moved):
        """Enter was pressed on a row, or it was clicked twice."""

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.chosen: Hashable | None = None  # key of the row under the cursor
        self.moved = False  # until the cursor is moved it stays on the first row
        self.marked: set[Hashable] = set()
        self.order: str | None = None  # column ordered by; None: as the rows come
        self.backwards = False
        self.words = ""  # the filter
        self.held = False  # rows keep their places until this is taken back
        self._places: dict[Hashable, int] = {}  # key → place as drawn last, also for holding
        self._top = 0
        self._told: Hashable | None = None  # the row that was said last to be under the cursor
        self._known: tuple[object, ...] = ()  # what _shown was made from
        self._shown: list[R] = []

    # -- for subclasses ----------------------------------------------------------------------

    @abstractmethod
    def rows(self) -> Sequence[R]:
        """All rows in their natural order; the same object as long as nothing changed."""

    @abstractmethod
    def key(self, item: R) -> Hashable:
        """What a row is known by, whatever becomes of it."""

    def words_of(self, item: R) -> str:
        """What the filter's plain words are looked for in."""
        return str(item)

    def empty(self, row: Row) -> Row:
        """What to do next, where there is no row."""
        return row.put(t("Nothing here yet."), "soft")

    def note(self) -> Row:
        """Remarks at the right of the heading."""
        return self.paint.row(0)

    def title(self) -> str:
        return t(self.TITLE)

    def leading(self, row: Row, item: R) -> None:
        """One cell before the columns where marks are shown; a subclass may use it."""
        del item
        row.put(" ")

    # -- what is shown -----------------------------------------------------------------------

    @property
    def scopes(self) -> tuple[str, ...]:
        return (self.OWN_SCOPE, "table") if self.OWN_SCOPE else ("table",)

    def shown(self) -> list[R]:
        """Rows that pass the filter, ordered; made anew when something changed."""
        rows = self.rows()
        words = self.prompt.text if self.prompt.open else self.words
        made_from = (id(rows), len(rows), words, self.order, self.backwards, self.held, self.stamp)
        if made_from != self._known or self._source is not rows:
            self._known, self._source = made_from, rows
            self._shown = self._arranged(list(rows), words or "")
            self._places = {self.key(item): at for at, item in enumerate(self._shown)}
        return self._shown

    _source: object = None
    #: Changes when rows of the same list show something else; a subclass may count it up.
    stamp: int = 0

    def _arranged(self, rows: list[R], words: str) -> list[R]:
        columns = {c.name.casefold(): c for c in self.COLUMNS if c.value is not None}
        columns |= {t(c.name).casefold(): c for c in columns.values()}  # in one's own language too
        terms = filters.parse(words, columns)
        if terms:
            rows = [item for item in rows if self._passes(item, terms, columns)]
        column = columns.get((self.order or "").casefold())
        if column is not None and column.value is not None:
            of = column.value
            known = [item for item in rows if of(item) is not None]
            known.sort(key=of, reverse=self.backwards)
            rows = known + [item for item in rows if of(item) is None]
        elif self.backwards:
            rows.reverse()
        if self.held:
            place = self._places
            rows.sort(key=lambda item: place.get(self.key(item), len(place)))
        return rows

    def _passes(self, item: R, terms: list[filters.Term], columns: dict[str, Column[R]]) -> bool:
        values = {name: _value(column, item) for name, column in columns.items()}
        return filters.passes(terms, lambda: self.words_of(item), values)

    @property
    def item(self) -> R | None:
        """The row under the cursor."""
        rows = self.shown()
        if not rows:
            return None
        if not self.moved:
            self.chosen = self.key(rows[0])
            return rows[0]
        at = self._at(rows)
        self.chosen = self.key(rows[at])
        return rows[at]

    def _at(self, rows: Sequence[R]) -> int:
        """Index of the row under the cursor; where it stood, if it is gone."""
        at = self._places.get(self.chosen)
        if at is not None:
            self._last_at = at
            return at
        return min(max(self._last_at, 0), max(len(rows) - 1, 0))

    _last_at = 0

    def selected(self) -> list[R]:
        """Marked rows, or the one under the cursor."""
        marked = [item for item in self.shown() if self.key(item) in self.marked]
        if marked:
            return marked
        item = self.item
        return [] if item is None else [item]

    # -- drawing -----------------------------------------------------------------------------

    def columns_for(self, width: int) -> list[Column[R]]:
        return [column for column in self.COLUMNS if width >= column.least]

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        rows = self.shown()
        self._tell_where()  # a filter or new rows may have put another row under the cursor
        room = max(height - 2 - self.prompt.open, 1)
        at = self._at(rows)
        self._top = min(max(self._top, at - room + 1), at, max(len(rows) - room, 0))
        lines = [heading(self.paint, self.title(), width, self.has_focus, self._remarks(at, room))]
        if rows or self.words or self.prompt.open:
            columns = self.columns_for(width)
            lines.append(self.heads(columns, width))
            inside = rows[self._top : self._top + room]
            lines += [self.line(item, columns, width) for item in inside]
            if not rows:
                row = self.paint.row(width).put("  ")
                said = t("No row has these words; {key} takes them away.")
                lines.append(row.phrase(said, key="Esc").strip())
        else:
            lines.append(self.empty(self.paint.row(width).put("  ")).strip())
        if self.prompt.open:
            lines += [self.paint.blank(width)] * (height - 1 - len(lines))
            lines.append(self.prompt.draw(self.paint.row(width), "/").strip())
        return lines

    def _tell_where(self) -> None:
        """Say that another row is under the cursor, whatever put it there."""
        item = self.item
        here = None if item is None else self.key(item)
        if here != self._told:
            self._told = here
            self.post_message(self.Moved(self))

    def _remarks(self, at: int, room: int) -> Row:
        note = self.paint.row(100)
        if self.marked:
            note.put(n("{count} marked", "{count} marked", len(self.marked)), "accent").put("  ")
        if self.words and not self.prompt.open:
            note.put("/", "accent").outside(fmt.short(self.words, 24)).put("  ")
        rows, all_rows = len(self._shown), len(self.rows())
        if rows != all_rows:
            note.put(t("{some} of {all} rows", some=f"{rows:,}", all=f"{all_rows:,}"), "soft")
        elif rows > room:
            note.put(t("{at} of {count}", at=at + 1, count=f"{rows:,}"), "soft")
        own = self.note()
        if own.x:
            note.put("  " if note.x else "")
            note.add(own)
        return note

    def heads(self, columns: Sequence[Column[R]], width: int) -> Strip:
        """The line of headings; the column ordered by has an arrow."""
        row = self.paint.row(width).put(" ")
        x = 1
        for column in columns:
            row.to(x)
            ordered = self.order == column.name
            name = t(column.name) + (("↓" if self.backwards else "↑") if ordered else "")
            role = "accent" if ordered else "faint"
            row.put(fmt.right(name, column.inner) if column.right else name, role)
            x += column.width
        return row.strip()

    def line(self, item: R, columns: Sequence[Column[R]], width: int) -> Strip:
        """One row in one line; the one under the cursor is laid on the cursor's ground."""
        key = self.key(item)
        chosen = key == self.chosen
        row = self.paint.row(width, cursor=chosen and self.has_focus)
        if key in self.marked:
            row.put("+" if not self.paint.unicode else "✓", "accent")
        elif chosen:
            row.put("▌", "accent" if self.has_focus else "faint")
        else:
            self.leading(row, item)
        x = 1
        for column in columns:
            row.to(x)
            x = x + column.width if column.width else width
            row.limit(x - 1 if x < width else width)
            column.draw(row, item, self.model)
            row.limit(width)
        return row.strip()

    def jumps(self) -> list[Jump]:
        """The table, and each row that is shown."""
        last = min(len(self._shown) - self._top, self.size.height - HEADS - self.prompt.open)
        rows = [Jump(0, HEADS + y, partial(self._jump, self._top + y)) for y in range(last)]
        return [*super().jumps(), *rows]

    def _jump(self, index: int) -> None:
        self.focus()
        self.go(index)

    # -- keys --------------------------------------------------------------------------------

    def go(self, index: int) -> None:
        """Put the cursor on a row by its place."""
        rows = self.shown()
        if rows:
            self._last_at = min(max(index, 0), len(rows) - 1)
            self.chosen = self._told = self.key(rows[self._last_at])
            self.moved = True
            self.update()
            self.post_message(self.Moved(self))

    def choose(self, key: Hashable) -> None:
        """Put the cursor on a row by its key; nothing happens if it is not shown."""
        self.shown()
        at = self._places.get(key)
        if at is not None:
            self.go(at)

    def action_move(self, by: int) -> None:
        self.go(self._at(self.shown()) + by)

    def action_leaf(self, by: int) -> None:
        self.go(self._at(self.shown()) + by * max(self.size.height - 2, 1))

    def action_edge(self, to: int) -> None:
        self.go(0 if to < 0 else len(self.shown()))

    def action_open(self) -> None:
        if self.item is not None:
            self.post_message(self.Opened(self))

    def action_mark(self) -> None:
        item = self.item
        if item is not None:
            self.marked ^= {self.key(item)}
            self.action_move(1)

    def action_mark_all(self) -> None:
        keys = {self.key(item) for item in self.shown()}
        self.marked = set() if keys <= self.marked else keys
        self.update()

    def unmark(self) -> None:
        """What was to be done to the marked rows is done."""
        self.marked = set()
        self.update()

    def action_sort(self, by: int) -> None:
        names = [None, *(c.name for c in self.COLUMNS if c.value is not None)]
        at = names.index(self.order) if self.order in names else 0
        self.order = names[(at + by) % len(names)]
        self.update()

    def action_reverse(self) -> None:
        self.backwards = not self.backwards
        self.update()

    def action_filter(self) -> None:
        self.prompt.begin(self.words)
        self.update()

    def other_key(self, event: events.Key) -> None:
        """Escape takes filter and marks away."""
        if event.key == "escape" and (self.words or self.marked):
            event.stop()
            event.prevent_default()
            self.words = ""
            self.unmark()

    def typed(self, outcome: str) -> None:
        if outcome == "done":
            self.words = self.prompt.close()
        elif outcome == "left":
            self.prompt.close()
            self.words = ""

    def on_click(self, event: events.Click) -> None:
        at = self._top + event.y - HEADS
        if event.y >= HEADS and at < len(self._shown):
            self.go(at)
            if event.chain == 2:
                self.action_open()

    def on_mouse_scroll_up(self) -> None:
        self.action_move(-3)

    def on_mouse_scroll_down(self) -> None:
        self.action_move(3)


def _value(column: Column[R], item: R) -> Callable[[], Any]:
    of = column.value
    return lambda: None if of is None else of(item)


HEADS: Final = 2  # rows above the first one: heading and column names

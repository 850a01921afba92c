"""A page as docs/console.md tells to make one: a table of numbers and its details."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.widget import Widget

from console.keys.kinds import PageEntry
from console.screens.base import Page
from console.state import Model
from console.widgets.details import Details, Fact, Said, Section
from console.widgets.paint import Paint, Row
from console.widgets.table import Column, Table

ENTRY = PageEntry("sample", "9", "tests.console.sample_page:SamplePage", "sample", "Numbers.")


class Numbers(Table[int]):
    SHOWS = frozenset({"jobs"})
    TITLE = "Numbers"
    COLUMNS: ClassVar[Sequence[Column[int]]] = (
        Column("number", 10, lambda row, item, _m: row.put(f"{item:>8}"), value=lambda i: i),
        Column("word", 0, lambda row, item, _m: row.put("even" if item % 2 == 0 else "odd")),
    )

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint, id="numbers")
        self.numbers: list[int] = list(range(40))

    def rows(self) -> Sequence[int]:
        return self.numbers

    def key(self, item: int) -> Hashable:
        return item

    def words_of(self, item: int) -> str:
        return f"{item} {'even' if item % 2 == 0 else 'odd'}"

    def empty(self, row: Row) -> Row:
        return row.phrase("Press {key} to count.", key="c")


class About(Details):
    TITLE = "About"

    def __init__(self, model: Model, paint: Paint, table: Numbers) -> None:
        super().__init__(model, paint, id="about")
        self.table = table

    def sections(self, width: int) -> Sequence[Section]:
        item = self.table.item
        square = None if item is None else str(item * item)
        return [
            Section("facts", [Fact("square", square, "cells"), Fact("limit", None)]),
            Section("", [Said("\x1b[31mtext from outside, " * 20)]),
        ]


class SamplePage(Page):
    NAME = "sample"
    DEFAULT_CSS = "SamplePage > Numbers { height: 2fr; } SamplePage > About { height: 1fr; }"

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.table = Numbers(model, paint)
        self.about = About(model, paint, self.table)

    def body(self) -> ComposeResult:
        yield self.table
        yield self.about

    def first_focus(self) -> Widget:
        return self.table

    def on_table_moved(self) -> None:
        self.about.update()

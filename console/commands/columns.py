"""Tables of verbs: heads in the person's language, columns as wide as they need, in cells."""

from __future__ import annotations

from typing import Final, NamedTuple

from console import format as fmt
from console.i18n import t


class Col(NamedTuple):
    """A column. ``head`` is a message of the catalogue (``N_``).

    Args:
        width: cells at least; 0, for the last one: the rest of the line.
        right: figures, aligned on their end. gap: blanks before it.
    """

    head: str
    width: int = 0
    right: bool = False
    gap: int = 1


class Columns:
    """Pads cells of text; what is wider than its column is not cut."""

    def __init__(self, *columns: Col) -> None:
        self.columns: Final = columns

    def head(self) -> str:
        """The row of heads."""
        return self.row(*(t(column.head) for column in self.columns))

    def row(self, *texts: str) -> str:
        """One row; ``texts`` are one for each column."""
        line = ""
        for number, (column, text) in enumerate(zip(self.columns, texts, strict=True)):
            width = max(column.width, fmt.cells(t(column.head))) if column.width else 0
            blank = " " * (width - fmt.cells(text))
            line += " " * column.gap * bool(number) + (
                blank + text if column.right else text + blank
            )
        return line.rstrip()

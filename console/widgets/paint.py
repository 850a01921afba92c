"""Rows of styled cells: the one way the console's widgets write text.

A :class:`Row` is filled from left to right with (text, role) pieces, never wider than asked, and
becomes a Textual ``Strip``. :class:`Paint` holds what all rows share: the theme and whether the
terminal shows more than ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby, islice
from operator import itemgetter
from string import Formatter
from typing import Any, Final

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.theme import Theme

#: One letter per owner where neither colour nor pattern can be shown.
OWNER_LETTERS: Final = {
    "weights": "w", "gathered": "g", "streamed": "s", "kv": "k", "conditioning": "c",
    "activations": "a", "vae": "v", "context": "x", "slack": "_", "other": "o", "foreign": "f",
}  # fmt: skip

#: Which of a braille cell's dots an owner may set in monochrome (see plot.py for the bits).
OWNER_PATTERNS: Final = {
    "weights": 0xFF, "gathered": 0x95, "streamed": 0x47, "kv": 0x2D, "conditioning": 0xD2,
    "activations": 0x6A, "vae": 0xDB, "context": 0xB8, "slack": 0x11, "other": 0x81,
    "foreign": 0xF6,
}  # fmt: skip


#: Pieces of text that are remembered, a few screens full.
MEMORY: Final = 8_000
_role = itemgetter(1)


class Paint:
    """Theme and character set of one console."""

    def __init__(self, theme: Theme, unicode: bool = True, raised: bool = False) -> None:
        self.theme = theme
        self.unicode = unicode
        self._raised = raised
        self._styles = {cursor: _Styles(self, cursor) for cursor in (False, True)}
        self.segments = {cursor: _Segments(styles) for cursor, styles in self._styles.items()}
        self._blanks: dict[int, Strip] = {}
        self.drawn: dict[object, dict[tuple[int, int], Any]] = {}  # columns of plots (plot.py)

    def change(self, theme: Theme) -> None:
        """Wear another theme from now on."""
        self.theme = theme
        for cursor, styles in self._styles.items():
            styles.clear()
            self.segments[cursor].clear()
        self._blanks.clear()
        self.drawn.clear()

    def raised(self) -> Paint:
        """The same on the ground of dialogs."""
        return Paint(self.theme, self.unicode, raised=True)

    def styles(self, cursor: bool = False) -> Mapping[str, Style]:
        """Styles by role; on the cursor's ground or not."""
        return self._styles[cursor]

    def style(self, role: str) -> Style:
        return self._styles[False][role]

    def mix(self, role: str, cursor: bool) -> Style:
        """A role's style on the ground it stands on."""
        style = self.theme.style(role)
        if self._raised and self.theme.raised != self.theme.base:
            ground = self.theme.style("text").bgcolor
            if style.bgcolor == ground:
                style = style + Style(bgcolor=self.theme.raised)
        return style + self.theme.cursor if cursor else style

    def text(self, text: str) -> str:
        """Our own text in the terminal's character set."""
        return text if self.unicode else fmt.plain(text)

    @property
    def ellipsis(self) -> str:
        """What stands where a text was cut."""
        return "…" if self.unicode else "..."

    def shape(self, state: str) -> str:
        look = fmt.state(state)
        return look.shape if self.unicode else look.ascii

    def swatch(self, owner: str) -> str:
        """One cell that stands for an owner of memory in legends and bars."""
        if not self.unicode:
            return OWNER_LETTERS[owner]
        if self.theme.patterned:
            return chr(0x2800 | OWNER_PATTERNS[owner])
        return "█"

    def row(self, width: int, cursor: bool = False) -> Row:
        return Row(self, width, cursor)

    def blank(self, width: int) -> Strip:
        strip = self._blanks.get(width)
        if strip is None:
            strip = self._blanks[width] = Row(self, width).strip()
        return strip

    def rule(self, width: int) -> Strip:
        return Row(self, width).put("─" * width, "rule").strip()


class _Styles(dict[str, Style]):
    """Styles by role, each made when it is first asked for."""

    def __init__(self, paint: Paint, cursor: bool) -> None:
        super().__init__()
        self._paint = paint
        self._cursor = cursor

    def __missing__(self, role: str) -> Style:
        style = self[role] = self._paint.mix(role, self._cursor)
        return style


class _Segments(dict[tuple[str, str], Segment]):
    """Pieces (text, role) as Textual has them: most of a picture's were in the last one too."""

    def __init__(self, styles: _Styles) -> None:
        super().__init__()
        self._of = styles

    def __missing__(self, piece: tuple[str, str]) -> Segment:
        if len(self) >= MEMORY:
            self.clear()
        text, role = piece
        segment = self[piece] = Segment(text, self._of[role])
        return segment


class Row:
    """One line under construction; pieces beyond the width are cut."""

    __slots__ = ("_cursor", "_paint", "_pieces", "width", "x")

    def __init__(self, paint: Paint, width: int, cursor: bool = False) -> None:
        self._paint = paint
        self._cursor = cursor
        self._pieces: list[tuple[str, str]] = []
        self.width = width
        self.x = 0

    @property
    def left(self) -> int:
        """Cells still free."""
        return self.width - self.x

    def put(self, text: str, role: str = "text") -> Row:
        """Append our own text. Characters outside ASCII get their twins where needed."""
        return self.raw(text if self._paint.unicode else fmt.plain(text), role)

    def raw(self, text: str, role: str = "text") -> Row:
        """Append text as it is (already inert, already in the terminal's character set)."""
        left = self.width - self.x
        if not text or left <= 0:
            return self
        length = len(text) if text.isascii() else fmt.cells(text)
        if length > left:
            text, length = set_cell_size(text, left), left
        pieces = self._pieces
        if pieces and pieces[-1][1] == role:
            pieces[-1] = (pieces[-1][0] + text, role)
        else:
            pieces.append((text, role))
        self.x += length
        return self

    def outside(self, text: str, role: str = "text") -> Row:
        """Append text that came from outside: control characters shown, never obeyed.

        What is cut says so with an ellipsis.
        """
        text = fmt.inert(text)
        if not self._paint.unicode:
            text = fmt.plain(text)
        left = self.width - self.x
        if len(text) * 2 > left > 0:  # wide characters take two cells
            text = fmt.short(text, left, self._paint.ellipsis)
        return self.raw(text, role)

    def ending(self, text: str, role: str = "text", most: int | None = None) -> Row:
        """The same where the end tells more: a file's name before its folders.

        Args:
            most: cells; default: all that are free.
        """
        text = self._paint.text(fmt.inert(text))
        room = self.left if most is None else min(most, self.left)
        return self.raw(fmt.fit_left(text, room, self._paint.ellipsis).rstrip(), role)

    def to(self, x: int) -> Row:
        """Pad with blanks up to column ``x``."""
        blanks = min(x, self.width) - self.x
        return self.raw(" " * blanks, "text") if blanks > 0 else self

    def number(self, value: float | None, unit: str, role: str = "text", width: int = 0) -> Row:
        """A figure right-aligned in ``width`` cells, then its unit dimmed; n/a where unknown."""
        figure, unit = fmt.number(value, unit)
        return self.figure(figure, unit, role, width)

    def size(self, count: int | None, width: int = 0) -> Row:
        """Bytes in the unit that gives a readable figure: files span seven orders of magnitude."""
        return self.figure(*fmt.size(count), width=width)

    def whole(self, value: float | None, unit: str, role: str = "text", width: int = 0) -> Row:
        """The same for readings whose fractions mean nothing: degrees, watts, percent."""
        figure, unit = fmt.whole(value, unit)
        return self.figure(figure, unit, role, width)

    def figure(self, figure: str, unit: str, role: str = "text", width: int = 0) -> Row:
        if figure == fmt.NA:
            return self.raw(figure.rjust(width + (len(unit) + 1 if unit else 0)), "na")
        self.raw(figure.rjust(width), role)
        return self.put(f" {unit}", "unit") if unit else self

    def state(self, name: str, width: int = 0) -> Row:
        """Shape, word and colour of a state."""
        look = fmt.state(name)
        self.raw(f"{self._paint.shape(name)} ", look.role)
        word = t(look.word)
        return self.put(fmt.fit(word, width) if width else word, look.role)

    def phrase(self, sentence: str, role: str = "soft", **keys: str) -> Row:
        """A translated sentence in which ``{names}`` stand for keys, drawn as keys.

        ``row.phrase(t("Press {key} to submit one."), key="s")``
        """
        for literal, name, _spec, _conversion in Formatter().parse(sentence):
            self.put(literal, role)
            if name:
                self.put(keys.get(name, "{" + name + "}"), "key")
        return self

    def cells(self, cells: Iterable[tuple[str, str]]) -> Row:
        """Append single-width cells of a plot, equal neighbours joined."""
        for role, same in groupby(islice(cells, max(self.left, 0)), _role):
            text = "".join([cell for cell, _role in same])
            self._pieces.append((text, role))
            self.x += len(text)
        return self

    def right(self, other: Row) -> Row:
        """Append another row so that it ends at the right edge."""
        return self.to(self.width - other.x).add(other)

    def add(self, other: Row) -> Row:
        """Append what another row holds."""
        if other.x <= self.width - self.x:
            self._pieces += other._pieces
            self.x += other.x
            return self
        for text, role in other._pieces:
            self.raw(text, role)
        return self

    def limit(self, x: int) -> None:
        """Let nothing be written beyond column ``x`` until the next limit."""
        self.width = x

    @property
    def pieces(self) -> list[tuple[str, str]]:
        """What was written so far: (text, role)."""
        return self._pieces

    def text(self) -> str:
        return "".join(text for text, _role in self._pieces)

    def strip(self) -> Strip:
        """The finished line, padded to its width."""
        self.to(self.width)
        segments = self._paint.segments[self._cursor]
        return Strip([segments[piece] for piece in self._pieces], self.width)

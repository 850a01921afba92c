"""Fewer bytes for the same picture: colours are set where they change, not for every piece.

Textual's compositor wraps every piece of text in its own full style and a reset, and sends each
changed row from its widget's left edge on. Within one frame most neighbours share the ground, often
the ink too; over a slow line half of a frame is that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from rich.color import Color, ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.strip import Strip

from console.format import cells

#: Flags, ink and ground, as the codes that set them.
Attributes = tuple[str, str, str]

_RESET: Final[Attributes] = ("", "", "")
_PLAIN: Final = frozenset({"", "1", "2"})  # flags that do not show on a blank
_FLAGS: Final = (
    ("bold", "1"), ("dim", "2"), ("italic", "3"), ("underline", "4"), ("blink", "5"),
    ("reverse", "7"), ("strike", "9"),
)  # fmt: skip


class Spans(ChopsUpdate):
    """A partial update that sends the changed spans of a row and nothing left of them."""

    def render_segments(self, console: Console) -> str:
        pen = Pen(console)
        measured: dict[int, list[int]] = {}  # a row's strips, by their identity
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, first), min(end, last)
                if strip is not None and start < stop:
                    ends = measured.get(id(strip)) or measured.setdefault(id(strip), edges(strip))
                    pen.move(start, y)
                    for text, style in cut(strip, ends, start - x, stop - x):
                        pen.write(text, style)
        return pen.end()


class Whole(LayoutUpdate):
    """A full update."""

    def render_segments(self, console: Console) -> str:
        pen = Pen(console)
        for y, line in enumerate(self.strips, self.region.y):
            pen.move(self.region.x, y)
            for strip in line:
                for text, style, _control in strip:
                    pen.write(text, style)
        return pen.end()


def edges(strip: Strip) -> list[int]:
    """The cells at which the pieces of a strip end."""
    return list(accumulate(cells(segment.text) for segment in strip._segments))


def cut(
    strip: Strip, ends: Sequence[int], start: int, stop: int
) -> Iterator[tuple[str, Style | None]]:
    """The pieces of a strip between two cells; half of a wide character becomes a blank.

    Args:
        ends: as ``edges`` tells: several spans are cut out of one strip.
    """
    at = bisect_right(ends, start)
    x = ends[at - 1] if at else 0
    for n in range(at, len(ends)):
        text, style, _control = segment = strip._segments[n]
        end = ends[n]
        if x < start or end > stop:
            if end - x == len(text):
                text = text[max(start - x, 0) : stop - x]
            else:
                text = Segment.split_cells(segment, min(stop, end) - x)[0].text
                text = Segment(text).split_cells(max(start - x, 0))[1].text
        yield text, style
        if end >= stop:
            return
        x = end


class Pen:
    """Writes pieces of text; a frame begins and ends with all attributes off."""

    def __init__(self, console: Console) -> None:
        names = {system.name.lower(): system for system in ColorSystem}
        self._system = names.get(console.color_system or "", ColorSystem.TRUECOLOR)
        self._present = _RESET
        self._out: list[str] = []

    def move(self, x: int, y: int) -> None:
        """Go on at a cell, counted from 0."""
        self._out.append(f"\x1b[{y + 1};{x + 1}H")

    def write(self, text: str, style: Style | None) -> None:
        wanted = _RESET if style is None else attributes(style, self._system)
        if wanted != self._present and not (self._blank_in(wanted) and text.isspace()):
            self._out.append(_change(self._present, wanted))
            self._present = wanted
        self._out.append(text)

    def _blank_in(self, wanted: Attributes) -> bool:
        """Whether blanks look the same in both attributes: they show no ink."""
        present = self._present
        return wanted[2] == present[2] and wanted[0] in _PLAIN and present[0] in _PLAIN

    def end(self) -> str:
        """The whole frame."""
        if self._present != _RESET:
            self._out.append("\x1b[0m")
        return "".join(self._out)


@lru_cache(4096)
def attributes(style: Style, system: ColorSystem) -> Attributes:
    """What a style asks of the terminal."""
    flags = ";".join(code for name, code in _FLAGS if getattr(style, name))
    return flags, _codes(style.color, system, True), _codes(style.bgcolor, system, False)


def _codes(color: Color | None, system: ColorSystem, ink: bool) -> str:
    if color is None or color.is_default:
        return ""
    return ";".join(color.downgrade(system).get_ansi_codes(ink))


def _change(present: Attributes, wanted: Attributes) -> str:
    """The shortest sequence from one set of attributes to another."""
    if wanted == _RESET:
        return "\x1b[0m"
    if present[0] != wanted[0]:
        codes = [part for part in wanted if part]
        return f"\x1b[0;{';'.join(codes)}m"
    codes = []
    if present[1] != wanted[1]:
        codes.append(wanted[1] or "39")
    if present[2] != wanted[2]:
        codes.append(wanted[2] or "49")
    return f"\x1b[{';'.join(codes)}m"

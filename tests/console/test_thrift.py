"""Is the thrifty stream the same picture? A terminal emulator decides."""

from __future__ import annotations

import random

import pyte
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from console.thrift import slim
from console.widgets.lines import changes

STYLES = ["", "1", "2", "7", "4", "31", "38;2;1;2;3", "38;2;9;9;9;48;2;4;5;6", "1;38;5;9", "0;32",
          "97;104", "1;4;48;2;4;5;6"]  # fmt: skip


def screen(stream: str) -> list[list[object]]:
    """Cells of an 20×6 terminal after a stream; the ink of blanks does not count."""
    display = pyte.Screen(20, 6)
    pyte.Stream(display).feed(stream)
    cells: list[list[object]] = []
    for y in range(6):
        row: list[object] = []
        for x in range(20):
            c = display.buffer[y][x]
            visible = c.data != " " or c.reverse or c.underscore
            row.append((c.data, c.bg, c.reverse, c.underscore, (c.fg, c.bold) if visible else None))
        cells.append(row)
    return cells


def test_random_frames_look_the_same_slimmed() -> None:
    rng = random.Random(3)
    for _ in range(300):
        frame = ""
        for _piece in range(rng.randrange(1, 12)):
            if rng.random() < 0.4:
                frame += f"\x1b[{rng.randrange(1, 6)};{rng.randrange(1, 10)}H"
            text = "".join(rng.choice("ab  ") for _ in range(rng.randrange(0, 5)))
            style = rng.choice(STYLES)
            frame += f"\x1b[{style}m{text}\x1b[0m" if style else text
        assert screen(slim(frame)) == screen(frame), repr(frame)


def test_only_what_differs_is_sent() -> None:
    rng = random.Random(5)
    styles = [Style.parse("red on black"), Style.parse("green on black"), Style.parse("on blue")]

    def strip() -> Strip:
        cells = [Segment(rng.choice("ab x数" if rng.random() < 0.1 else "ab x"), rng.choice(styles))
                 for _ in range(30)]  # fmt: skip
        return Strip(cells).adjust_cell_length(30, styles[0])

    for _ in range(300):
        before = strip()
        after = Strip.join([before.crop(0, 10), strip().crop(0, 8), before.crop(18, 30)])
        spans = changes(before, after)
        merged = before
        for first, last in spans:
            merged = Strip.join([merged.crop(0, first), after.crop(first, last), merged.crop(last)])

        def cells(strip: Strip) -> list[object]:
            return [
                (c, s.style and s.style.bgcolor, s.style and c != " " and s.style.color)
                for s in strip
                for c in s.text
            ]  # fmt: skip

        assert cells(merged) == cells(after)


def test_equal_rows_send_nothing() -> None:
    row = Strip([Segment("same", Style.parse("red"))])
    assert changes(row, row) == []
    assert changes(row, Strip([Segment("same", Style.parse("red"))])) == []

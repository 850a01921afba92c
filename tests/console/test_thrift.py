"""Is the thrifty stream the same picture? A terminal emulator decides."""

from __future__ import annotations

import random

import pyte
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from console.thrift import Whole, cut, edges
from console.widgets.lines import changes

STYLES = [None, *map(Style.parse, (
    "", "bold", "dim", "reverse", "underline", "red", "#010203", "#090909 on #040506",
    "bold color(9)", "default on default", "bright_white on bright_blue",
    "bold underline on #040506",
))]  # fmt: skip


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


def test_random_frames_look_the_same_in_fewer_bytes() -> None:
    rng = random.Random(3)
    console = Console(color_system="truecolor")
    plain = slim = 0
    for _ in range(200):
        lines = [[_strip(rng), _strip(rng)] for _ in range(6)]
        region = Region(0, 0, 20, 6)
        frames = [kind(lines, region).render_segments(console) for kind in (LayoutUpdate, Whole)]
        assert screen(frames[0]) == screen(frames[1]), repr(frames)
        plain, slim = plain + len(frames[0]), slim + len(frames[1])
    assert slim < plain * 0.85


def test_a_part_of_a_row_is_what_the_whole_row_has_there() -> None:
    rng = random.Random(4)
    for _ in range(200):
        strip = _strip(rng)
        start = rng.randrange(9)
        stop = rng.randrange(start + 1, 11)
        text = "".join(text for text, _style in cut(strip, edges(strip), start, stop))
        assert text == strip.crop(start, stop).text


def _strip(rng: random.Random) -> Strip:
    """Ten cells in some styles, some of them wide."""
    pieces = [Segment("".join(rng.choice("ab  数") for _ in range(3)), rng.choice(STYLES))
              for _ in range(4)]  # fmt: skip
    return Strip(pieces).crop(0, 10).adjust_cell_length(10)


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

"""A picture of the screen as SVG, drawn cell by cell.

Braille, blocks and half blocks become shapes, so that the picture looks the same whatever fonts
the viewer has; the rest is text placed word by word on the grid.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual.strip import Strip

CELL_W: Final = 8.4
CELL_H: Final = 17.0
MARGIN: Final = 14.0
_DOTS: Final = ((0x01, 0, 0), (0x02, 0, 1), (0x04, 0, 2), (0x40, 0, 3),
                (0x08, 1, 0), (0x10, 1, 1), (0x20, 1, 2), (0x80, 1, 3))  # fmt: skip
#: Parts of a cell that block characters fill: x, y, width, height in cells.
_BLOCKS: Final = {
    "█": (0.0, 0.0, 1.0, 1.0), "▀": (0.0, 0.0, 1.0, 0.5), "▄": (0.0, 0.5, 1.0, 0.5),
    "▌": (0.0, 0.0, 0.5, 1.0), "▐": (0.5, 0.0, 0.5, 1.0), "▏": (0.0, 0.0, 0.12, 1.0),
    "▕": (0.88, 0.0, 0.12, 1.0), "─": (0.0, 0.47, 1.0, 0.06), "│": (0.46, 0.0, 0.08, 1.0),
}  # fmt: skip


def svg(lines: Sequence[Strip], foreground: str, background: str, title: str = "avatop") -> str:
    """The lines of a screen as one SVG document.

    Args:
        foreground, background: colours of cells whose style names none, as ``#rrggbb``.
    """
    columns = max((line.cell_length for line in lines), default=0)
    width, height = columns * CELL_W + 2 * MARGIN, len(lines) * CELL_H + 2 * MARGIN
    body: list[str] = []
    for y, line in enumerate(lines):
        _line(body, line, y, foreground, background)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{html.escape(title)}">\n'
        "<style>text{font-family:'DejaVu Sans Mono','Menlo','Consolas',monospace;"
        "font-size:13.9px;white-space:pre}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{background}"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _line(body: list[str], line: Strip, y: int, foreground: str, background: str) -> None:
    x = 0
    for segment in line:
        if segment.control:
            continue
        style = segment.style or Style.null()
        ink, ground = _colours(style, foreground, background)
        width = cell_len(segment.text)
        if ground != background:
            body.append(_rect(x, y, (0.0, 0.0, float(width), 1.0), ground))
        _text(body, segment.text, x, y, ink, bool(style.bold))
        x += width


def _colours(style: Style, foreground: str, background: str) -> tuple[str, str]:
    def name(color: Color | None, default: str) -> str:
        return default if color is None else color.get_truecolor().hex

    color = None if style.color is None or style.color.is_default else style.color
    under = None if style.bgcolor is None or style.bgcolor.is_default else style.bgcolor
    ink, ground = name(color, foreground), name(under, background)
    if style.reverse:
        ink, ground = ground, ink
    return (_mixed(ink, ground) if style.dim else ink), ground


def _mixed(ink: str, ground: str) -> str:
    pairs = zip(bytes.fromhex(ink[1:]), bytes.fromhex(ground[1:]), strict=True)
    return "#" + "".join(f"{(a * 55 + b * 45) // 100:02x}" for a, b in pairs)


def _at(x: float, y: float) -> tuple[float, float]:
    return MARGIN + x * CELL_W, MARGIN + y * CELL_H


def _rect(x: float, y: float, part: tuple[float, float, float, float], fill: str) -> str:
    left, top = _at(x + part[0], y + part[1])
    return (
        f'<rect x="{left:.2f}" y="{top:.2f}" width="{part[2] * CELL_W + 0.02:.2f}" '
        f'height="{part[3] * CELL_H + 0.02:.2f}" fill="{fill}"/>'
    )


def _text(body: list[str], text: str, x: int, y: int, ink: str, bold: bool) -> None:
    word, start = "", x
    dots: list[str] = []

    def flush() -> None:
        nonlocal word
        if word.strip():
            left, top = _at(start, y)
            weight = ' font-weight="bold"' if bold else ""
            length = cell_len(word) * CELL_W
            body.append(
                f'<text x="{left:.2f}" y="{top + CELL_H * 0.76:.2f}" fill="{ink}"{weight} '
                f'textLength="{length:.2f}">{html.escape(word)}</text>'
            )
        word = ""

    for character in text:
        block = _BLOCKS.get(character)
        if 0x2800 <= ord(character) <= 0x28FF:
            flush()
            dots.extend(_braille(ord(character) - 0x2800, x, y))
        elif block is not None:
            flush()
            body.append(_rect(x, y, block, ink))
        elif character == " ":
            flush()
        else:
            if not word:
                start = x
            word += character
        x += cell_len(character)
    flush()
    if dots:
        body.append(f'<path d="{"".join(dots)}" fill="{ink}"/>')


def _braille(mask: int, x: int, y: int) -> Iterable[str]:
    left, top = _at(x, y)
    size = CELL_W * 0.36
    for bit, column, row in _DOTS:
        if mask & bit:
            px = left + (column + 0.5) * CELL_W / 2 - size / 2
            py = top + (row + 0.5) * CELL_H / 4 - size / 2
            yield f"M{px:.1f} {py:.1f}h{size:.1f}v{size:.1f}h-{size:.1f}z"

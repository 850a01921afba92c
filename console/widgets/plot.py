"""Filled area plots out of braille dots (2×4 per cell), or letters where there is no braille.

One routine draws memory by owner, temperature and anything else that is a stack over time. Columns
come max-pooled (console/history.py), time ends at the right, what is unknown stays blank.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from console.history import Stack
from console.widgets.paint import OWNER_LETTERS, OWNER_PATTERNS, Paint

Cell = tuple[str, str]  # character, role
Pair = tuple[Stack | None, Stack | None]  # the columns of one cell

_LEFT: Final = (0x00, 0x40, 0x44, 0x46, 0x47)  # n dots from the bottom, left half of a cell
_RIGHT: Final = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
_LINE: Final = (0xC0, 0x24, 0x12, 0x09)  # both dots of one row, counted from the bottom
_DOTTED: Final = (0x40, 0x04, 0x02, 0x01)
_BLANK: Final[Cell] = (" ", "text")
HALF: Final = 2  # dots of a cell's four
EDGE: Final = 2  # dots of an outline
MEMORY: Final = 20_000  # drawn columns that are remembered
_ROLES: Final = {owner: f"owner.{owner}" for owner in OWNER_LETTERS}


def per_cell(paint: Paint) -> int:
    """Columns of time in one cell."""
    return 2 if paint.unicode else 1


def level(value: float | None, top: float, floor: float, dots: int) -> int | None:
    """Row of dots of a value, counted from the bottom; None where it lies outside the plot."""
    if value is None or value <= floor or value > top * 1.0001 or top <= floor:
        return None
    return min(max(round((value - floor) * dots / (top - floor)) - 1, 0), dots - 1)


def area(
    paint: Paint,
    columns: Sequence[Stack | None],
    height: int,
    top: float,
    *,
    floor: float = 0.0,
    plan: float | None = None,
    capacity: float | None = None,
    marks: Collection[int] = (),
    outline: bool = False,
) -> list[list[Cell]]:
    """Rows of cells from top to bottom.

    Args:
        columns: stacked values, ``per_cell(paint)`` of them per cell, oldest first.
        height: rows of cells.
        top: value at the upper edge; ``floor`` at the lower one.
        plan: a line drawn through the plot; what rises above it changes colour.
        capacity: a dotted line, left out where it lies above the plot.
        marks: cell columns that get a ``▲`` above their area (spikes).
        outline: draw the upper edge alone, for what is a level and not an amount.
    """
    step = per_cell(paint)
    width = len(columns) // step
    dots = 4 if paint.unicode else 1
    full = height * dots
    scale = full / (top - floor) if top > floor else 0.0

    line, ceiling = level(plan, top, floor, full), level(capacity, top, floor, full)
    shape = _Frame(height, full, floor, scale, line, ceiling, outline)
    if sum(map(len, paint.drawn.values())) > MEMORY:
        paint.drawn.clear()
    known = paint.drawn.setdefault(shape, {})
    draw = _braille if paint.unicode else _letters
    grid: list[list[Cell]] = []
    for left, right in zip(columns[::step], columns[step - 1 :: step], strict=False):
        # By identity: a stack never changes, and to compare two costs more than to draw one.
        key = (id(left), id(right))
        drawn = known.get(key)
        if drawn is None:
            drawn = known[key] = (left, right, draw(paint, (left, right), shape))
        grid.append(drawn[2])
    rows = [list(row) for row in zip(*grid, strict=True)] or [[] for _ in range(height)]
    for x in marks:
        if 0 <= x < width:
            y = next((y for y in range(height) if rows[y][x][1].startswith("owner")), height)
            y = max(min(y, height) - 1, 0)
            rows[y][x] = ("▲" if paint.unicode else "^", "spike")
    return rows


class _Frame(NamedTuple):
    """What columns are drawn into: rows of cells and of dots, and where lines lie among these."""

    height: int
    full: int
    floor: float
    scale: float  # dots per unit
    line: int | None
    ceiling: int | None
    outline: bool


def _height(value: Stack | None, full: int, floor: float, scale: float) -> int:
    """Dots of a column; anything above nothing shows as one."""
    if value is None or value[0] <= floor:
        return 0
    return min(max(round((value[0] - floor) * scale), 1), full)


def _owner_of(value: Stack, low: int, high: int, floor: float, scale: float) -> str:
    """Who has most of a stack between two heights given in dots: a cell has one colour."""
    edge = -floor * scale
    most, found = 0.0, value[1][-1][0] if value[1] else "other"
    for owner, amount in value[1]:
        start, edge = edge, edge + amount * scale
        share = min(edge, high) - max(start, low)
        if share > most:
            most, found = share, owner
    return found


def _braille(paint: Paint, pair: Pair, frame: _Frame) -> list[Cell]:
    height, full, floor, scale, line, ceiling, outline = frame
    left, right = (_height(value, full, floor, scale) for value in pair)
    tall = pair[0] if left >= right else pair[1]
    most = max(left, right)
    patterned = paint.theme.patterned
    out: list[Cell] = []
    for row in range(height - 1, -1, -1):
        base = row * 4
        mask = _LEFT[min(max(left - base, 0), 4)] | _RIGHT[min(max(right - base, 0), 4)]
        if outline:
            mask &= ~(
                _LEFT[min(max(left - EDGE - base, 0), 4)]
                | _RIGHT[min(max(right - EDGE - base, 0), 4)]
            )
        role = "text"
        if mask and tall is not None:
            owner = _owner_of(tall, base, min(base + 4, most), floor, scale)
            role = _ROLES.get(owner, owner)
            if patterned and owner in OWNER_PATTERNS:
                mask = mask & OWNER_PATTERNS[owner] or mask
            if line is not None and base > line:
                role = "over"
        if line is not None and base <= line < base + 4 and most <= line:
            mask |= _LINE[line - base]
            # A cell has one colour: what fills more of it gives it, or all would look like plan.
            role = role if most - base >= HALF else "plan"
        elif ceiling is not None and not mask and base <= ceiling < base + 4:
            mask, role = _DOTTED[ceiling - base], "capacity"
        out.append((chr(0x2800 | mask), role) if mask else _BLANK)
    return out


def _letters(_paint: Paint, pair: Pair, frame: _Frame) -> list[Cell]:
    height, full, floor, scale, line, ceiling, outline = frame
    value = pair[0]
    most = _height(value, full, floor, scale)
    out: list[Cell] = []
    for row in range(height - 1, -1, -1):
        if row < most and value is not None and not (outline and row < most - 1):
            owner = _owner_of(value, row, row + 1, floor, scale)
            over = line is not None and row > line
            role = "over" if over else _ROLES.get(owner, owner)
            out.append((OWNER_LETTERS.get(owner, "#"), role))
        elif row == line:
            out.append(("-", "plan"))
        elif row == ceiling:
            out.append((".", "capacity"))
        else:
            out.append(_BLANK)
    return out


_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def bar(
    paint: Paint, parts: Sequence[tuple[str, float]], width: int, top: float, plan: float | None
) -> list[Cell]:
    """One row: parts side by side against ``top``, with a tick where the plan lies."""
    cells: list[Cell] = [("·" if paint.unicode else ".", "rule")] * width
    if top > 0:
        edge = 0.0
        for owner, amount in parts:
            start, edge = edge, edge + amount
            first, last = (min(round(v / top * width), width) for v in (start, edge))
            for x in range(first, last):
                cells[x] = (paint.swatch(owner), _ROLES[owner])
        filled = min(round(edge / top * width), width)
        if edge > 0 and filled == 0 and width:
            cells[0] = ("▏" if paint.unicode else "|", _ROLES[parts[-1][0]])
        if plan is not None and 0 < plan <= top:
            x = min(round(plan / top * width), width - 1)
            over = filled > x
            cells[x] = ("┊" if paint.unicode else "|", "over" if over else "plan")
    return cells

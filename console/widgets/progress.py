"""How far something is: one bar for every page and dialog."""

from __future__ import annotations

from console import format as fmt
from console.i18n import t
from console.widgets.paint import Paint, Row

_PARTS = " ▏▎▍▌▋▊▉"


def progress(
    paint: Paint,
    row: Row,
    width: int,
    part: float | None,
    seconds: float | None = None,
    left: float | None = None,
) -> Row:
    """A bar, its percentage and the time left, else the time since it began; ``width`` cells.

    Args:
        part: 0…1; None is drawn as not known. seconds: since it began. left: until its end, where
            that can be told.
    """
    right = "  " + ("n/a" if part is None else f"{part * 100:3.0f} %")
    if left is not None:
        right += "  " + t("{time} left", time=fmt.duration(left))
    elif seconds is not None:
        right += "  " + t("{time} so far", time=fmt.duration(seconds))
    cells = max(width - fmt.cells(right), 4)
    filled = 0.0 if part is None else min(max(part, 0.0), 1.0) * cells
    whole = int(filled)
    row.put("█" * whole, "accent")
    rest = cells - whole
    eighths = int((filled - whole) * 8)
    if rest and eighths and paint.unicode:
        row.raw(_PARTS[eighths], "accent")
        rest -= 1
    row.put("·" * rest, "rule")
    return row.put(right, "soft")

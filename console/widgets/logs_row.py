"""One log line of the page as rows of cells: R10's format where there is room."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import chop_cells
from textual.strip import Strip

from console import format as fmt
from console.state import Model
from console.widgets.logs import matches
from console.widgets.paint import Paint, Row
from engine.triage.records import Record

WIDE: Final = 120  # columns from which the whole format is shown
_LEVELS: Final = {
    "DEBUG": ("debug", "log.debug"),
    "INFO": ("info", "log.info"),
    "WARNING": ("WARN", "log.warning"),
    "ERROR": ("ERROR", "log.error"),
    "CRITICAL": ("FATAL", "log.error"),
}
_MOST_ROWS: Final = 40  # rows of one wrapped line


@dataclass(frozen=True)
class Dressing:
    """What a line is shown with.

    Args:
        class_: what triage says. needle: a search; ``current``: it is the match one is at.
        chosen: the cursor is on it. focused: and the list has the focus. wrap: in several rows.
    """

    class_: str | None = None
    needle: str = ""
    current: bool = False
    chosen: bool = False
    focused: bool = False
    bookmarked: bool = False
    wrap: bool = False


def line_rows(
    paint: Paint, model: Model, record: Record, width: int, dress: Dressing
) -> Sequence[Strip]:
    """The line; several rows if it is wrapped."""
    row = paint.row(width, cursor=dress.chosen and dress.focused)
    if dress.bookmarked:
        row.put("◆" if paint.unicode else "#", "accent")
    elif dress.chosen:
        row.put("▌", "accent" if dress.focused else "faint")
    else:
        row.put(" ")
    role = _head(row, record, width)
    _about(row, model, record)
    if dress.class_ is not None:
        row.outside(f"{{{dress.class_}}} ", "spike")
    text = fmt.inert(record.text)
    if not paint.unicode:
        text = fmt.plain(text)
    room = width - row.x
    if not dress.wrap or fmt.cells(text) <= room or width < 20:
        matches(row, text, role, dress.needle, dress.current)
        return [row.strip()]
    indent = row.x if row.x <= width // 2 else 12
    parts = chop_cells(text, room) if indent == row.x else [text]
    if indent != row.x:
        first = chop_cells(text, max(room, 1))[0]
        parts = [first, *chop_cells(text[len(first) :], width - indent)]
    matches(row, parts[0], role, dress.needle, dress.current)
    out = [row.strip()]
    for part in parts[1:_MOST_ROWS]:
        more = paint.row(width, cursor=dress.chosen and dress.focused)
        more.to(indent)
        matches(more, part, role, dress.needle, dress.current)
        out.append(more.strip())
    return out


def _head(row: Row, record: Record, width: int) -> str:
    """``[LEVEL] 2025-12-25 10:30:22 file.py:145 - ``; the role of the rest."""
    word, role = _LEVELS.get(record.level or "", ("", "log.info"))
    body = "text" if role == "log.info" else role
    if record.t is None:
        return body
    if width >= WIDE:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.t))
        row.outside(f"[{record.level}]".ljust(11), role).put(stamp, "faint").put(" ")
        row.outside(fmt.fit_left(record.where or "-", 16), "faint").put(" - ", "faint")
    else:
        row.put(word.ljust(6), role).put(fmt.clock(record.t), "faint").put(" ")
    return body


def _about(row: Row, model: Model, record: Record) -> None:
    if record.job is not None:
        row.put(f"job {record.job} ", "soft")
    if record.rank is not None:
        row.put(f"rank {record.rank} ", "soft")
        device = device_of(model, record)
        if device:
            row.outside(f"{device} ", "soft")
    if record.stream == "stderr":
        row.put("stderr ", "faint")


def device_of(model: Model, record: Record) -> str:
    """The device a line's rank works on, as the console knows it; empty if it does not."""
    if record.rank is None:
        return ""
    if record.job is not None:
        track = model.tracks.get((record.job, record.rank))
    else:
        of_rank = [t for (_, rank), t in model.tracks.items() if rank == record.rank]
        track = of_rank[-1] if len(of_rank) == 1 else None
    if track is None or track.change is None:
        return ""
    device = model.devices.get(track.change.device_uuid or "")
    return f"GPU {device.reading.index}" if device is not None else track.change.device

"""The bar that marks a screen as a recording: badge, moment, a line with marks, speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.strip import Strip

from console import format as fmt
from console.i18n import n, t
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.telemetry.replay import ReplayClient

_MARKS = {"spike": ("▲", "spike"), "alert": ("⚠", "state.watch"), "error": ("✗", "state.act")}
_ORDER = ("spike", "alert", "error")  # the worst of a cell is shown


def stamp(t: float) -> str:
    """A moment with its date: a recording may be of any day."""
    return time.strftime("%Y-%m-%d ", time.localtime(t)) + fmt.clock(t)


class ReplayBar(Lines):
    """One row that is always there while a recording is shown."""

    SHOWS = frozenset({"replay"})

    def __init__(
        self,
        model: Model,
        paint: Paint,
        client: ReplayClient,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(model, paint, id=id)
        self.client = client

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        client = self.client
        row = self.paint.row(width).put(f" {t('RECORDING')} ", "match.current").put(" ")
        if getattr(self.console_app, "seeking", False):
            row.put("… ", "state.watch")
        elif client.playing:
            row.put("▶ " if self.paint.unicode else "> ", "state.good")
        else:
            row.put("‖ ", "state.watch")
        row.put(stamp(client.cursor), "title.focus").put(" ")
        right = self.paint.row(width).put(" ").put(f"{client.speed:.0f}×", "accent")
        length = client.recording.end - client.recording.start
        if width >= 100:
            right.put("  " + t("of {time}", time=fmt.duration(length)), "soft")
            marks = client.recording.marks
            spikes = sum(mark.kind == "spike" for mark in marks)
            if spikes:
                right.put("  " + n("{count} spike", "{count} spikes", spikes), "spike")
            errors = sum(mark.kind == "error" for mark in marks)
            if errors:
                right.put("  " + n("{count} error", "{count} errors", errors), "state.act")
        right.put(" ")
        self._line(row, row.left - right.x)
        return [row.right(right).strip()]

    def _line(self, row: Row, cells: int) -> None:
        """The whole recording as a line: where the cursor is and where the marks are."""
        if cells < 8:
            return
        recording = self.client.recording
        length = max(recording.end - recording.start, 1e-9)

        def cell(t: float) -> int:
            return min(max(int((t - recording.start) / length * cells), 0), cells - 1)

        worst: dict[int, int] = {}
        for mark in recording.marks:
            place = cell(mark.at)
            worst[place] = max(worst.get(place, 0), _ORDER.index(mark.kind))
        at = cell(self.client.cursor)
        for x in range(cells):
            if x == at:
                row.put("●" if self.paint.unicode else "O", "accent")
            elif x in worst:
                shape, role = _MARKS[_ORDER[worst[x]]]
                row.put(shape if self.paint.unicode else "^!x"[worst[x]], role)
            else:
                row.put("─", "axis" if x < at else "rule")

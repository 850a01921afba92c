"""The history of one device, drawn with plotext: the one place where a person studies one plot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.strip import Strip

from console import actions
from console import format as fmt
from console.history import Series, column_seconds
from console.i18n import n, t
from console.parts import Panel
from console.state import Model
from console.widgets.bars import Place, footer, heading
from console.widgets.lines import Lines
from console.widgets.paint import Paint

WINDOWS = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 3 * 3600.0, 12 * 3600.0)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class HistoryBody(Lines):
    """Memory above, temperature below where the device has one."""

    def __init__(self, model: Model, paint: Paint, key: str) -> None:
        super().__init__(model, paint)
        self.key = key
        self.window = 300.0
        self.back = 0.0  # seconds between the right edge and now

    @property
    def panel(self) -> Panel | None:
        panels = self.model.panels()
        return next((p for p in panels if p.key == self.key), panels[0] if panels else None)

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        panel = self.panel
        if panel is None:
            return [self.paint.row(width).put(f" {t('The device is gone.')}", "soft").strip()]
        right = self.model.now - self.back
        note = self.paint.row(60).put(fmt.duration(self.window), "soft")
        end = t("now") if self.back == 0 else fmt.clock(right)
        note.put("  " + t("until {time}", time=end), "text")
        name = t("{device}: memory, GiB", device=panel.name)
        lines = [heading(self.paint, fmt.inert(name), width, True, note)]
        heat = panel.device.temperature if panel.device else None
        room = height - 4
        low = room // 3 if heat is not None and heat.first is not None and room >= 15 else 0
        high = room - low - (1 if low else 0)
        plan, capacity = panel.predicted, panel.capacity
        lines += self._plot(panel.memory, width, high, right, 1 / fmt.GIB,
                            plan / fmt.GIB if plan else None,
                            capacity / fmt.GIB if capacity else None, "owner.weights")  # fmt: skip
        if low and heat is not None:
            lines.append(heading(self.paint, t("temperature, °C"), width, False))
            lines += self._plot(heat, width, low, right, 1.0, None, None, "temperature")
        lines.append(self._facts(panel, width, right))
        lines.append(self.paint.rule(width))
        place = Place(("history",), self.console_app.keymap)
        lines.append(footer(self.paint, place, None, width).strip())
        return lines

    def _facts(self, panel: Panel, width: int, right: float) -> Strip:
        row = self.paint.row(width).put(" ")
        peak = panel.memory.peak(self.model.now, self.window + self.back)
        if peak is not None:
            row.put(t("peak") + " ", "soft").raw(fmt.gib(int(peak))).put(" GiB   ", "unit")
        if panel.predicted is not None:
            row.put(t("plan") + " ", "plan").raw(fmt.gib(panel.predicted)).put(" GiB   ", "unit")
        if panel.capacity is not None:
            row.put(t("capacity") + " ", "soft").raw(fmt.gib(panel.capacity)).put(" GiB   ", "unit")
        start = right - self.window
        spikes = [spike for spike in panel.spikes if start <= spike.t <= right]
        if spikes:
            top = max(spikes, key=lambda spike: spike.bytes)
            row.put("▲ " + n("{count} spike", "{count} spikes", len(spikes)) + ", ", "spike")
            row.put(t("largest") + " ", "spike")
            row.raw(fmt.gib(top.bytes)).put(" GiB ", "unit").outside(f"({top.owner})", "soft")
        return row.strip()

    def _plot(
        self, series: Series, width: int, height: int, right: float, scale: float,
        plan: float | None, capacity: float | None, role: str,
    ) -> list[Strip]:  # fmt: skip
        count = max((width - 6) * (2 if self.paint.unicode else 1), 10)
        seconds = column_seconds(self.window, count)
        columns = series.columns(right, max(int(self.window / seconds), 2), seconds)
        points = [(n, column[0] * scale) for n, column in enumerate(columns) if column is not None]
        if not points or height < 4:
            text = "  " + t("Nothing was seen in this time.") if height >= 1 else ""
            blank = [self.paint.blank(width)] * max(height - 1, 0)
            return [self.paint.row(width).put(text, "soft").strip(), *blank][:height]
        edge = (right, plan, capacity, role)
        return self._draw_points(points, len(columns), width, height, *edge)

    def _draw_points(
        self, points: Sequence[tuple[int, float]], count: int, width: int, height: int,
        right: float, plan: float | None, capacity: float | None, role: str,
    ) -> list[Strip]:  # fmt: skip
        import plotext

        plotext.terminal.limit(False, False)  # the size is ours, not that of file descriptor 1
        figure: Any = plotext.figure
        figure.clear()
        figure.plot_size(width, height)
        highest = max(value for _n, value in points)
        marker = "braille" if self.paint.unicode else "*"
        # Each point four times: the canvas is a little wider than the points, no gaps may show.
        xs = [n + part / 4 for n, _v in points for part in range(4)]
        ys = [value for _n, value in points for _part in range(4)]
        signal = figure.signal(xs, ys, marker=marker)
        signal.fillx()
        figure.draw(signal)
        top = max(highest, plan or 0.0) * 1.08
        if capacity and highest > capacity * 0.5:
            top = max(capacity * 1.02, highest)
            figure.line(capacity)
        if plan:
            figure.line(plan)
        figure.ruler("y").lim(0, top)
        figure.ruler("x").lim(0, count - 1)
        ticks = [0, count // 4, count // 2, count * 3 // 4, count - 1]
        step = self.window / max(count - 1, 1)
        labels = [fmt.clock(right - (count - 1 - n) * step) for n in ticks]
        figure.ruler("x").ticks(ticks, labels)
        figure.axes(False, side=1)
        lines = _ANSI.sub("", str(figure.build().string())).split("\n")
        figure.clear()
        return [self._styled(line, width, role) for line in lines[:height]]

    def _styled(self, line: str, width: int, mark: str) -> Strip:
        """The data in its colour, lines of plan and capacity in theirs, the rest as axis."""
        row = self.paint.row(width)
        for x, character in enumerate(line):
            role = "axis"
            if 0x2800 <= ord(character) <= 0x28FF or character == "*":
                role = mark
            elif character == "─" and "├" in line and x > 3:
                role = "plan"
            row.put(character, role)
        return row.strip()


class HistoryScreen(ModalScreen[None]):
    """Zoom and pan with the arrow keys; the next device with Tab."""

    DEFAULT_CSS = "HistoryScreen > HistoryBody { width: 100%; height: 100%; }"
    BINDINGS = actions.bindings("history")

    def __init__(self, model: Model, paint: Paint, key: str) -> None:
        super().__init__()
        self.body = HistoryBody(model, paint, key)

    def compose(self) -> ComposeResult:
        yield self.body

    def show_model(self, dirty: set[str]) -> None:
        """New data: draw again while the right edge is now."""
        if "devices" in dirty and self.body.back == 0:
            self.body.update()

    def action_zoom(self, by: int) -> None:
        at = WINDOWS.index(self.body.window)
        self.body.window = WINDOWS[min(max(at + by, 0), len(WINDOWS) - 1)]
        self.body.update()

    def action_pan(self, by: int) -> None:
        self.body.back = max(self.body.back - by * self.body.window / 4, 0.0)
        self.body.update()

    def action_now(self) -> None:
        self.body.back = 0.0
        self.body.update()

    def action_other(self, by: int) -> None:
        keys = [panel.key for panel in self.body.model.panels()]
        if keys:
            at = keys.index(self.body.key) if self.body.key in keys else 0
            self.body.key = keys[(at + by) % len(keys)]
            self.body.update()

    def action_close(self) -> None:
        self.dismiss(None)

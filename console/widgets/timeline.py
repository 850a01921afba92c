"""The time around an incident: memory and temperature of a device and the log, one cursor."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final

from textual.strip import Strip

from console import actions
from console import format as fmt
from console.history import Series, Stack, column_seconds
from console.i18n import t
from console.incidents import Incident, incidents
from console.parts import Panel
from console.state import Model
from console.trouble import gravity
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.logs import log_row
from console.widgets.paint import Paint
from console.widgets.plot import area, per_cell

SPANS: Final = (30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0, 3 * 3600.0, 12 * 3600.0)
_USUAL: Final = 3  # the span where nothing was chosen and much is known
_MARGIN: Final = 6  # cells of the axis' figures
_EMPTY: Final = frozenset({"text", "plan", "capacity"})  # of a plot, where nothing was measured
_STEPS: Final = 40  # key presses that cross the window


class Timeline(Lines, can_focus=True):
    """Plots and log lines; ``cursor`` is the one moment that all of them are about."""

    DEFAULT_CSS = "Timeline { height: 1fr; }"
    SHOWS = frozenset({"devices", "logs", "alerts", "findings"})
    SCOPE = "timeline"
    BINDINGS = actions.bindings("timeline")

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.incident: Incident | None = None
        self.chosen_span: float | None = None  # None: as long as there is something to show
        self.cursor: float | None = None  # None: on the incident, or now
        self.panel_key: str | None = None  # None: the incident's own device

    def show_incident(self, incident: Incident | None) -> None:
        """Turn to another incident; the cursor goes onto it."""
        if incident is None or self.incident is None or incident.key != self.incident.key:
            self.cursor = self.panel_key = None
        self.incident = incident
        self.update()

    @property
    def span(self) -> float:
        """Seconds from edge to edge; up to three minutes, less where less is known."""
        if self.chosen_span is not None:
            return self.chosen_span
        panels = self.model.panels()
        firsts = [p.memory.first for p in panels if p.memory.first is not None]
        known = self.model.now - min(firsts) if firsts else 0.0
        return next((span for span in SPANS[:_USUAL] if span >= known), SPANS[_USUAL])

    @property
    def moment(self) -> float:
        """What the cursor is on, in Unix seconds."""
        if self.cursor is not None:
            return self.cursor
        return self.model.now if self.incident is None else self.incident.what.t

    @property
    def right(self) -> float:
        """The moment at the right edge: a third of the window after the cursor, now at most."""
        return min(self.model.now, self.moment + self.span / 3)

    @property
    def panel(self) -> Panel | None:
        """The device that is drawn: the chosen one, the incident's, its job's first, any."""
        panels = self.model.panels()
        chosen = next((p for p in panels if p.key == self.panel_key), None)
        if chosen is not None or self.incident is None:
            return chosen or (panels[0] if panels else None)
        what, finding = self.incident.what, self.incident.finding
        rank = None if finding is None else finding.rank

        def distance(panel: Panel) -> int:
            if panel.key == what.device:
                return 0
            if any(x.job == what.job and x.rank == rank for x in panel.tracks):
                return 1
            return 2 if any(x.job == what.job for x in panel.tracks) else 3

        return min(panels, key=distance, default=None)

    # -- drawing -----------------------------------------------------------------------------

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        panel = self.panel
        note = self.paint.row(60).put(fmt.duration(self.span), "soft")
        if panel is not None:
            note.put("  ").outside(panel.name)
        lines = [heading(self.paint, t("Timeline"), width, self.has_focus, note)]
        rest = height - 1
        heat = panel.device.temperature if panel is not None and panel.device else None
        plots = max(rest - max(rest * 2 // 5, 4), 0)
        warm = plots // 3 if heat is not None and heat.first is not None and plots >= 8 else 0
        tall = plots - warm - 2
        if panel is not None and tall >= 2:
            lines += self._memory(panel, width, tall)
            if warm and heat is not None:
                lines += self._heat(panel, heat, width, warm)
            lines += [self._axis(width), self._reading(panel, heat, width)]
        return [*lines, *self._log(width, height - len(lines))]

    def _columns(self, series: Series, width: int) -> list[Stack | None]:
        count = max(width - _MARGIN, 4) * per_cell(self.paint)
        return series.columns(self.right, count, self._seconds(width))

    def _seconds(self, width: int) -> float:
        """Seconds of one column of a plot."""
        count = max(width - _MARGIN, 4) * per_cell(self.paint)
        return column_seconds(self.span, count)

    def _cell(self, t: float, width: int) -> int | None:
        """The cell, counted from the plot's left edge, that holds a moment."""
        cells = max(width - _MARGIN, 4)
        each = self._seconds(width) * per_cell(self.paint)
        at = cells - 1 - int((self.right - t) / each)
        return at if 0 <= at < cells and t <= self.right + each else None

    def _memory(self, panel: Panel, width: int, height: int) -> list[Strip]:
        columns = self._columns(panel.memory, width)
        highest = max((c[0] for c in columns if c is not None), default=0.0)
        plan, capacity = panel.predicted, panel.cap or panel.capacity
        top = max(highest, plan or 0, panel.cap or 0) * 1.1 or 1.0
        if capacity and panel.cap is None:
            top = capacity * 1.02 if highest > capacity * 0.3 else min(top, capacity * 1.02)
        spikes = (self._cell(spike.t, width) for spike in panel.spikes)
        grid = area(
            self.paint, columns, height, top, plan=plan, capacity=capacity,
            marks={x for x in spikes if x is not None},
        )  # fmt: skip
        return self._framed(grid, width, fmt.gib(int(top)), "GiB")

    def _heat(self, panel: Panel, heat: Series, width: int, height: int) -> list[Strip]:
        columns = self._columns(heat, width)
        known = [c[0] for c in columns if c is not None]
        limit = panel.device.reading.temperature_limit_c if panel.device else None
        top = max([*known, limit or 0.0, 60.0]) + 5
        grid = area(self.paint, columns, height, top, floor=20.0, capacity=limit, outline=True)
        return self._framed(grid, width, f"{top:.0f}", "°C")

    def _framed(
        self, grid: list[list[tuple[str, str]]], width: int, top: str, unit: str
    ) -> list[Strip]:
        at = self._cell(self.moment, width)
        out = []
        for y, cells in enumerate(grid):
            label = top if y == 0 else unit if y == 1 or len(grid) == 1 else ""
            row = self.paint.row(width).put(f"{self.paint.text(label):>5} ", "axis")
            # What was measured at the moment stays to be seen below the cursor.
            if at is not None and at < len(cells) and cells[at][1] in _EMPTY:
                cells = list(cells)
                cells[at] = ("│" if self.paint.unicode else "|", "accent")
            out.append(row.cells(cells).strip())
        return out

    def _axis(self, width: int) -> Strip:
        """Time from edge to edge, with what was wrong when, and the cursor."""
        cells = max(width - _MARGIN, 4)
        line = [("─" if self.paint.unicode else "-", "axis")] * cells
        for one in incidents(self.model, past=True):
            x = self._cell(one.what.t, width)
            if x is not None and one.state not in ("advice", "pending", "victim"):
                bad = gravity(one.what.severity) <= gravity("error")
                shape = "✗" if one.finding is not None else "⚠"
                line[x] = (self.paint.text(shape), "state.act" if bad else "state.watch")
        at = self._cell(self.moment, width)
        if at is not None:
            line[at] = ("┴" if self.paint.unicode else "+", "accent")
        row = self.paint.row(width).to(_MARGIN).cells(line)
        return row.strip()

    def _reading(self, panel: Panel, heat: Series | None, width: int) -> Strip:
        """What the plots say at the cursor."""
        row = self.paint.row(width).put(" ").put(fmt.clock(self.moment), "accent").put("  ")
        found = self._at(panel.memory)
        warm = None if heat is None else self._at(heat)
        degrees = self.paint.row(width)
        if warm is not None:
            degrees.put("  ").whole(warm[0], "°C", "temperature")
        if found is None:
            row.put(t("nothing is known of this moment"), "soft")
        else:
            row.put(fmt.gib(found[0])).put(" GiB", "unit")
            if panel.predicted is not None:
                row.put("  " + t("plan") + " ", "plan").put(fmt.gib(panel.predicted))
            if panel.cap is not None:
                row.put("  " + t("cap") + " ", "soft").put(fmt.gib(panel.cap))
            elif panel.capacity is not None:
                row.put("  " + t("of") + " ", "soft").put(fmt.gib(panel.capacity))
            for owner, size in sorted(found[1], key=lambda part: -part[1]):
                told = self.paint.row(width).put("  ")
                told.put(self.paint.swatch(owner), f"owner.{owner}")
                told.put(f" {owner} ", "soft").put(fmt.gib(size))
                if told.x + degrees.x > row.left:
                    break
                row.add(told)
        return row.add(degrees).strip()

    def _at(self, series: Series) -> Stack | None:
        # A second's columns up to the cursor; the peak of the newest that is known.
        columns = series.columns(self.moment, 4, 0.25)
        return next((c for c in reversed(columns) if c is not None), None)

    def _log(self, width: int, height: int) -> list[Strip]:
        """Lines before and after the cursor, which stands between them."""
        if height < 2:
            return []
        # Ranks' lines come in a little out of order; the lines of a traceback are debug lines.
        told = (entry for entry in self.model.logs if entry.level != "DEBUG")
        entries = sorted(told, key=lambda entry: entry.t)
        at = bisect.bisect_right(entries, self.moment + 0.001, key=lambda entry: entry.t)
        before = min(at, max((height - 1) // 2, height - 1 - (len(entries) - at)))
        shown = [log_row(self.paint, entry, width) for entry in entries[at - before : at]]
        rule = "┄" if self.paint.unicode else "-"
        cut = self.paint.row(width).put(f" {fmt.clock(self.moment)} ", "accent")
        shown.append(cut.put(rule * cut.left, "accent").strip())
        after = entries[at : at + height - len(shown)]
        return [*shown, *(log_row(self.paint, entry, width) for entry in after)]

    # -- keys --------------------------------------------------------------------------------

    def action_cursor(self, by: int) -> None:
        moment = self.moment + by * max(self.span / _STEPS, 0.25)
        self.cursor = min(moment, self.model.now)
        self.update()

    def action_span(self, by: int) -> None:
        at = SPANS.index(self.span)
        self.chosen_span = SPANS[min(max(at + by, 0), len(SPANS) - 1)]
        self.update()

    def action_device(self, by: int) -> None:
        keys = [panel.key for panel in self.model.panels()]
        panel = self.panel
        if panel is not None:
            self.panel_key = keys[(keys.index(panel.key) + by) % len(keys)]
            self.update()

    def action_home(self) -> None:
        self.cursor = self.panel_key = None
        self.update()

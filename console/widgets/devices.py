"""All devices in one widget: panels where there is room, lines where there is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from textual.strip import Strip

from console import actions, history
from console import format as fmt
from console.i18n import t
from console.parts import Panel
from console.state import Model
from console.widgets import device
from console.widgets.lines import Jump, Lines
from console.widgets.paint import Paint, Row
from engine.plain import Plain, late_dataclass

PANEL_WIDTH = 50  # narrowest full panel
TWO_PLOTS = 56  # narrowest panel with a plot of temperature beside that of memory
PANEL_ROWS = 5  # lowest full panel: title, four rows of plot
PANEL_GOOD = 9  # tall enough; rather wider than taller from here on
PANEL_HIGH = 14  # a panel does not grow beyond this


@late_dataclass(frozen=True)
class Grid(Plain):
    """How panels are laid out: full ones in columns, or lines in columns."""

    columns: int
    rows: int  # rows of cells each panel takes
    full: bool
    lead: int = 0  # rows of a full panel for the selected device above lines

    def height(self, count: int) -> int:
        return self.lead + -(-count // self.columns) * self.rows


def arrange(count: int, width: int, room: int) -> Grid:
    """The densest picture that shows every device: panels, one panel and lines, or lines."""
    if count == 0:
        return Grid(1, max(min(room, 4), 1), full=True)
    most = max(width // PANEL_WIDTH, 1)
    tall = {c: min(room // -(-count // c), PANEL_HIGH) for c in range(1, most + 1)}
    wide = [c for c, rows in tall.items() if rows >= PANEL_GOOD]
    both = [c for c, rows in tall.items() if rows > PANEL_ROWS and width // c >= TWO_PLOTS]
    best = wide[0] if wide and wide[0] in both else None
    if best is None:  # two plots each before height, height before width
        best = max(both or tall, key=lambda c: (tall[c], -c))
    if tall[best] >= PANEL_ROWS:
        return Grid(best, tall[best], full=True)
    columns = 1
    while -(-count // columns) > room and width // (columns + 1) >= 38:
        columns += 1
    if columns == 1 and width >= 160 and count > 4:
        columns = 2
    lines = -(-count // columns)
    lead = min(room - lines, 9) if room - lines >= 6 else 0
    return Grid(columns, 1, full=False, lead=lead)


class Devices(Lines, can_focus=True):
    """The devices of the host, or the ranks of a job on a host without one."""

    SHOWS = frozenset({"devices"})
    SCOPE = "devices"
    BINDINGS = actions.bindings("devices")

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.picked: str | None = None  # by a key; until then what asks most for eyes
        self.span: float | None = None  # seconds, None chooses by age

    @property
    def selected(self) -> str | None:
        """The key of the panel that is in the foreground; None where there is none."""
        return _chosen(self.model.panels(), self.picked)

    def view(self, panels: Sequence[Panel]) -> device.View:
        now = self.model.now
        span = self.span or history.span_for((p.memory.first for p in panels), now)
        limits = self.console_app.config.thresholds
        causes = {
            (f.job, f.rank): f.cause for f in self.model.trouble.open_findings()
            if f.role == "root" and f.job is not None and f.rank is not None
        }  # fmt: skip
        return device.View(now, span, _chosen(panels, self.picked), self.has_focus, limits, causes)

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        panels = self.model.panels()
        view = self.view(panels)
        if not panels:
            row = self.paint.row(width).put(" ")
            text = (
                t("Waiting for the engine's first reading")
                if self.model.stopped is None
                else t("The engine has ended")
            )
            return [self.paint.blank(width), row.put(text, "soft").strip()]
        host_line = self._host(panels, width)
        grid = arrange(len(panels), width, height - len(host_line))
        lines = list(host_line)
        if grid.full:
            rows = min(grid.rows, (height - len(host_line)) // -(-len(panels) // grid.columns))
            return lines + self._grid(panels, width, rows, grid.columns, view)
        if grid.lead:
            chosen = next(p for p in panels if p.key == view.selected)
            lines += [
                row.strip() for row in device.full(self.paint, chosen, width, grid.lead, view)
            ]
        return lines + self._lines_of(panels, width, grid.columns, view)

    def _grid(
        self, panels: Sequence[Panel], width: int, rows: int, columns: int, view: device.View
    ) -> list[Strip]:
        out: list[Strip] = []
        widths = _shares(width, columns)
        placed = [(panel, widths[at % columns]) for at, panel in enumerate(panels)]
        heads = device.titles(self.paint, placed, view)
        for start in range(0, len(panels), columns):
            group = zip(placed[start : start + columns], heads[start:], strict=False)
            drawn = [
                device.full(self.paint, panel, wide, rows, view, head)
                for (panel, wide), head in group
            ]
            out += [_side_by_side(self.paint, parts, widths) for parts in zip(*drawn, strict=True)]
        return out

    def _lines_of(
        self, panels: Sequence[Panel], width: int, columns: int, view: device.View
    ) -> list[Strip]:
        names = max(len(panel.name) for panel in panels)
        widths = _shares(width, columns)
        per_column = -(-len(panels) // columns)
        out = []
        for y in range(per_column):
            group = zip(panels[y::per_column], widths, strict=False)
            parts = [device.line(self.paint, panel, wide, view, names) for panel, wide in group]
            out.append(_side_by_side(self.paint, parts, widths))
        return out

    def _host(self, panels: Sequence[Panel], width: int) -> list[Strip]:
        """A row for the host where ranks run on it and no GPU panel stands for it."""
        host = self.model.host_track()
        if host is None or all(panel.kind != "rank" for panel in panels):
            return []
        reading = host.reading
        row = (
            self.paint.row(width)
            .put(f" {t('host')} ", "title")
            .outside(f"{reading.name}  ", "soft")
        )
        row.put(t("memory") + " ", "soft")
        if reading.memory_used is None:
            row.put("n/a", "na")
        else:
            used, total = reading.memory_used, reading.memory_total
            limit = self.console_app.config.thresholds.host_memory
            full = total is not None and used > total * limit / 100
            row.raw(fmt.gib(used), "state.act" if full else "text").put(" / ", "unit")
            row.raw(fmt.gib(reading.memory_total), "soft").put(" GiB", "unit")
        row.put("   CPU ", "soft").whole(reading.utilization, "%")
        row.put(f"   {t('temperature')} ", "soft").whole(reading.temperature_c, "°C")
        row.put(f"   {t('power')} ", "soft").whole(reading.power_w, "W")
        return [row.strip()]

    def jumps(self) -> list[Jump]:
        """Every panel."""
        panels = self.model.panels()
        width, height = self.size
        above = len(self._host(panels, width))
        grid = arrange(len(panels), width, height - above)
        rows = min(grid.rows, (height - above) // -(-len(panels) // grid.columns)) if panels else 0
        each, down = width // grid.columns, -(-len(panels) // grid.columns)
        found = []
        for at, panel in enumerate(panels):
            # Panels go by rows, lines by columns.
            y, x = divmod(at, grid.columns) if grid.full else reversed(divmod(at, down))
            top = above + y * rows if grid.full else above + grid.lead + y
            found.append(Jump(x * each, top, partial(self._pick, panel.key)))
        return found or super().jumps()

    def _pick(self, key: str) -> None:
        self.picked = key
        self.focus()
        self.update()

    def action_panel(self, by: int) -> None:
        keys = [panel.key for panel in self.model.panels()]
        if self.selected is not None:
            self.picked = keys[(keys.index(self.selected) + by) % len(keys)]
            self.update()

    def action_span(self, by: int) -> None:
        now = self.view(self.model.panels()).span
        at = min(range(len(history.SPANS)), key=lambda i: abs(history.SPANS[i] - now))
        self.span = history.SPANS[min(max(at + by, 0), len(history.SPANS) - 1)]
        self.update()

    def action_open(self) -> None:
        from console import deeds

        deeds.history(self.console_app)


def _chosen(panels: Sequence[Panel], picked: str | None) -> str | None:
    """What was picked, else the first where a rank died, else the first that has work."""
    if any(panel.key == picked for panel in panels):
        return picked
    first = next((p for p in panels if p.phase == "died"), None)
    first = first or next((p for p in panels if p.tracks), panels[0] if panels else None)
    return None if first is None else first.key


def _shares(width: int, columns: int) -> list[int]:
    """Widths of columns that fill ``width``; the last one takes the rest."""
    each = width // columns
    return [each] * (columns - 1) + [width - each * (columns - 1)]


def _side_by_side(paint: Paint, parts: Iterable[Row], widths: Sequence[int]) -> Strip:
    row = paint.row(sum(widths))
    end = 0
    for part, width in zip(parts, widths, strict=False):
        end += width
        row.add(part).to(end)
    return row.strip()

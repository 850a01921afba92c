"""How one device looks: a full panel, or one line. Live view, replay and tests draw it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from console import format as fmt
from console import history
from console.config import Thresholds
from console.history import Stack
from console.i18n import t
from console.parts import Panel
from console.spoken import duties, duty, spoken
from console.widgets import plot
from console.widgets.paint import Paint, Row
from engine.messages import OWNERS, DeviceReading
from engine.plain import Plain, late_dataclass

AXIS = 5  # cells of the labels left of a plot
NARROW = 46  # cells below which a device's line gives up units
#: Forms of a title, ever shorter: which of ``_about``, and whether signs alone tell what is wrong.
_FORMS: Final = ((0, False), (1, False), (1, True), (2, True), (3, True))
SPARE = 1.25  # a zoomed plot's top over its highest value
LEAST = 0.01  # part of the capacity that a plot shows at least: next to nothing is no tower


@late_dataclass(frozen=True)
class View(Plain):
    """How panels are looked at: the moment, the time they cover, what is selected."""

    now: float
    span: float
    selected: str | None = None
    focused: bool = False
    limits: Thresholds = field(default_factory=Thresholds)
    causes: Mapping[tuple[int, int], str] = field(default_factory=dict)  # (job, rank) → why it died


def full(
    paint: Paint, panel: Panel, width: int, height: int, view: View, head: Row | None = None
) -> list[Row]:
    """Title (``head``, where it was made with others'), plots and, from 6 rows on, a legend."""
    lines = [title(paint, panel, width, view) if head is None else head]
    legend_rows = 1 if height >= 6 else 0
    rows = height - 1 - legend_rows
    if rows > 0:
        lines += _plots(paint, panel, width, rows, view)
    if legend_rows:
        lines.append(legend(paint, panel, width, view))
    return lines


def _marker(row: Row, panel: Panel, view: View) -> Row:
    chosen = panel.key == view.selected and view.focused
    return row.put("▌" if chosen else " ", "accent")


def _name_role(panel: Panel, view: View) -> str:
    return "title.focus" if panel.key == view.selected and view.focused else "title"


def title(paint: Paint, panel: Panel, width: int, view: View) -> Row:
    """Name, what it does, and the readings at the right edge."""
    return titles(paint, [(panel, width)], view)[0]


def titles(paint: Paint, panels: Sequence[tuple[Panel, int]], view: View) -> list[Row]:
    """Titles of panels with their widths, what they do told alike: as the tightest has room for."""
    made = [_title(paint, panel, width, view) for panel, width in panels]
    form = max((form for (panel, _), (_, form) in zip(panels, made, strict=True) if panel.role),
               default=0)  # fmt: skip
    return [
        row if own >= form or not panel.role else _title(paint, panel, width, view, form)[0]
        for (panel, width), (row, own) in zip(panels, made, strict=True)
    ]


def _title(paint: Paint, panel: Panel, width: int, view: View, least: int = 0) -> tuple[Row, int]:
    """A title in the first of ``_FORMS`` from ``least`` on that fits, and in which."""
    row = _marker(paint.row(width), panel, view)
    row.outside(panel.name, _name_role(panel, view)).put(" ")
    if panel.phase is not None and panel.kind != "host":
        look = fmt.state(panel.phase)
        row.raw(paint.shape(panel.phase) + " ", look.role)
        if panel.phase not in ("running", "idle"):
            row.put(f"{t(look.word)} ", look.role)
    if panel.drained:
        row.state("drained").put(" ")
    abouts, room = _about(panel), row.left
    for form in range(least, len(_FORMS)):
        length, signs = _FORMS[form]
        about, readings = abouts[length], _readings(paint, panel, width, view.limits, signs)
        if fmt.cells(about) < room - readings.x:
            break
    free = room - readings.x - 1
    about = fmt.short(about, free, paint.ellipsis) if free > 3 else ""
    return row.outside(about, "soft").right(readings), form


def _about(panel: Panel) -> tuple[str, str, str, str]:
    """What is done here, ever shorter: all, without layers, of which steps alone, numbers alone."""
    if not panel.role:
        change = panel.tracks[0].change if panel.tracks else None
        name = panel.device.reading.name if panel.device else change.device if change else ""
        return name, name, name, name
    return duties(panel.role)


def _hot(reading: DeviceReading, limits: Thresholds) -> bool:
    degrees, limit = reading.temperature_c, reading.temperature_limit_c
    return (
        degrees is not None and limit is not None and degrees >= limit - limits.temperature_margin
    )


def _faults(row: Row, reading: DeviceReading | None, signs: bool = False) -> Row:
    """What a device says about itself only when something is wrong: XID, ECC, throttling.

    ``signs`` leaves out why it is throttled.
    """
    if reading is None:
        return row
    if reading.xid is not None:
        row.put(f"XID {reading.xid} ", "state.act")
    if reading.ecc_uncorrected:
        row.put(f"ECC {reading.ecc_uncorrected} ", "state.act")
    if reading.throttle:
        row.put("⚠ ", "state.watch")
        if not signs:
            row.outside(spoken(reading.throttle[0]) + " ", "state.watch")
    return row


def _readings(paint: Paint, panel: Panel, width: int, limits: Thresholds, signs: bool) -> Row:
    """Memory against capacity, temperature, power, utilisation, spikes; n/a where none."""
    row = paint.row(width)
    reading = panel.device.reading if panel.device else None
    if reading is not None and reading.error:
        return row.put("⚠ ", "state.watch").outside(
            fmt.fit(spoken(reading.error), 40).rstrip(), "state.watch"
        )
    spikes = len(panel.spikes)
    if spikes:
        row.put(f"▲{spikes} ", "spike")
    _memory(_faults(row, reading, signs), panel, limits)
    if reading is None:
        return row.put(" ")
    if panel.kind == "host":
        return _host_readings(row, reading, limits)
    hot = _hot(reading, limits)
    gap = " " if width < 64 else "  "
    row.put(gap).whole(reading.temperature_c, "°C", "state.act" if hot else "text", 2)
    if width >= 56:
        row.put(gap).whole(reading.power_w, "W", width=3)
    return row.put(gap).whole(reading.utilization, "%", width=3).put(" ")


def _host_readings(row: Row, reading: DeviceReading, limits: Thresholds) -> Row:
    """A host's own: what it does not tell is left out, the processors are named."""
    if reading.temperature_c is not None:
        heat = "state.act" if _hot(reading, limits) else "text"
        row.put("  ").whole(reading.temperature_c, "°C", heat, 2)
    if reading.power_w is not None:
        row.put("  ").whole(reading.power_w, "W", width=3)
    return row.put("  CPU ", "soft").whole(reading.utilization, "%", width=3).put(" ")


def _over(panel: Panel, limits: Thresholds) -> bool:
    """Whether a device holds more than its plan said."""
    used, predicted = panel.used, panel.predicted
    share = 1 + limits.memory_over_plan / 100
    return used is not None and predicted is not None and used > predicted * share


def _memory(row: Row, panel: Panel, limits: Thresholds) -> None:
    used, capacity = panel.used, panel.capacity
    if used is None:
        row.put(fmt.NA, "na")
        return
    row.raw(fmt.gib(used), "over" if _over(panel, limits) else "text")
    if capacity is not None:
        row.put(" / ", "unit").raw(fmt.gib(capacity), "soft")
    row.put(" GiB", "unit")


def _scale(panel: Panel, columns: list[Stack | None]) -> tuple[float, bool]:
    """The plot's top in bytes, and whether that is the capacity."""
    peak = max((value[0] for value in columns if value), default=0.0)
    highest = max(peak, float(panel.predicted or 0))
    capacity = float(panel.capacity or 0)
    if panel.cap is not None:
        return max(highest, panel.cap) * 1.05, True
    if capacity and highest >= capacity * 0.2:
        return max(capacity, peak), True
    if highest <= 0:
        return (capacity or 1.0), bool(capacity)
    return max(highest * SPARE, capacity * LEAST), False


def _plots(paint: Paint, panel: Panel, width: int, rows: int, view: View) -> list[Row]:
    """Memory, and beside it temperature where the device has one."""
    heat = panel.device is not None and panel.device.temperature.first is not None
    heat_width = max(width // 3, 16) if heat and width >= 56 else 0
    wide = width - heat_width - 2
    out = [paint.row(width) for _ in range(rows)]
    _memory_plot(paint, panel, out, wide, rows, view)
    if heat_width:
        for row in out:
            row.to(wide + 2)
        _heat_plot(paint, panel, out, heat_width - 1, rows, view)
    return out


def _columns_of(view: View, cells: int, paint: Paint) -> tuple[int, float]:
    """How many columns of time a plot has, and how many seconds each covers."""
    count = cells * plot.per_cell(paint)
    return count, history.column_seconds(view.span, count)


def _memory_plot(
    paint: Paint, panel: Panel, out: list[Row], width: int, rows: int, view: View
) -> None:
    cells = width - AXIS - 1
    if cells < 4:
        return
    count, seconds = _columns_of(view, cells, paint)
    columns = panel.memory.columns(view.now, count, seconds)
    top, at_capacity = _scale(panel, columns)
    plan = panel.predicted
    marks = set()
    step = plot.per_cell(paint)
    last = int(view.now / seconds)
    for spike in panel.spikes:
        back = last - int(spike.t / seconds)
        if 0 <= back < count:
            marks.add((count - 1 - back) // step)
    cells_drawn = plot.area(
        paint, columns, rows, top, plan=plan, marks=marks,
        capacity=float(panel.cap or panel.capacity or 0) if at_capacity else None,
    )  # fmt: skip
    labels: dict[int, tuple[str, str]] = {0: (fmt.gib(int(top)), "axis")}
    if plan and plan <= top:
        dots = rows * (4 if paint.unicode else 1)
        line = plot.level(plan, top, 0.0, dots)
        if line is not None:
            y = rows - 1 - line // (dots // rows)
            labels[y] = (fmt.gib(plan), "plan")
    if panel.cap and (line := plot.level(panel.cap, top, 0.0, dots := rows * 4)) is not None:
        labels[rows - 1 - line // (dots // rows)] = (fmt.gib(panel.cap), "capacity")
    if rows > 2:
        labels.setdefault(rows - 1, ("0", "axis"))
    if all(column is None for column in columns):
        text = t("waiting for the first report") if panel.kind == "rank" else t("no reading yet")
        for y, row in enumerate(out):
            row.raw(labels.get(y, ("", "axis"))[0].rjust(AXIS) + " ", "axis")
            if y == rows // 2:
                row.put(text, "na")
        return
    for y, row in enumerate(out):
        label, role = labels.get(y, ("", "axis"))
        row.raw(label.rjust(AXIS) + " ", role).cells(cells_drawn[y])


def _heat_plot(
    paint: Paint, panel: Panel, out: list[Row], width: int, rows: int, view: View
) -> None:
    device = panel.device
    cells = width - AXIS
    if device is None or cells < 4:
        return
    count, seconds = _columns_of(view, cells, paint)
    columns = device.temperature.columns(view.now, count, seconds)
    limit = device.reading.temperature_limit_c
    top = max([100.0 if limit is None else limit + 5] + [c[0] for c in columns if c])
    drawn = plot.area(paint, columns, rows, top, floor=20.0, capacity=limit, outline=True)
    for y, row in enumerate(out):
        label = f"{top:.0f}°" if y == 0 else "20°" if y == rows - 1 and rows > 2 else ""
        row.put(label.rjust(AXIS - 1) + " ", "axis").cells(drawn[y])


_REST = 10  # cells of what is told as a sum
_LITTLE = 1e-4  # of a device's memory: what a driver keeps by itself is no more
_SHORT = {"conditioning": "cond", "activations": "act", "context": "ctx"}


def legend(paint: Paint, panel: Panel, width: int, view: View) -> Row:
    """Owners that hold something here, with GiB; the smallest as a sum where room is short."""
    level = panel.memory.level
    row = paint.row(width).put(" " * (AXIS + 1))
    amounts = dict(level[1]) if level else {}
    if panel.tracks and all(track.gone for track in panel.tracks):
        died = panel.phase == "died"
        track = next((x for x in panel.tracks if x.phase == "died"), panel.tracks[0])
        reason = view.causes.get((track.job, track.rank)) if died else None
        reason = reason or (track.change.reason if track.change else None)
        said = fmt.short(spoken(reason or "") or t("ended"), row.left, paint.ellipsis)
        return row.outside(said, "state.act" if died else "soft")
    tail = paint.row(width)
    tail.put(t("{minutes} min", minutes=f"{view.span / 60:.0f}"), "faint")
    if panel.predicted is not None and width >= 80:  # narrower: the plot's axis says it
        tail.put(" ").put(t("plan") + " ", "plan").raw(fmt.gib(panel.predicted), "plan")
    names = {owner: owner if width >= 90 else _SHORT.get(owner, owner) for owner in OWNERS}
    gap = 2 if width >= 80 else 1
    held = {o: amounts.get(o, 0) for o in OWNERS if o in panel.memory.owners}
    told = {o: fmt.gib(int(size)) for o, size in held.items()}
    sizes = {o: len(names[o]) + len(told[o]) + 3 + gap for o in held}
    room = width - tail.x - 1 - row.x
    shown, used = set(held), sum(sizes.values())
    # The smallest are told as a sum; of those that hold next to nothing the first owners stay.
    little = (panel.capacity or 0) * _LITTLE
    for owner in sorted(held, key=lambda o: (max(held[o], little), -OWNERS.index(o))):
        if used + (_REST if len(shown) < len(held) else -gap) <= room:
            break
        shown.discard(owner)
        used -= sizes[owner]
    for owner in held:
        if owner in shown:
            row.raw(paint.swatch(owner), f"owner.{owner}").raw(f" {names[owner]} ", "soft")
            row.raw(told[owner] + " " * gap, "text")
    rest = [held[owner] for owner in held if owner not in shown]
    if rest:
        text = f"+{len(rest)} · {fmt.gib(int(sum(rest)))}"
        if fmt.cells(text) + 1 < row.left - tail.x:
            row.put(text, "soft")
    return row.right(tail.put(" ")) if tail.x else row


def line(paint: Paint, panel: Panel, width: int, view: View, name_width: int) -> Row:
    """A device in one line: name, bar by owner against capacity with the plan's tick, readings."""
    row = _marker(paint.row(width), panel, view)
    row.outside(fmt.fit(panel.name, name_width), _name_role(panel, view)).put(" ")
    phase = panel.phase
    row.raw(
        (paint.shape(phase) if phase else " ") + " ", fmt.state(phase).role if phase else "text"
    )
    if panel.drained:
        sign, word = paint.shape("drained"), t("drained")
        row.put(f"{sign} " if width < NARROW else f"{sign} {word} ", fmt.state("drained").role)
    readings = _line_readings(paint, panel, width, view.limits)
    free = width - row.x - readings.x - 2
    role_width = 22 if free >= 60 and panel.role else 0
    spark = min(free // 2, 60) if free >= 40 else 0
    bar_width = min(free - spark - role_width - (1 if spark else 0), 40)
    level = panel.memory.level
    top = float(panel.capacity or 0) or float(panel.predicted or 0) * SPARE
    if top == 0 and level:
        top = level[0] * SPARE
    used = level[0] if level else 0.0
    # Small against a large capacity: the plan is the better yardstick.
    if panel.predicted and used < top * 0.1 and panel.predicted < top * 0.1:
        top = max(panel.predicted, used) * SPARE
    if role_width:
        row.outside(fmt.fit(duty(panel.role), role_width - 1), "soft").put(" ")
    if bar_width > 0:
        row.cells(plot.bar(paint, level[1] if level else (), bar_width, top, panel.predicted))
    if spark:
        count, seconds = _columns_of(view, spark, paint)
        columns = panel.memory.columns(view.now, count, seconds)
        highest = max([c[0] for c in columns if c] + [float(panel.predicted or 0), 1.0])
        row.put(" ").cells(plot.area(paint, columns, 1, highest)[0])
    return row.right(readings.put(" "))


def _line_readings(paint: Paint, panel: Panel, width: int, limits: Thresholds) -> Row:
    row = paint.row(width)
    reading = panel.device.reading if panel.device else None
    if reading is not None and reading.error:
        return row.put("⚠ ", "state.watch").outside(
            fmt.fit(spoken(reading.error), 30), "state.watch"
        )
    used, capacity = panel.used, panel.capacity
    _faults(row, reading, signs=width < 72)
    role = "na" if used is None else "over" if _over(panel, limits) else "text"
    row.raw(fmt.gib(used).rjust(6), role)
    spikes = len(panel.spikes)
    if width < NARROW:  # the bar says how much that is of the capacity
        if reading is not None:
            degrees = "".join(fmt.whole(reading.temperature_c, "°"))
            row.put(f" {degrees:>4}", "state.act" if _hot(reading, limits) else "text")
            busy = "".join(fmt.whole(reading.utilization, "%"))
            row.put(f" {busy:>4}", "soft")
        return row.put(f" ▲{spikes}".ljust(4) if spikes else "    ", "spike")
    if capacity is not None:
        row.put("/", "unit").raw(fmt.gib(capacity).ljust(4), "soft")
    if width >= 50:
        row.put(" GiB", "unit")
    if reading is not None:
        heat = "state.act" if _hot(reading, limits) else "text"
        row.put(" ").whole(reading.temperature_c, "°C", heat, 3)
        if width >= 72:
            row.put(" ").whole(reading.power_w, "W", width=4)
        row.put(" ").whole(reading.utilization, "%", width=4)
    return row.put(f" ▲{spikes}".ljust(4) if spikes else "    ", "spike")

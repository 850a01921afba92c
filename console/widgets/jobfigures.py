"""What a job's details draw: plan against measured, its clips in a row, speed and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from console import format as fmt
from console import history
from console.history import Stack
from console.i18n import n, t
from console.kept import NOTHING, Kept
from console.parts import Track
from console.spoken import spoken
from console.state import Model
from console.widgets import plot
from console.widgets.details import Drawn, Fact, Said
from console.widgets.paint import Paint, Row
from engine.messages import END_STATES, LIVE_STATES, OWNERS, ClipCommitted, JobRow

Line = Fact | Said | Drawn

#: A clip slower than this part of the usual is marked.
SLOW: Final = 0.8
#: A measured peak this much above its prediction is marked.
OVER: Final = 1.02
_NONE: Final[Stack] = (0.0, ())
_AXIS: Final = 6  # cells for the numbers at a plot's left edge


def tracks_of(model: Model, job: int) -> list[Track]:
    """Its ranks, as far as the console has seen them."""
    return sorted((t for key, t in model.tracks.items() if key[0] == job), key=lambda t: t.rank)


def tops_of(model: Model, job: int) -> dict[int, Stack]:
    """Rank → its highest memory by owner, under the plan that holds now."""
    story = model.book.plan_story.get(job)
    since = story[-1].t if story else None
    found = {t.rank: t.memory.highest(since) for t in tracks_of(model, job)}
    return {rank: top for rank, top in found.items() if top is not None}


def peaks_of(model: Model, job: int) -> dict[int, int]:
    """Rank → the highest bytes it was seen to hold."""
    return {rank: int(top[0]) for rank, top in tops_of(model, job).items()}


def held_of(model: Model, job: int) -> dict[str | None, int]:
    """Device uuid → bytes its living ranks hold now; None stands for the host."""
    held: dict[str | None, int] = {}
    for track in tracks_of(model, job):
        if track.ledger is not None and not track.gone:
            uuid = track.change.device_uuid if track.change else None
            held[uuid] = held.get(uuid, 0) + track.ledger.total
    return held


# -- plan against measured -----------------------------------------------------------------


def against(
    paint: Paint, model: Model, job: JobRow, width: int, kept: Kept = NOTHING
) -> list[Line]:
    """A row per rank, predicted against measured; then the fullest rank's owners, both ways.

    What was not seen from here is told by what the engine kept of an ended job.
    """
    plan = model.plans.get(job.id) or kept.plan
    if not plan or not plan.get("devices"):
        said = (
            t("Another program does its work: it has no plan.")
            if job.kind == "command"
            else t("Its plan is made when it starts.")
            if job.state not in LIVE_STATES | END_STATES
            else t("Its plan is not known here.")
        )
        return [Said(said, "soft")]
    tops = tops_of(model, job.id)
    seen = len(tops)
    tops = {**kept.peaks, **tops}
    devices = list(plan["devices"])
    head = paint.row(width).right(paint.row(width).put(t("peak / plan") + " " * 11, "faint"))
    lines: list[Line] = [Drawn(head)]
    # While weights load, a plan is not off: its peak is still to come.
    judged = job.clip > 0 or job.state not in LIVE_STATES
    lines += [
        Drawn(_rank(paint, width, device, tops.get(int(device["rank"])), judged))
        for device in devices
    ]
    fullest = max(devices, key=lambda d: (tops.get(int(d["rank"]), _NONE)[0], _predicted(d)))
    top = tops.get(int(fullest["rank"]), _NONE)
    lines += [Drawn(row) for row in _owners(paint, width, fullest, dict(top[1]), len(devices) > 1)]
    if kept.peaks and not seen:
        lines.append(Said(t("Each owner's own peak: they need not have come together."), "faint"))
    return lines


def _predicted(device: Mapping[str, Any]) -> int:
    return int(device.get("predicted_bytes") or 0)


def _rank(
    paint: Paint, width: int, device: Mapping[str, Any], top: Stack | None, judged: bool
) -> Row:
    predicted, peak = _predicted(device), None if top is None else int(top[0])
    where = str(device.get("device") or "")
    row = paint.row(width).put(fmt.fit(t("rank {rank}", rank=device["rank"]), 8), "soft")
    row.outside(fmt.fit(where, 8), "faint")
    tail = paint.row(width)
    over = peak is not None and predicted and peak > predicted * OVER
    tail.raw((fmt.NA if peak is None else fmt.gib(peak)).rjust(6), "over" if over else "text")
    tail.put(" / ", "unit").raw(fmt.gib(predicted).rjust(5), "plan").put(" GiB", "unit")
    if peak and predicted and (judged or over):
        share = (predicted / peak - 1) * 100  # the plan's error, as everywhere: below 0, too little
        tail.put(f" {round(share):+4d} %", "over" if over else "soft")
    else:
        tail.put(" " * 7)
    room = width - row.x - tail.x - 1
    if room >= 8:
        parts = _together(top) if top is not None else ()
        highest = max(predicted, peak or 0)
        usable = max(float(device.get("usable_bytes") or 0), float(highest))
        capacity = usable if usable < 1.6 * highest else 1.15 * highest
        row.cells(plot.bar(paint, parts, room, capacity, float(predicted)))
    return row.right(tail)


def _together(top: Stack) -> tuple[tuple[str, float], ...]:
    """Owners that make up a peak; as one where they did not peak together."""
    return top[1] if sum(size for _, size in top[1]) <= top[0] * 1.001 else (("other", top[0]),)


def _owners(
    paint: Paint, width: int, device: Mapping[str, Any], top: Mapping[str, float], several: bool
) -> list[Row]:
    planned: Mapping[str, int] = device.get("by_owner") or {}
    if not planned:
        return []
    name = t("owner, rank {rank}", rank=device["rank"]) if several else t("owner")
    head = paint.row(width).put(fmt.fit(name, 20), "faint")
    head.put(fmt.right(t("plan"), 8) + fmt.right(t("peak"), 9), "faint")
    rows = [head]
    for owner in OWNERS:
        if owner not in planned and owner not in top:
            continue
        mine, seen = planned.get(owner), top.get(owner)
        row = (
            paint.row(width).raw(paint.swatch(owner), f"owner.{owner}").put(f" {owner:<18}", "soft")
        )
        row.raw(
            (fmt.NA if mine is None else fmt.gib(mine)).rjust(8), "na" if mine is None else "plan"
        )
        known = seen is not None or bool(top)
        row.raw((fmt.gib(seen or 0) if known else fmt.NA).rjust(9), "text" if known else "na")
        rows.append(row.put(" GiB", "unit"))
    return rows


# -- clips -----------------------------------------------------------------------------------


def _story(model: Model, job: JobRow, kept: Kept) -> list[ClipCommitted]:
    """Its clips, oldest first: as they were seen, or as the engine kept them."""
    seen = model.book.clip_story.get(job.id, ())
    return list(kept.clips if len(kept.clips) > len(seen) else seen)


def clips(paint: Paint, model: Model, job: JobRow, width: int, kept: Kept = NOTHING) -> list[Line]:
    """All its clips in one row, the slow ones marked; where its plan changed; what that means."""
    total = max(job.clips, job.clip)
    if not total:
        return [Said(t("How many clips it has is known once the sound is read."), "soft")]
    story = {clip.clip: clip for clip in _story(model, job, kept)}
    usual = median(c.fps for c in story.values()) if story else None
    lines: list[Line] = [Drawn(_timeline(paint, model, job, total, story, usual, width))]
    row = paint.row(width).put(fmt.fraction(job.clip, total)).put(f" {t('committed')}", "soft")
    if usual is not None:
        row.put("   ").number(usual, "fps").put(f" {t('usually')}", "soft")
    lines.append(Drawn(row))
    slow = [c for c in story.values() if usual is not None and c.fps < usual * SLOW]
    if slow:
        worst = min(slow, key=lambda c: c.fps)
        row = paint.row(width)
        row.put(n("{count} slow clip", "{count} slow clips", len(slow)), "state.watch")
        slowest = t("slowest: clip {clip}, {fps} fps", clip=worst.clip + 1,
                    fps=fmt.significant(worst.fps))  # fmt: skip
        lines.append(Drawn(row.put("  ").put(slowest, "soft")))
    for change in list(model.book.plan_story.get(job.id, ()))[-3:]:
        gap = "" if change.seconds is None else f" ({fmt.duration(change.seconds)})"
        lines.append(
            Said(
                f"{fmt.clock(change.t)} {t(change.reason)} {change.mode}{gap} "
                f"{spoken(change.change, model)}"
            )
        )
    return lines


def _timeline(
    paint: Paint, model: Model, job: JobRow, total: int, story: Mapping[int, ClipCommitted],
    usual: float | None, width: int,
) -> Row:  # fmt: skip
    row = paint.row(width)
    changed = [change.t for change in model.book.plan_story.get(job.id, ())]
    moved = {min((c.clip for c in story.values() if c.t > at), default=-1) for at in changed}
    working = job.clip if job.state in LIVE_STATES else -1
    cells: list[tuple[str, str]] = []
    for x in range(width):
        first = x * total // width
        last = max((x + 1) * total // width, first + 1)
        begins = x == 0 or (x - 1) * total // width != first  # a wide clip is marked once
        marks = moved if begins else set[int]()
        cells.append(_clip_cell(paint, job, range(first, last), story, usual, marks, working))
    return row.cells(cells)


def _clip_cell(
    paint: Paint, job: JobRow, inside: range, story: Mapping[int, ClipCommitted],
    usual: float | None, moved: set[int], working: int,
) -> tuple[str, str]:  # fmt: skip
    unicode = paint.unicode
    # By what is known, not by what the cell spans: a row may claim any number of clips.
    known = [clip for number, clip in story.items() if number in inside]
    if any(clip in inside for clip in moved):
        return ("┃" if unicode else "|", "plan")
    if usual is not None and any(c.fps < usual * SLOW for c in known):
        return ("▓" if unicode else "!", "state.watch")
    if inside[-1] < job.clip:
        return ("█" if unicode else "#", "state.good" if known else "soft")
    if working in inside:
        return ("▒" if unicode else "+", "state.busy")
    return ("·" if unicode else ".", "rule")


def speed(
    paint: Paint, model: Model, job: JobRow, width: int, height: int, kept: Kept = NOTHING
) -> list[Line]:
    """Frames per second of each clip, oldest at the left."""
    story = _story(model, job, kept)
    count = (width - _AXIS) * plot.per_cell(paint)
    if len(story) < 2 or count < 8:
        return [Said(t("A plot of its speed needs two clips seen from here."), "soft")]
    values = [clip.fps for clip in story]
    top = max(values) * 1.1
    per = max(-(-len(values) // count), 1)
    slow = [min(values[at : at + per]) for at in range(0, len(values), per)]
    wide = max(count // len(slow), 1)
    columns = [history.scalar("state.good", v) for v in slow for _ in range(wide)]
    left = plot.per_cell(paint) - (len(columns) % plot.per_cell(paint) or plot.per_cell(paint))
    columns += [columns[-1]] * left
    return _plotted(paint, width, plot.area(paint, columns, height, top), {
        0: (fmt.significant(top), "axis"), height - 1: ("0", "axis"),
    })  # fmt: skip


def memory(paint: Paint, model: Model, job: JobRow, width: int, height: int) -> list[Line]:
    """The fullest rank's memory by owner since it began, its plan as a line."""
    tracks = [track for track in tracks_of(model, job.id) if track.memory.top is not None]
    count = (width - _AXIS) * plot.per_cell(paint)
    if not tracks or count < 8:
        said = (
            t("Nothing of its memory is measured yet.")
            if job.state in LIVE_STATES
            else t("Its memory was not watched from here.")
        )
        return [Said(said, "soft")]
    track = max(tracks, key=lambda one: one.memory.top[0] if one.memory.top else 0.0)
    series = track.memory
    end = series.ended or model.now
    span = history.span_for([series.first], end)
    seconds = history.column_seconds(span, count)
    if series.first is not None and end - series.first > history.SPANS[3]:
        seconds = max(-(-(end - series.first) // (count * history.COARSE)), 1) * history.COARSE
    columns = series.columns(end, count, seconds)
    plan = float(track.ledger.predicted) if track.ledger and track.ledger.predicted else None
    top = max(series.top[0] if series.top else 0.0, plan or 0.0) * 1.08
    labels = {0: (fmt.gib(int(top)), "axis"), height - 1: ("0", "axis")}
    dots = height * (4 if paint.unicode else 1)
    line = plot.level(plan, top, 0.0, dots)
    if plan is not None and line is not None and height > 2:
        labels[height - 1 - line // (dots // height)] = (fmt.gib(plan), "plan")
    lines = _plotted(paint, width, plot.area(paint, columns, height, top, plan=plan), labels)
    note = t(
        "rank {rank}, the fullest; {time} wide", rank=track.rank,
        time=fmt.duration(seconds * count),
    )  # fmt: skip
    return [*lines, Said(note, "faint")]


def _plotted(
    paint: Paint, width: int, rows: Sequence[Sequence[plot.Cell]],
    labels: Mapping[int, tuple[str, str]],
) -> list[Line]:  # fmt: skip
    lines: list[Line] = []
    for y, cells in enumerate(rows):
        text, role = labels.get(y, ("", "axis"))
        row = paint.row(width).raw(text.rjust(_AXIS - 1), role).put(" ")
        lines.append(Drawn(row.cells(cells)))
    return lines

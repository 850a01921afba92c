"""The pipeline strip: which stage is at which block on which device, bubbles, the bottleneck.

One row tells every stage; where there is room, a row per stage shows its last seconds as they went:
filled while it worked, blank while it waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.spoken import duty
from console.stages import Late, Stage, bottleneck, decoder, stages
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.geometry import BLOCK_FRAMES
from engine.messages import JobRow
from engine.plain import Plain, late_dataclass

BLOCKS_SHOWN: Final = 24  # steps of the slowest stage that a row of time covers
STAGE_ROWS: Final = 8  # rows of time at most
_ENDLESS: Final = 10_000  # cells of a row that is only measured
_NEXT: Final = " → "
_LEVELS: Final = "▁▂▃▄▅▆▇█"  # how busy a stage is, in one cell


class Pipeline(Lines):
    """The strip, and rows of time below it as far as its height goes."""

    SHOWS = frozenset({"pipeline"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        job = self.model.current_job()
        if job is None:
            return [self.paint.blank(width)]
        found = stages(self.model, job)
        alone = decoder(self.model, job, found)
        late = bottleneck(found, self.console_app.config.thresholds.bottleneck, alone)
        lines = [strip(self.paint, self.model, job, found, late, width, alone).strip()]
        if height > 1:
            every = [s for s in (*found, alone) if s is not None and s.block is not None]
            slowest = sorted(every, key=lambda stage: -stage.seconds)[: height - 1]
            shown = [stage for stage in every if stage in slowest]
            lines += times(self.paint, shown, late, width)
        return lines

    def rows_wanted(self) -> int:
        """Rows of time that there is something to show in."""
        job = self.model.current_job()
        if job is None:
            return 0
        shown = (t.job == job.id and bool(t.steps or t.decodes) for t in self.model.tracks.values())
        return min(sum(shown), STAGE_ROWS)


@late_dataclass(frozen=True)
class _Way(Plain):
    """One way to write the strip, by what it gives up for want of room.

    Args:
        names: "all" devices by their names, or "first" alone and the others' numbers, or "none".
        bar: cells of each stage's bar; 0 leaves only the blocks.
        told: of the bottleneck: "full" (with what of it is decoding), "long", "short" (by how
            much), "word", "sign".
        vae: the VAE's block is told too. title: the strip has a name.
    """

    names: str
    bar: int
    told: str
    vae: bool = True
    title: bool = True


#: From the fullest to the barest; within each the figures at the right edge give way first.
_WAYS: Final = (
    (
        _Way("all", 4, "full"), _Way("first", 4, "full"),
        _Way("all", 4, "long"), _Way("first", 4, "long"), _Way("first", 4, "short"),
        _Way("first", 2, "short"),
    ),
    (
        _Way("first", 1, "short"), _Way("first", 1, "word"), _Way("first", 1, "word", vae=False),
        _Way("none", 1, "word", vae=False),
    ),
    (_Way("none", 0, "short", vae=False), _Way("none", 0, "word", vae=False)),
    (_Way("none", 0, "word", vae=False, title=False),),
    (_Way("none", 1, "sign", vae=False), _Way("none", 0, "sign", vae=False)),
)  # fmt: skip


def strip(
    paint: Paint, model: Model, job: JobRow, found: Sequence[Stage],
    late: Late | None, width: int, alone: Stage | None = None,
) -> Row:  # fmt: skip
    """Every stage in one row: how busy it is, the block it was at, and who holds up the others."""
    if not found:  # the ranks are not known yet
        row = paint.row(width).put(f" {t('pipeline')}  ", "title").state(job.state)
        return row.right(_rates(paint, model, job, width, 2))
    vae = _vae(model, job, alone)
    cells: dict[tuple[str, int, bool], int] = {}  # of all stages, in each way
    for number, ways in enumerate(_WAYS):
        for kept in (2, 1, 0) if number else (2, 1):
            right = _rates(paint, model, job, width, kept)
            for way in ways:
                key = (way.names, way.bar, way.title)
                if key not in cells:
                    cells[key] = _each(paint.row(_ENDLESS), way, found, late, "").x
                said = paint.text(_told(late, way) + _end(way, found, late, vae))
                if cells[key] + fmt.cells(said) < width - right.x:
                    return _written(paint.row(width), way, found, late, vae).right(right)
    return _written(paint.row(width), _WAYS[-1][-1], found, late, vae)


def _written(row: Row, way: _Way, found: Sequence[Stage], late: Late | None, vae: str) -> Row:
    told, end, behind = _told(late, way), _end(way, found, late, vae), _behind(found, late)
    beside = "" if way.told in ("full", "long") else told  # the stage it is said of
    _each(row, way, found, late, beside)
    row.put(end[: len(_NEXT)], "faint")
    row.put(end[len(_NEXT) :], "state.watch" if behind else "soft")
    if behind or not beside:
        row.put(told, "state.watch")
    return row


def _each(row: Row, way: _Way, found: Sequence[Stage], late: Late | None, told: str) -> Row:
    """Every stage; ``told`` of the bottleneck stands beside it."""
    row.put(f" {t('pipeline')}  " if way.title else " ", "title")
    for number, stage in enumerate(found):
        slow = late is not None and late.stage.rank == stage.rank
        if number:
            row.put(_NEXT if way.bar > 1 else "  " if way.bar else " ", "faint")
        if way.bar:
            row.put(_label(stage, way.names, number) + " ", "soft")
            _bar(row, stage, way.bar, slow)
        at = "·" if stage.block is None else f"{stage.block}"
        row.put(at, "state.watch" if slow else "text")
        if slow:
            row.put(told, "state.watch")
    return row


def _behind(found: Sequence[Stage], late: Late | None) -> bool:
    """Whether the bottleneck is none of these: the rank that only decodes."""
    return late is not None and all(late.stage.rank != stage.rank for stage in found)


def _end(way: _Way, found: Sequence[Stage], late: Late | None, vae: str) -> str:
    return _NEXT + vae if vae and (way.vae or _behind(found, late)) else ""


def _label(stage: Stage, names: str, number: int) -> str:
    """The device where it has a number, else the rank; in short, the number alone."""
    whole = stage.device or t("rank {rank}", rank=stage.rank)
    if names == "all" or (names == "first" and not number):
        return whole
    return stage.device.rpartition(" ")[2] or f"{stage.rank}"


def _told(late: Late | None, way: _Way) -> str:
    """What is said of the bottleneck."""
    if late is None:
        return ""
    if way.told in ("full", "long"):
        return _long(late, decoding=way.told == "full")
    if way.told == "sign":
        return " ◀"
    if way.told == "word" or late.extra is None:
        return f" ◀ {t('bottleneck')}"
    said = t("bottleneck by {extra} ms", extra=fmt.significant(late.extra * 1000))
    return f" ◀ {said}"


def _long(late: Late, *, decoding: bool) -> str:
    """Who holds the others up, by how much, than what, and what of it is decoding."""
    stage = late.stage
    where = t("bottleneck: rank {rank}", rank=stage.rank)
    if stage.device:
        where = t("bottleneck: rank {rank} on {device}", rank=stage.rank, device=stage.device)
    if late.extra is None:  # its steps alone are the slowest; what it decodes comes on top
        return f"   ◀ {where}"
    over = t("{extra} ms a block more than the next", extra=fmt.significant(late.extra * 1000))
    if stage.decode is None or not decoding:
        return f"   ◀ {where}, {over}"
    told = t("decodes for {own} ms", own=fmt.significant(stage.decode * 1000))
    return f"   ◀ {where}, {over} ({told})"


def _vae(model: Model, job: JobRow, alone: Stage | None) -> str:
    """The block that was decoded last, and where, if that is no stage's device."""
    done = model.blocks.get(job.id)
    if done is None:
        return ""
    if alone is None:
        return f"VAE {done.block}"
    return f"VAE {alone.device or t('rank {rank}', rank=alone.rank)} {done.block}"


def _rates(paint: Paint, model: Model, job: JobRow, width: int, kept: int) -> Row:
    """Figures at the right edge: how fast (1), and which clip is safe (2)."""
    right = paint.row(width)
    if kept and job.fps is not None:
        right.put("  ").number(job.fps, "fps").put("  ")
        if kept > 1 and width >= 100 and job.fps > 0:
            right.put(t("block") + " ", "soft").number(BLOCK_FRAMES / job.fps, "s").put("  ")
    clip = model.clips.get(job.id)
    if kept > 1 and clip is not None:
        number = clip.clip + 1
        said = t("clip {number} on disk", number=number)
        right.put(said if width >= 100 else t("clip {number}", number=number), "soft")
        right.put(" ")
    return right


def _bar(row: Row, stage: Stage, width: int, late: bool) -> None:
    """How busy a stage is; the blank part of it are its bubbles. Before its first block: why."""
    role = "state.watch" if late else "state.good"
    filled = width if stage.busy is None else min(max(round(stage.busy * width), 1), width)
    row.put("▕", "faint")
    if stage.block is None:
        look = fmt.state(stage.phase)
        row.put(look.shape.ljust(width), look.role)
    elif width == 1 and stage.busy is not None:
        row.put(_LEVELS[min(int(stage.busy * len(_LEVELS)), len(_LEVELS) - 1)], role)
    else:
        row.put("█" * filled, role).put(" " * (width - filled))
    row.put("▏", "faint")


def times(paint: Paint, found: Sequence[Stage], late: Late | None, width: int) -> list[Strip]:
    """A row per stage: its last seconds, one shade per block, blank where it waited.

    Time ends at whole seconds, so that a row moves once a second and not with every step.
    """
    if not found:
        return []
    slowest = max(stage.seconds for stage in found)
    newest = int(max(run.t for stage in found for run in stage.runs[-2:]))
    names = max(fmt.cells(_name(stage)) for stage in found) + 2
    label = min(names, max(width // 4, 10))
    cells = width - label - 30
    if cells < 10:
        return []
    span = min(max(slowest * BLOCKS_SHOWN, 4.0), 60.0)
    lines = []
    for stage in found:
        slow = late is not None and late.stage.rank == stage.rank
        row = paint.row(width).put(" ").outside(fmt.fit(_name(stage), label - 2), "soft").put(" ")
        end = row.x + cells
        _blocks_of_time(paint, row, stage, newest - span, span / cells, cells, slow)
        row.to(end).put("  ")
        busy = None if stage.busy is None else stage.busy * 100
        row.whole(busy, "%", width=3).put(f" {t('busy')}  ", "soft")
        seconds = round(stage.seconds, 3)  # in the five cells there are for it
        row.number(seconds, "s", width=5).put(f" {t('a block')}", "soft")
        lines.append(row.strip())
    return lines


def _name(stage: Stage) -> str:
    where = stage.device or t("rank {rank}", rank=stage.rank)
    return f"{where}  {duty(stage.role)}" if stage.role else where


def _blocks_of_time(
    paint: Paint, row: Row, stage: Stage, start: float, seconds: float, count: int, late: bool
) -> None:
    """``count`` cells of ``seconds`` each from ``start`` on: a run for each block computed."""
    even, odd, none = ("█", "▓", "·") if paint.unicode else ("#", "=", ".")
    roles = ("state.watch", "state.watch") if late else ("soft", "faint")
    x = 0
    shown = [*takewhile(lambda run: run.t > start, reversed(stage.runs))]
    for run in reversed(shown):
        last = min(round((run.t - start) / seconds), count)
        if last <= x:
            continue
        first = min(max(round((run.t - run.seconds - start) / seconds), x), last)
        row.raw(none * (first - x), "rule")
        row.raw((odd if run.block % 2 else even) * (last - first), roles[run.block % 2])
        x = last
    row.raw(none * (count - x), "rule")

"""The pipeline strip: which stage is at which block on which device, bubbles, the bottleneck.

One row tells every stage; where there is room, a row per stage shows its last seconds as they went:
filled while it worked, blank while it waited.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.parts import Track
from console.spoken import duty
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.geometry import BLOCK_FRAMES
from engine.messages import JobRow, StepDone

RECENT: Final = 24  # steps that a stage's pace is judged by
BLOCKS_SHOWN: Final = 24  # steps of the slowest stage that a row of time covers
PAUSE: Final = 5.0  # seconds, and twenty steps' time: so long nothing waits for a neighbour
STAGE_ROWS: Final = 8  # rows of time at most
_LEVELS: Final = "▁▂▃▄▅▆▇█"  # how busy a stage is, in one cell


@dataclass(frozen=True)
class Stage:
    """One rank of the pipeline at the moment.

    Args:
        block: the one it ended last; None before its first.
        phase: what the rank is at.
        seconds: median of what it worked on each of the last blocks; 0 before its first.
        busy: part of the last steps' time that it worked (0…1); None after one step alone.
    """

    rank: int
    device: str
    role: str
    phase: str
    block: int | None
    seconds: float
    busy: float | None
    steps: Sequence[StepDone]


def stages(model: Model, job: JobRow) -> list[Stage]:
    """The ranks of a job that denoise, in their order: by its plan, and by what they told."""
    names = model.machines.names()
    planned = _planned(model, job)
    found = [track for track in model.tracks.values()
             if track.job == job.id and (track.steps or track.rank in planned)]  # fmt: skip
    return [_stage(track, names) for track in sorted(found, key=lambda track: track.rank)]


def _planned(model: Model, job: JobRow) -> set[int]:
    plan = model.plans.get(job.id) or {}
    return {stage["rank"] for stage in plan.get("stages", ())}


def _stage(track: Track, names: dict[str, str]) -> Stage:
    change = track.change
    device = names.get(change.device_uuid or "", "") if change else ""
    role, phase = (change.role, change.phase) if change else ("", "spawned")
    if not track.steps:
        return Stage(track.rank, device, role, phase, None, 0.0, None, track.steps)
    recent = _recent(track.steps)
    last = recent[-1]
    length = last.t - (recent[0].t - recent[0].seconds)
    busy = None
    if len(recent) > 1 and length > 0:
        busy = min(sum(step.seconds for step in recent) / length, 1.0)
    pace = _seconds_per_block(recent)
    return Stage(track.rank, device, role, phase, last.block, pace, busy, track.steps)


def _recent(steps: Sequence[StepDone]) -> list[StepDone]:
    """The last steps since work began or went on: a pause is no bubble."""
    found = [steps[-1]]
    for n in range(2, min(len(steps), RECENT) + 1):
        if found[-1].t - found[-1].seconds - steps[-n].t > PAUSE + 20 * found[-1].seconds:
            break
        found.append(steps[-n])
    return found[::-1]


def _seconds_per_block(recent: Sequence[StepDone]) -> float:
    """The median time for a block: a rank may do several steps of it, or parts of several."""
    worked: dict[int, list[float]] = {}
    for step in recent:
        worked.setdefault(step.block, []).append(step.seconds)
    # The first and the last may be there in part.
    whole = max(statistics.multimode(map(len, worked.values())))
    return statistics.median(sum(told) for told in worked.values() if len(told) == whole)


def bottleneck(found: Sequence[Stage], percent: float) -> tuple[Stage, float] | None:
    """The slowest stage and the seconds it takes more than the next; None when all are even.

    Args:
        percent: what the slowest may take longer than the fastest without being told.
    """
    ordered = sorted((s for s in found if s.block is not None), key=lambda stage: stage.seconds)
    if len(ordered) < 2:
        return None
    slowest = ordered[-1]
    if slowest.seconds <= ordered[0].seconds * (1 + percent / 100):
        return None
    return slowest, slowest.seconds - ordered[-2].seconds


class Pipeline(Lines):
    """The strip, and rows of time below it as far as its height goes."""

    SHOWS = frozenset({"pipeline"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        job = self.model.current_job()
        if job is None:
            return [self.paint.blank(width)]
        found = stages(self.model, job)
        late = bottleneck(found, self.console_app.config.thresholds.bottleneck)
        lines = [strip(self.paint, self.model, job, found, late, width).strip()]
        if height > 1:
            slowest = sorted(found, key=lambda stage: -stage.seconds)[: height - 1]
            shown = [stage for stage in found if stage in slowest and stage.steps]
            lines += times(self.paint, shown, late, width)
        return lines

    def rows_wanted(self) -> int:
        """Rows of time that there is something to show in."""
        job = self.model.current_job()
        if job is None:
            return 0
        return min(sum(t.job == job.id and bool(t.steps) for t in self.model.tracks.values()),
                   STAGE_ROWS)  # fmt: skip


@dataclass(frozen=True)
class _Way:
    """One way to write the strip, by what it gives up for want of room.

    Args:
        names: "all" devices by their names, or "first" alone and the others' numbers, or "none".
        bar: cells of each stage's bar; 0 leaves only the blocks.
        told: of the bottleneck: "long", "short" (by how much), "word", "sign".
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
    late: tuple[Stage, float] | None, width: int,
) -> Row:  # fmt: skip
    """Every stage in one row: how busy it is, the block it was at, and who holds up the others."""
    if not found:  # the ranks are not known yet
        row = paint.row(width).put(f" {t('pipeline')}  ", "title").state(job.state)
        return row.right(_rates(paint, model, job, width, 2))
    vae = _vae(model, job, found)
    for number, ways in enumerate(_WAYS):
        for kept in (2, 1, 0) if number else (2, 1):
            right = _rates(paint, model, job, width, kept)
            for way in ways:
                # One cell wider than allowed shows what would have been cut.
                row = _written(paint.row(width - right.x), way, found, late, vae)
                if row.x < row.width:
                    row.width = width
                    return row.right(right)
    return _written(paint.row(width), _WAYS[-1][-1], found, late, vae)


def _written(
    row: Row, way: _Way, found: Sequence[Stage], late: tuple[Stage, float] | None, vae: str
) -> Row:
    row.put(f" {t('pipeline')}  " if way.title else " ", "title")
    for number, stage in enumerate(found):
        slow = late is not None and late[0].rank == stage.rank
        if number:
            row.put(" → " if way.bar > 1 else "  " if way.bar else " ", "faint")
        if way.bar:
            row.put(_label(stage, way.names, number) + " ", "soft")
            _bar(row, stage, way.bar, slow)
        at = "·" if stage.block is None else f"{stage.block}"
        row.put(at, "state.watch" if slow else "text")
        if slow and late is not None and way.told != "long":
            row.put(_short(late[1], way.told), "state.watch")
    if way.vae and vae:
        row.put(" → ", "faint").put(vae, "soft")
    if late is not None and way.told == "long":
        row.put(_long(late), "state.watch")
    return row


def _label(stage: Stage, names: str, number: int) -> str:
    """The device where it has a number, else the rank; in short, the number alone."""
    whole = stage.device or t("rank {rank}", rank=stage.rank)
    if names == "all" or (names == "first" and not number):
        return whole
    return stage.device.rpartition(" ")[2] or f"{stage.rank}"


def _short(extra: float, told: str) -> str:
    if told == "sign":
        return " ◀"
    if told == "word":
        return f" ◀ {t('bottleneck')}"
    said = t("bottleneck by {extra} ms", extra=fmt.significant(extra * 1000))
    return f" ◀ {said}"


def _long(late: tuple[Stage, float]) -> str:
    """Who holds the others up, by how much, and than what."""
    stage, extra = late
    where = t("bottleneck: rank {rank}", rank=stage.rank)
    if stage.device:
        where = t("bottleneck: rank {rank} on {device}", rank=stage.rank, device=stage.device)
    over = t("{extra} ms a block more than the next", extra=fmt.significant(extra * 1000))
    return f"   ◀ {where}, {over}"


def _vae(model: Model, job: JobRow, found: Sequence[Stage]) -> str:
    """The block that was decoded last, and where, if that is no stage's device."""
    done = model.blocks.get(job.id)
    if done is None:
        return ""
    rank = (model.plans.get(job.id) or {}).get("vae_rank")
    track = model.tracks.get((job.id, rank)) if isinstance(rank, int) else None
    if track is None or any(stage.rank == rank for stage in found):
        return f"VAE {done.block}"
    device = model.machines.names().get((track.change and track.change.device_uuid) or "", "")
    return f"VAE {device or t('rank {rank}', rank=rank)} {done.block}"


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


def times(
    paint: Paint, found: Sequence[Stage], late: tuple[Stage, float] | None, width: int
) -> list[Strip]:
    """A row per stage: its last seconds, one shade per block, blank where it waited.

    Time ends at whole seconds, so that a row moves once a second and not with every step.
    """
    if not found:
        return []
    slowest = max(stage.seconds for stage in found)
    newest = int(max(stage.steps[-1].t for stage in found))
    names = max(fmt.cells(_name(stage)) for stage in found) + 2
    label = min(names, max(width // 4, 10))
    cells = width - label - 30
    if cells < 10:
        return []
    span = min(max(slowest * BLOCKS_SHOWN, 4.0), 60.0)
    lines = []
    for stage in found:
        slow = late is not None and late[0].rank == stage.rank
        row = paint.row(width).put(" ").outside(fmt.fit(_name(stage), label - 2), "soft").put(" ")
        end = row.x + cells
        _blocks_of_time(paint, row, stage, newest - span, span / cells, cells, slow)
        row.to(end).put("  ")
        busy = None if stage.busy is None else stage.busy * 100
        row.whole(busy, "%", width=3).put(f" {t('busy')}  ", "soft")
        row.number(stage.seconds, "s", width=5).put(f" {t('a block')}", "soft")
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
    for step in stage.steps:
        last = min(round((step.t - start) / seconds), count)
        if last <= x:
            continue
        first = min(max(round((step.t - step.seconds - start) / seconds), x), last)
        row.raw(none * (first - x), "rule")
        row.raw((odd if step.block % 2 else even) * (last - first), roles[step.block % 2])
        x = last
    row.raw(none * (count - x), "rule")

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
from engine.messages import JobRow, StepDone

RECENT: Final = 8  # steps that a stage's pace is judged by
BLOCKS_SHOWN: Final = 24  # steps of the slowest stage that a row of time covers
STAGE_ROWS: Final = 8  # rows of time at most


@dataclass(frozen=True)
class Stage:
    """One rank of the pipeline at the moment.

    Args:
        busy: part of the last steps' time that it worked (0…1); None after one step alone.
        seconds: median of the last steps.
    """

    rank: int
    device: str
    role: str
    step: StepDone
    seconds: float
    busy: float | None
    steps: Sequence[StepDone]


def stages(model: Model, job: JobRow) -> list[Stage]:
    """The ranks of a job that denoise, in their order."""
    names = model.machines.names()
    found = [track for track in model.tracks.values() if track.job == job.id and track.steps]
    return [_stage(track, names) for track in sorted(found, key=lambda track: track.rank)]


def _stage(track: Track, names: dict[str, str]) -> Stage:
    recent = list(track.steps)[-RECENT:]
    last = recent[-1]
    length = last.t - (recent[0].t - recent[0].seconds)
    busy = None
    if len(recent) > 1 and length > 0:
        busy = min(sum(step.seconds for step in recent) / length, 1.0)
    change = track.change
    device = names.get(change.device_uuid or "", "") if change else ""
    return Stage(
        track.rank, device, change.role if change else "", last,
        statistics.median(step.seconds for step in recent), busy, track.steps,
    )  # fmt: skip


def bottleneck(found: Sequence[Stage], percent: float) -> tuple[Stage, float] | None:
    """The slowest stage and the seconds it takes more than the next; None when all are even.

    Args:
        percent: what the slowest may take longer than the fastest without being told.
    """
    if len(found) < 2:
        return None
    ordered = sorted(found, key=lambda stage: stage.seconds)
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
            shown = [stage for stage in found if stage in slowest]
            lines += times(self.paint, shown, late, width)
        return lines

    def rows_wanted(self) -> int:
        """Rows of time that there is something to show in."""
        job = self.model.current_job()
        return min(len(stages(self.model, job)), STAGE_ROWS) if job is not None else 0


def strip(
    paint: Paint, model: Model, job: JobRow, found: Sequence[Stage],
    late: tuple[Stage, float] | None, width: int,
) -> Row:  # fmt: skip
    """Every stage in one row: how busy it is, and the block it was at."""
    row = paint.row(width).put(f" {t('pipeline')} ", "title")
    right = _rates(paint, model, job, width)
    told = _told(paint, late, width)
    inline = late is not None and 70 <= width < 130
    vae = model.blocks.get(job.id)
    after = 10 if vae is not None and width >= 100 else 0
    room = width - right.x - row.x - told.x - after - (12 if inline else 2)
    if room < len(found) * 9:  # the stages matter more than what is told about one
        room, told = room + told.x, paint.row(0)
    each = room // max(len(found), 1)
    if each < 9 and len(found) > 1:
        return _blocks(row, found, late, width - right.x).right(right)
    bar = 4 if each >= 15 else 3 if each >= 13 else 2 if each >= 11 else 1
    for number, stage in enumerate(found):
        if row.x + 8 + bar > width - right.x:
            row.put(" …", "faint")
            break
        slow = late is not None and late[0].rank == stage.rank
        gap = " → " if each >= 11 else "  "
        row.put(gap if number else " ", "faint").put(f"{stage.rank} ", "soft")
        row.cells(_bar(paint, stage.busy, bar, slow))
        row.put(f"{stage.step.block}", "state.watch" if slow else "text")
        if slow and inline and late is not None:
            row.put(f" ◀ +{fmt.significant(late[1] * 1000)} ms", "state.watch")
    if after and vae is not None and row.x + after < width - right.x:
        row.put(" → ", "faint").put("VAE ", "soft").put(f"{vae.block}")
    if told.x and row.x + told.x < width - right.x:
        row.add(told)
    return row.right(right)


def _blocks(row: Row, found: Sequence[Stage], late: tuple[Stage, float] | None, end: int) -> Row:
    """Many stages in little room: the block each is at, in their order."""
    for number, stage in enumerate(found):
        text = f"{stage.step.block}"
        if row.x + len(text) + (2 if number < len(found) - 1 else 0) > end:
            return row.put("…", "faint")
        slow = late is not None and late[0].rank == stage.rank
        row.put(f"{text} ", "state.watch" if slow else "text")
    return row


def _told(paint: Paint, late: tuple[Stage, float] | None, width: int) -> Row:
    """Who holds the others up, and by how much."""
    row = paint.row(width)
    if late is None or width < 130:  # narrower: beside the stage itself
        return row
    stage, extra = late
    where = t("bottleneck: rank {rank}", rank=stage.rank)
    if stage.device:
        where = t("bottleneck: rank {rank} on {device}", rank=stage.rank, device=stage.device)
    return row.put(f"  ◀ {where} +{fmt.significant(extra * 1000)} ms", "state.watch")


def _rates(paint: Paint, model: Model, job: JobRow, width: int) -> Row:
    right = paint.row(width)
    block, clip = model.blocks.get(job.id), model.clips.get(job.id)
    if job.fps is not None:
        right.number(job.fps, "fps").put("  ")
    if block is not None and width >= 100:
        right.put(t("block") + " ", "soft").number(block.seconds, "s").put("  ")
    if clip is not None:
        number = clip.clip + 1
        said = t("clip {number} on disk", number=number)
        right.put(said if width >= 100 else t("clip {number}", number=number), "soft")
        right.put(" ")
    return right


def _bar(paint: Paint, busy: float | None, width: int, late: bool) -> list[tuple[str, str]]:
    """How busy a stage is; the blank part of it are its bubbles."""
    filled = width if busy is None else min(max(round(busy * width), 1), width)
    role = "state.watch" if late else "state.good"
    full, left, right = ("█", "▕", "▏") if paint.unicode else ("#", "[", "]")
    return [(left, "faint"), *[(full, role)] * filled, *[(" ", "text")] * (width - filled),
            (right, "faint")]  # fmt: skip


def times(
    paint: Paint, found: Sequence[Stage], late: tuple[Stage, float] | None, width: int
) -> list[Strip]:
    """A row per stage: its last seconds, one shade per block, blank where it waited.

    Time ends at whole seconds, so that a row moves once a second and not with every step.
    """
    if not found:
        return []
    slowest = max(stage.seconds for stage in found)
    newest = int(max(stage.step.t for stage in found))
    names = max(fmt.cells(_name(stage)) for stage in found) + 2
    label = min(names, max(width // 4, 10))
    cells = width - label - 20
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
        row.whole(busy, "%", width=3).put("  ").number(stage.seconds, "s", width=5)
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
        first = max(round((step.t - step.seconds - start) / seconds), x)
        row.raw(none * (first - x), "rule")
        row.raw((odd if step.block % 2 else even) * (last - first), roles[step.block % 2])
        x = last
    row.raw(none * (count - x), "rule")

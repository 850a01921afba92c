"""The pipeline strip: which rank is at which block, how fast, and who holds the others up."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from console import format as fmt
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.messages import JobRow


class Pipeline(Lines):
    """Which rank is at which step of which block, how fast, and who is the slowest."""

    SHOWS = frozenset({"pipeline"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        job = self.model.current_job()
        if job is None:
            return [self.paint.blank(width)]
        return [pipeline(self.paint, self.model, job, width).strip()]


def pipeline(paint: Paint, model: Model, job: JobRow, width: int) -> Row:
    """Per rank a bar of how long its last step took, and the block it was at."""
    row = paint.row(width).put(" pipeline ", "title")
    tracks = sorted(
        (t for t in model.tracks.values() if t.job == job.id and t.step), key=lambda t: t.rank
    )
    seconds = [t.step.seconds for t in tracks if t.step]
    slowest = max(seconds, default=0.0)
    # Within a fiftieth of each other nobody is the bottleneck.
    uneven = len(seconds) > 1 and slowest > min(seconds) * 1.02
    right = _rates(paint, model, job, width)
    each = (width - right.x - row.x - 2) // max(len(tracks), 1)
    bar = 3 if each >= 13 else 2 if each >= 11 else 1
    for n, track in enumerate(tracks):
        step = track.step
        if step is None:
            continue
        if row.x + 8 + bar > width - right.x:
            row.put(" …", "faint")
            break
        row.put(" → " if n and each >= 12 else " ", "faint").put(f"{track.rank} ", "soft")
        late = uneven and step.seconds == slowest
        row.cells(_step_bar(paint, step.seconds / slowest if slowest else 0.0, bar, late))
        row.put(f"{step.block}", "state.watch" if late else "text")
    if uneven and row.left - right.x > 26:
        last = next(t for t in tracks if t.step and t.step.seconds == slowest)
        extra = (slowest - sorted(seconds)[-2]) * 1000
        row.put(f"  ◀ rank {last.rank} +{fmt.significant(extra)} ms", "state.watch")
    return row.right(right)


def _rates(paint: Paint, model: Model, job: JobRow, width: int) -> Row:
    right = paint.row(width)
    block, clip = model.blocks.get(job.id), model.clips.get(job.id)
    if job.fps is not None:
        right.number(job.fps, "fps").put("  ")
    if block is not None and width >= 100:
        right.put("block ", "soft").number(block.seconds, "s").put("  ")
    if clip is not None:
        right.put(
            f"clip {clip.clip + 1} on disk" if width >= 100 else f"clip {clip.clip + 1}", "soft"
        )
        right.put(" ")
    return right


def _step_bar(paint: Paint, part: float, width: int, late: bool) -> list[tuple[str, str]]:
    filled = min(max(round(part * width), 1), width)
    role = "state.watch" if late else "state.good"
    full, left, right = ("█", "▕", "▏") if paint.unicode else ("#", "[", "]")
    return [(left, "faint"), *[(full, role)] * filled, *[(" ", "text")] * (width - filled),
            (right, "faint")]  # fmt: skip

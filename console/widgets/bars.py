"""The single-line parts of the overview: header, pipeline strip, footer, and rules."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from console import actions
from console import format as fmt
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.messages import JobRow


class Header(Lines):
    """Host, devices, mode, counts, clock; and what is wrong, if something is."""

    SHOWS = frozenset({"header"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        return [header(self.paint, self.model, width).strip(), self.paint.rule(width)][:height]


def header(paint: Paint, model: Model, width: int) -> Row:
    row = paint.row(width).put(" avatop", "accent").put("  ")
    right = paint.row(width)
    _counts(right, model, short=width < 100)
    right.put("  ").put(fmt.clock(model.now), "soft").put(" ")
    if model.stopped is not None:
        row.put("⚠ engine ended ", "state.act").outside(model.stopped, "state.watch")
        return row.right(right)
    if not model.connected:
        row.put("starting the engine …" if paint.unicode else "starting the engine", "soft")
        return row.right(right)
    facts = [model.host, _devices(model), _mode(model)]
    shown = [fact for fact in facts if fact]
    for n, fact in enumerate(shown):
        room = width - right.x - row.x - 3
        if room < 8 and n:
            break
        if n:
            row.put(" · ", "faint")
        row.outside(fmt.fit(fact, min(len(fact), max(room, 4)), "…" if paint.unicode else "."),
                    "text" if n == 0 else "soft")  # fmt: skip
    return row.right(right)


def _devices(model: Model) -> str:
    gpus = model.gpus()
    if gpus:
        kinds = {device.reading.name for device in gpus}
        name = kinds.pop().removeprefix("NVIDIA ") if len(kinds) == 1 else "GPU"
        return f"{len(gpus)}×{name}"
    return "no GPU: ranks on CPU" if model.devices else ""


def _mode(model: Model) -> str:
    job = model.current_job()
    if job is None:
        return ""
    return f"{job.mode}×{job.ranks}" if job.ranks > 1 else job.mode


def _counts(row: Row, model: Model, short: bool) -> None:
    counts = {"running": len(model.live_jobs()), "queued": len(model.queued_jobs())}
    states = [job.state for job in model.jobs.values()]
    alerts = sum(panel.phase == "died" for panel in model.panels())
    for name, count in counts.items():
        if count or name == "running":
            row.raw("" if row.x == 0 else "  ")
            role = fmt.state(name).role if count else "soft"
            row.put(f"{fmt.state(name).shape} {count}", role).put(f" {name}", "soft")
    ended = [(name, states.count(name), name) for name in ("interrupted", "failed")]
    dead = ("warning", alerts, "dead rank" if alerts == 1 else "dead ranks")
    for name, count, word in [*ended, dead]:
        if count:
            look = fmt.state(name)
            row.put(f"  {look.shape} {count}", look.role)
            if not short:
                row.put(f" {word}", "soft")


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


class Footer(Lines):
    """Keys for where the focus is, from the registry; sentences of the moment before them."""

    SHOWS = frozenset({"footer"})

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.message: tuple[str, str] | None = None  # (sentence, role)
        self.scope: str | None = None

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        return [footer(self.paint, self.scope, self.message, width).strip()]


def footer(paint: Paint, scope: str | None, message: tuple[str, str] | None, width: int) -> Row:
    row = paint.row(width).put(" ")
    if message is not None:
        row.outside(fmt.fit(message[0], min(len(message[0]), width - 12)), message[1]).put("   ")
    for action in actions.footer(scope):
        key = actions.shown(action.keys[0])
        if row.left < len(key) + len(action.label) + 2:
            continue
        row.put(key, "key").put(f" {action.label}  ", "soft")
    return row


def heading(paint: Paint, title: str, width: int, focused: bool, note: Row | None = None) -> Strip:
    """The first row of a part: its title at the left edge of a rule, remarks at the right."""
    row = paint.row(width)
    row.put("▌" if focused else "─", "accent" if focused else "rule")
    row.put(title, "title.focus" if focused else "title").put(" ")
    end = note.x + 2 if note is not None and note.x else 0
    row.put("─" * max(width - row.x - end, 0), "rule")
    if note is not None and note.x:
        row.put(" ").right(note.put(" "))
    return row.strip()

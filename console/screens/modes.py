"""All modes side by side: what each holds, whether it fits, how fast it is; Enter takes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.worker import Worker, WorkerState

from console import format as fmt
from console.i18n import n, t
from console.replanning import Way
from console.spoken import spoken
from console.state import Model
from console.widgets import plot
from console.widgets.jobfigures import held_of
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.geometry import BLOCK_FRAMES
from engine.messages import LIVE_STATES, OWNERS, JobRow, Switch, SwitchQueue

if TYPE_CHECKING:
    from console.app import AvatopApp

_BAR: Final = 16
_SPEED: Final = 11
_BLOCK: Final = 9
_WIDE: Final = 116  # cells of the table where there is more room
_SMALL: Final = 0.2  # of a device's memory; below it the fullest mode is the yardstick
_SPARE: Final = 1.25  # of such a yardstick over the fullest mode: nothing is full there


@dataclass(frozen=True)
class Target:
    """What a mode is taken for.

    Args:
        kind: "job", "queue" or "values" (the tune page's).
        words: it, in a sentence: "job 17 from its next clip boundary".
    """

    kind: str
    words: str
    job: int = 0


class ModesBody(Lines):
    """The table of modes, and the one under the cursor in full."""

    def __init__(
        self, model: Model, paint: Paint, title: str, targets: Sequence[Target], now: str,
        fps: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(model, paint)
        self.modes_title = title
        self.targets = targets
        self.now = now  # title of the plan that holds now
        self.fps = fps  # its speed in this very job
        self.ways: list[Way] | None = None
        self.problem = ""
        self.at = 0
        self.target = 0

    @property
    def way(self) -> Way | None:
        return self.ways[self.at] if self.ways else None

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        paint = self.paint
        lines = [paint.blank(width)]
        lines.append(paint.row(width).put("   ").put(self.modes_title, "title.focus").strip())
        lines.append(paint.blank(width))
        if self.ways is None:
            said = self.problem or t("Reading the devices and the checkpoint")
            role = "state.act" if self.problem else "soft"
            lines += self._said(said, role, width)
            return [*lines, paint.blank(width), *self._keys(width)]
        lines.append(self._heads(width))
        lines += [self._line(n, way, width) for n, way in enumerate(self.ways)]
        lines.append(paint.blank(width))
        about, keys = self._about(width), self._keys(width)
        room = max(height - len(lines) - len(keys) - 2, 0)
        lines += about[:room]
        lines += [paint.blank(width)] * max(height - len(lines) - len(keys) - 1, 0)
        return [*lines, *keys]

    def _columns(self, width: int) -> tuple[int, bool, bool, bool]:
        """Cells for the name; whether there is room for bars, the host's column, and blocks'."""
        titles = [fmt.cells(spoken(way.title)) for way in self.ways or ()]
        bars, host, block = width >= 92, width >= 104, width >= 112
        fixed = 3 + 17 + _SPEED + 17 + (_BAR + 1 if bars else 0) + (11 if host else 0)
        fixed += _BLOCK if block else 0
        return min(max(titles, default=8) + 2, max(width - fixed, 14)), bars, host, block

    def _heads(self, width: int) -> Strip:
        name, bars, host, block = self._columns(width)
        row = self.paint.row(width).put("   ").put(fmt.fit(t("mode"), name), "faint")
        row.put(fmt.fit(t("fullest device"), 17), "faint")
        if bars:
            row.put(" " * (_BAR + 1))
        if host:
            row.put(fmt.fit(t("host"), 11), "faint")
        row.put(fmt.fit(t("speed"), _SPEED), "faint")
        if block:
            row.put(fmt.fit(t("a block"), _BLOCK), "faint")
        row.put(t("verdict"), "faint")
        return row.strip()

    def _line(self, number: int, way: Way, width: int) -> Strip:
        here = number == self.at
        paint, fullest = self.paint, way.fullest
        name, bars, host, block = self._columns(width)
        row = paint.row(width, cursor=here).put(" ▌ " if here else "   ", "accent")
        role = "text" if way.usable else "soft"
        row.put(
            fmt.fit(spoken(way.title), name - 1), "accent" if way.title == self.now else role
        ).put(" ")
        over = not way.plan.fits
        row.raw(fmt.gib(fullest.predicted_bytes).rjust(5), "over" if over else "text")
        row.put(" / ", "unit").raw(fmt.gib(fullest.usable_bytes).ljust(4), "soft")
        row.put(" GiB ", "unit")
        if bars:
            parts = [(o, float(fullest.by_owner[o])) for o in OWNERS if fullest.by_owner.get(o)]
            most = float(max(one.fullest.predicted_bytes for one in self.ways or (way,)))
            usable = float(fullest.usable_bytes or most)
            if most < usable * _SMALL:
                row.cells(plot.bar(paint, parts, _BAR, most * _SPARE, None))
            else:
                top = max(usable, fullest.predicted_bytes)
                row.cells(plot.bar(paint, parts, _BAR, top, usable))
            row.put(" ")
        if host:
            pinned = way.plan.host.pinned_bytes if way.plan.host else 0
            row.put(fmt.fit(f"{fmt.gib(pinned)} GiB" if pinned else "", 11), "soft")
        seconds = self._seconds(way)
        end = row.x + _SPEED
        if seconds is None or seconds <= 0:
            row.put(fmt.NA.rjust(5), "na")
        else:
            row.number(BLOCK_FRAMES / seconds, "fps", width=5)
        row.to(end)
        if block:
            row.put(fmt.fit(fmt.duration(seconds), _BLOCK), "na" if seconds is None else "soft")
        self._verdict(row, way)
        return row.strip()

    def _seconds(self, way: Way) -> float | None:
        """A block's, by earlier runs; of the present mode else as this job does it."""
        known = way.plan.seconds_per_block
        if known is None and way.title == self.now and self.fps:
            return BLOCK_FRAMES / self.fps
        return known

    def _verdict(self, row: Row, way: Way) -> None:
        if way.usable and way.fullest.usable_bytes is None:
            row.put("? ", "state.watch").put(t("may fit"), "state.watch")
        elif way.usable:
            row.put("✓ ", "state.good").put(t("fits"), "state.good")
        elif not way.plan.fits:
            why = t("does not fit") if way.plan.possible else t("cannot run")
            row.put("✗ ", "state.act").put(why, "state.act")
        else:
            row.put("✗ ", "state.watch").put(t("not built"), "state.watch")
        if way.title == self.now:
            row.put("  ").put(t("now"), "accent")

    def _about(self, width: int) -> list[Strip]:
        way = self.way
        if way is None:
            return []
        lines: list[Strip] = []
        if fmt.cells(spoken(way.title)) >= self._columns(width)[0]:  # cut in the table
            lines += self._said(spoken(way.title), "accent", width)
        if way.usable:
            lines += self._said(t("The output stays as it is, bit by bit."), "state.good", width)
        for reason in (*way.plan.reasons[:2], *way.unbuilt[:1]):
            lines += self._said(spoken(f"{reason}."), "state.act", width)
        if self._seconds(way) is None and way.usable:
            said = t("Its speed is n/a: nothing alike was measured on this host yet.")
            lines += self._said(said, "soft", width)
        return [*lines, *self._said(way.flags, "faint", width)]

    def _said(self, text: str, role: str, width: int) -> list[Strip]:
        parts = fmt.wrap(fmt.inert(text), width - 6)
        return [self.paint.row(width).put("   ").outside(part, role).strip() for part in parts]

    def _keys(self, width: int) -> list[Strip]:
        """What keys do, in as many rows as that takes."""
        told: list[tuple[str, str]] = []
        if self.ways and self.targets:
            told.append(("↵", self.targets[self.target].words))
            if len(self.targets) > 1:
                other = self.targets[(self.target + 1) % len(self.targets)].words
                told.append(("Tab", other))
        told.append(("Esc", t("leave")))
        if self.ways and not self.targets:
            told.append(("", _over()))
        rows = [self.paint.row(width)]
        for key, what in told:
            if rows[-1].x and rows[-1].x + fmt.cells(f"   {key} {what}") > width:
                rows.append(self.paint.row(width))
            rows[-1].put("   ").put(key, "key").put(f" {what}" if key else what, "soft")
        return [row.strip() for row in rows]


class ModesScreen(ModalScreen["tuple[Target, Way] | None"]):
    """The result is what was taken for what, or None.

    Args:
        look: reads the devices and plans every mode; runs on a thread.
        targets: what Enter may switch; the first is proposed. now: title of the present plan.
        fps: its speed so far, where it is known.
    """

    DEFAULT_CSS = """
    ModesScreen { align: center middle; background: $background 60%; }
    ModesScreen > ModesBody { background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("tab,shift+tab", "other", show=False, priority=True),
        Binding("enter", "take", show=False),
        Binding("escape,q,m", "leave", show=False),
    ]

    def __init__(
        self, model: Model, paint: Paint, title: str, look: Callable[[], list[Way]],
        targets: Sequence[Target], now: str = "", fps: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.look = look
        self.body = ModesBody(model, paint.raised(), title, targets, now, fps)

    @property
    def busy(self) -> bool:
        """Whether the modes are still being planned."""
        return self.body.ways is None and not self.body.problem

    def compose(self) -> ComposeResult:
        yield self.body

    def on_mount(self) -> None:
        self._fit()
        self.run_worker(self.look, thread=True, exit_on_error=False)

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        width = self.app.size.width  # no scraps of the page beside it
        self.body.styles.width = width if width < _WIDE + 16 else _WIDE
        rows = 14 + len(self.body.ways or ())
        self.body.styles.height = min(rows, max(self.app.size.height - 1, 8))

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """The modes are planned, or cannot be."""
        if event.state is WorkerState.SUCCESS:
            self.body.ways = list(event.worker.result or [])
            titles = [way.title for way in self.body.ways]
            if self.body.now in titles:
                self.body.at = titles.index(self.body.now)
        elif event.state is WorkerState.ERROR:
            self.body.problem = t(
                "Modes cannot be planned: {why}", why=spoken(str(event.worker.error))
            )
        else:
            return
        self._fit()
        self.body.update()

    def action_move(self, by: int) -> None:
        if self.body.ways:
            self.body.at = (self.body.at + by) % len(self.body.ways)
            self.body.update()

    def action_other(self) -> None:
        if self.body.targets:
            self.body.target = (self.body.target + 1) % len(self.body.targets)
            self.body.update()

    def action_take(self) -> None:
        way, app = self.body.way, self.app
        say = getattr(app, "say")  # noqa: B009 - any app with a footer
        if way is None:
            return
        if not self.body.targets:
            say(_over(), "state.watch")
            return
        if not way.usable:
            reason = (*way.plan.reasons, *way.unbuilt, "")[0]
            say(
                t("{mode} cannot be taken: {why}", mode=spoken(way.title), why=spoken(reason)),
                "state.watch",
            )
            return
        if way.title == self.body.now and self.body.targets[self.body.target].kind == "job":
            say(t("The job runs by that very plan."), "soft")
            return
        self.dismiss((self.body.targets[self.body.target], way))

    def action_leave(self) -> None:
        self.dismiss(None)


def _over() -> str:
    return t("The job has ended and none waits: there is nothing to switch.")


def title_of(plan: dict[str, Any] | None) -> str:
    """A plan's placement in a few words; empty where there is none."""
    if not plan or "weights" not in plan:
        return ""
    from engine.placement.alternatives import title
    from engine.placement.plan import plan_from_dict

    return title(plan_from_dict(plan))


def steady(model: Model, job: JobRow) -> float | None:
    """Frames per second of a job under its present plan, its pipeline filled; None: not yet."""
    changed = [change.t for change in model.book.plan_story.get(job.id, ())]
    clips = [
        clip.fps
        for clip in model.book.clip_story.get(job.id, ())
        if not changed or clip.t > changed[-1]
    ]
    return median(clips[1:]) if len(clips) > 1 else None


def switch(app: AvatopApp, job: JobRow | None) -> None:
    """Compare the modes for a job or for those that wait, and switch what is chosen."""
    if job is None:
        app.say(t("There is no job whose modes could be compared."), "soft")
        return
    if job.kind == "command":
        app.say(t("Another program does the work of job {id}: it has no mode.", id=job.id), "soft")
        return
    waiting = [one for one in app.model.queued_jobs() if one.state == "queued"]
    targets: list[Target] = []
    if job.state in LIVE_STATES:
        targets.append(Target("job", t("switches job {id} at its next clip", id=job.id), job.id))
    elif job.state == "queued":
        targets.append(Target("job", t("switches waiting job {id}", id=job.id), job.id))
    if waiting:
        words = n("switches the {count} waiting job", "switches all {count} waiting jobs",
                  len(waiting))  # fmt: skip
        targets.append(Target("queue", words))
    request, plan = dict(job.request), app.model.plans.get(job.id)
    held = held_of(app.model, job.id)

    def look() -> list[Way]:
        from console.replanning import modes_of

        return modes_of(request, plan, held)

    def done(taken: tuple[Target, Way] | None) -> None:
        if taken is None:
            return
        target, way = taken
        if target.kind == "queue":
            command: Switch | SwitchQueue = SwitchQueue(changes=way.changes)
            said = t("Waiting jobs use {mode}.", mode=spoken(way.title))
        else:
            command = Switch(job=target.job, changes=way.changes)
            said = t("Job {id} goes on in {mode}.", id=target.job, mode=spoken(way.title))
        app.command(command, said)

    now = title_of(plan) if job.state in LIVE_STATES else ""
    heading = t("Modes for job {id}: {size}, {steps} steps", id=job.id,
                size=job.size.replace("*", "×"), steps=job.steps)  # fmt: skip
    screen = ModesScreen(app.model, app.paint, heading, look, targets, now, steady(app.model, job))
    app.push_screen(screen, done)

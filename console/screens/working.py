"""Long work with its progress, and a key that cancels it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.worker import Worker, WorkerState

from console import format as fmt
from console.i18n import t
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint
from console.widgets.progress import progress

TICK: Final = 0.2  # seconds between pictures


@dataclass
class Outcome:
    """How work ended: its ``value``, or the ``error`` that ended it, or ``cancelled``."""

    value: Any = None
    error: BaseException | None = None
    cancelled: bool = False


class Report:
    """What the work tells while it goes on, and is told. Any thread."""

    def __init__(self) -> None:
        self.part: float | None = None  # 0…1, None: not known
        self.detail = ""
        self._cancelled = threading.Event()
        self._steady: tuple[float, float] | None = (0.0, time.monotonic())

    def tell(self, part: float | None, detail: str = "", *, steady: bool = True) -> None:
        """How far it is, and what it does at the moment.

        Args:
            steady: whether parts take time in proportion; without that no time left is told.
        """
        if not steady:
            self._steady = None
        elif self._steady is None:
            self._steady = (part or 0.0, time.monotonic())
        self.part, self.detail = part, detail

    def left(self) -> float | None:
        """Seconds until its end, from how fast it went since its parts are alike."""
        part, steady = self.part, self._steady
        if part is None or steady is None or part >= 1 or part - steady[0] <= 0.02:
            return None
        return (time.monotonic() - steady[1]) * (1 - part) / (part - steady[0])

    @property
    def cancelled(self) -> bool:
        """Whether to stop at the next good moment."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()


class WorkingBody(Lines):
    DEFAULT_CSS = "WorkingBody { height: 7; }"

    def __init__(self, model: Model, paint: Paint, title: str, report: Report) -> None:
        super().__init__(model, paint)
        self.work_title = title
        self.report = report
        self.begun = time.monotonic()

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        paint, report = self.paint, self.report
        seconds = time.monotonic() - self.begun
        bar = paint.row(width).put("   ")
        progress(paint, bar, width - 6, report.part, seconds, report.left())
        detail = paint.row(width).put("   ")
        detail.outside(fmt.short(report.detail, width - 6), "soft")
        keys = paint.row(width).put("   Esc ", "key")
        keys.put(t("being cancelled") if report.cancelled else t("cancel"), "soft")
        return [
            paint.blank(width),
            paint.row(width).put("   ").outside(self.work_title, "title.focus").strip(),
            bar.strip(),
            detail.strip(),
            paint.blank(width),
            keys.strip(),
        ]


class Working(ModalScreen[Outcome]):
    """Runs ``job(report)`` on a thread and shows how far it is; the result is an ``Outcome``.

    ``app.push_screen(Working(model, paint, t("Verify"), verify), done)``. The job asks
    ``report.cancelled`` now and then and returns early when it is set.
    """

    DEFAULT_CSS = """
    Working { align: center middle; background: $background 60%; }
    Working > WorkingBody { width: 72; max-width: 96%; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "stop", show=False)]

    def __init__(
        self, model: Model, paint: Paint, title: str, job: Callable[[Report], Any]
    ) -> None:
        super().__init__()
        self.report = Report()
        self.job = job
        self.body = WorkingBody(model, paint.raised(), title, self.report)

    def compose(self) -> ComposeResult:
        yield self.body

    def on_mount(self) -> None:
        self.set_interval(TICK, self.body.update)
        self.run_worker(lambda: self.job(self.report), thread=True, exit_on_error=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """The work has ended, one way or another."""
        if event.worker.is_finished:
            result = event.worker.result if event.state is WorkerState.SUCCESS else None
            self.dismiss(Outcome(result, event.worker.error, self.report.cancelled))

    def action_stop(self) -> None:
        self.report.cancel()
        self.body.update()

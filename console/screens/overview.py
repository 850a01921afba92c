"""The overview: one glance says whether it works, what is about to break, what to press."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget

from console import actions
from console.screens.base import Page
from console.state import Model
from console.widgets.alarm import Alarm
from console.widgets.devices import Devices, arrange
from console.widgets.jobs import Jobs
from console.widgets.logs import Logs
from console.widgets.paint import Paint
from console.widgets.pipeline import Pipeline
from console.widgets.preview import NewestFrame
from engine.plain import Plain, late_dataclass


@late_dataclass(frozen=True)
class Heights(Plain):
    """Rows of each part at one terminal size."""

    header: int
    devices: int
    pipeline: int
    middle: int
    logs: int
    preview_width: int
    alarm: int = 0


@late_dataclass(frozen=True)
class Wants(Plain):
    """What the parts have to show.

    Args:
        panels: devices. jobs: jobs. host_line: the devices part has a row for the host.
        alarms: things that are wrong. stages: stages of the pipeline with a row of time.
    """

    panels: int
    jobs: int
    host_line: bool = False
    alarms: int = 0
    stages: int = 0


def heights(width: int, height: int, wants: Wants) -> Heights:
    """Share the rows: devices get what they can use, jobs and log never vanish."""
    panels, jobs, host_line = wants.panels, wants.jobs, wants.host_line
    header = 2 if height >= 20 else 1
    pipeline = 1 if height >= 22 else 0
    if height >= 44 and width >= 100:
        pipeline += wants.stages
    alarm = min(wants.alarms, 1 if height < 30 else 2 if height < 44 else 4)
    rest = height - header - pipeline - alarm - 1
    least_middle = 4 if rest < 30 else 6
    least_logs = 4 if rest < 30 else 6
    host = 1 if host_line else 0
    share = max(rest - least_middle - least_logs - host, 1)
    if rest >= 30:  # large screens: leave jobs and log a good third
        share = min(share, rest * 64 // 100)
    grid = arrange(panels, width, share)
    devices = min(grid.height(panels), share) + host
    left = rest - devices
    wanted = min(max(jobs + 2, least_middle), left // 2 + left % 2)
    if width >= 100:  # the preview needs height to be worth looking at
        wanted = max(wanted, min(left * 55 // 100, 13))
    middle = max(min(wanted, left - least_logs), min(least_middle, left))
    logs = left - middle
    preview = 0
    if width >= 100 and middle >= 5:
        preview = min(max((middle - 1) * 4, 24), width // 3)
    return Heights(header, devices, pipeline, middle, logs, preview, alarm)


class Overview(Page):
    """The first page."""

    DEFAULT_CSS = """
    Overview > Horizontal { height: auto; }
    Overview > Horizontal > Jobs { width: 1fr; height: 100%; }
    Overview > Horizontal > NewestFrame { height: 100%; margin-left: 1; }
    """
    NAME = "overview"
    BINDINGS = actions.bindings("overview")

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.alarm = Alarm(model, paint, id="alarm")
        self.devices = Devices(model, paint, id="devices")
        self.pipeline = Pipeline(model, paint, id="pipeline")
        self.jobs = Jobs(model, paint, id="jobs")
        self.frame = NewestFrame(model, paint, id="preview")
        self.logs = Logs(model, paint, id="logs")
        self.middle = Horizontal(self.jobs, self.frame, id="middle")
        self._heights: Heights | None = None

    def body(self) -> ComposeResult:
        yield self.alarm
        yield self.devices
        yield self.pipeline
        yield self.middle
        yield self.logs

    def first_focus(self) -> Widget:
        return self.jobs

    def on_mount(self) -> None:
        self.share_rows()

    def on_resize(self) -> None:
        self.share_rows()

    def share_rows(self) -> None:
        """Give each part its rows for the present size and number of devices."""
        width, height = self.app.size
        panels = self.model.panels()
        host_line = self.model.host_track() is not None and any(p.kind == "rank" for p in panels)
        banner = self.banner is not None
        wants = Wants(
            len(panels), len(self.model.jobs), host_line, self.alarm.rows_wanted(),
            self.pipeline.rows_wanted(),
        )  # fmt: skip
        new = heights(width, height - banner, wants)
        if new == self._heights:
            return
        self._heights = new
        self.alarm.styles.height = new.alarm
        self.alarm.display = new.alarm > 0
        self.devices.styles.height = new.devices
        self.pipeline.styles.height = new.pipeline
        self.pipeline.display = new.pipeline > 0
        self.middle.styles.height = new.middle
        self.logs.styles.height = new.logs
        self.frame.display = new.preview_width > 0
        if new.preview_width:
            self.frame.styles.width = new.preview_width

    def model_changed(self, dirty: set[str]) -> None:
        if dirty & {"devices", "jobs", "alerts", "findings", "pipeline"}:
            self.share_rows()

    # -- what one does here --------------------------------------------------------------------

    def action_submit(self) -> None:
        from console import deeds

        deeds.submit(self.console_app)

    def action_cancel_job(self) -> None:
        from console import deeds

        deeds.cancel(self.console_app)

    def action_modes(self) -> None:
        from console.screens import modes

        modes.switch(self.console_app, self.jobs.item)

    def action_acknowledge(self) -> None:
        from console import deeds

        deeds.acknowledge(self.console_app)

    def action_threshold(self) -> None:
        from console import deeds

        deeds.threshold(self.console_app)

    def action_history(self) -> None:
        from console import deeds

        deeds.history(self.console_app)

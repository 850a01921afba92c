"""The overview: one glance says whether it works, what is about to break, what to press."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen

from console.state import Model
from console.widgets.bars import Footer, Header, Pipeline
from console.widgets.devices import Devices, arrange
from console.widgets.jobs import Jobs
from console.widgets.lines import Lines
from console.widgets.logs import Logs
from console.widgets.paint import Paint
from console.widgets.preview import NewestFrame


@dataclass(frozen=True)
class Heights:
    """Rows of each part at one terminal size."""

    header: int
    devices: int
    pipeline: int
    middle: int
    logs: int
    preview_width: int


def heights(width: int, height: int, panels: int, jobs: int, host_line: bool) -> Heights:
    """Share the rows: devices get what they can use, jobs and log never vanish.

    Args:
        panels: how many devices are shown; jobs: how many jobs there are.
        host_line: whether the devices part has a row for the host.
    """
    header = 2 if height >= 20 else 1
    pipeline = 1 if height >= 22 else 0
    rest = height - header - pipeline - 1
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
    return Heights(header, devices, pipeline, middle, logs, preview)


class Overview(Screen[None]):
    """The first screen."""

    DEFAULT_CSS = """
    Overview { layout: vertical; background: $background; }
    Overview > Horizontal { height: auto; }
    Overview > Horizontal > Jobs { width: 1fr; height: 100%; }
    Overview > Horizontal > NewestFrame { height: 100%; margin-left: 1; }
    """

    #: Rows that a subclass shows above the header.
    EXTRA_ROWS: ClassVar[int] = 0
    #: Scope whose keys the footer shows whatever has the focus.
    KEYS_OF: ClassVar[str | None] = None

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__()
        self.model = model
        self.head = Header(model, paint, id="header")
        self.devices = Devices(model, paint, id="devices")
        self.pipeline = Pipeline(model, paint, id="pipeline")
        self.jobs = Jobs(model, paint, id="jobs")
        self.frame = NewestFrame(model, paint, id="preview")
        self.logs = Logs(model, paint, id="logs")
        self.foot = Footer(model, paint, id="footer")
        self.middle = Horizontal(self.jobs, self.frame, id="middle")
        self._heights: Heights | None = None

    @property
    def parts(self) -> tuple[Lines, ...]:
        return (self.head, self.devices, self.pipeline, self.jobs, self.frame, self.logs, self.foot)

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.devices
        yield self.pipeline
        yield self.middle
        yield self.logs
        yield self.foot

    def on_mount(self) -> None:
        self.share_rows()
        self.jobs.focus()

    def on_resize(self) -> None:
        self.share_rows()

    def share_rows(self) -> None:
        """Give each part its rows for the present size and number of devices."""
        width, height = self.app.size
        panels = self.model.panels()
        host_line = self.model.host_track() is not None and any(p.kind == "rank" for p in panels)
        new = heights(width, height - self.EXTRA_ROWS, len(panels), len(self.model.jobs), host_line)
        if new == self._heights:
            return
        self._heights = new
        self.head.styles.height = new.header
        self.devices.styles.height = new.devices
        self.pipeline.styles.height = new.pipeline
        self.pipeline.display = new.pipeline > 0
        self.middle.styles.height = new.middle
        self.logs.styles.height = new.logs
        self.frame.display = new.preview_width > 0
        if new.preview_width:
            self.frame.styles.width = new.preview_width

    def show(self, dirty: set[str]) -> None:
        """Draw what changed."""
        if dirty & {"devices", "jobs"}:
            self.share_rows()
        with self.app.batch_update():
            for part in self.parts:
                if part.SHOWS & dirty and part.display:
                    part.update()

    def on_descendant_focus(self) -> None:
        focused = self.focused
        scope = focused.SCOPE if isinstance(focused, Lines) else None
        self.foot.scope = self.KEYS_OF or scope
        self.foot.update()

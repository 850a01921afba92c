"""The console over a recording: the same screens, one time cursor, keys to move it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from textual import work
from textual.app import ComposeResult

from console import actions
from console.app import FRAME, AvatopApp
from console.leave import Leave
from console.screens.overview import Overview
from console.screens.replay_bar import ReplayBar, stamp
from console.state import Model
from console.widgets.paint import Paint
from engine.client import EngineClient
from engine.messages import Command
from engine.telemetry.replay import ReplayClient

STEP: Final = 5.0  # recorded seconds an arrow key moves
#: Up to this far ahead the cursor walks; beyond, the picture is built anew.
_WALK: Final = 60.0
_KEYS: Final = frozenset(action.name.partition("(")[0] for action in actions.in_scope("replay"))


class ReplayOverview(Overview):
    """The overview below a bar that says what it is."""

    EXTRA_ROWS = 1
    KEYS_OF = "replay"

    def __init__(self, model: Model, paint: Paint, client: ReplayClient) -> None:
        super().__init__(model, paint)
        self.bar = ReplayBar(model, paint, client, id="replay")

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.bar, *super().parts)

    def compose(self) -> ComposeResult:
        yield self.bar
        yield from super().compose()


class ReplayApp(AvatopApp):
    """Shows a recording. Nothing in it reaches an engine.

    Args:
        client: the recording, its cursor where the first picture shall be.
        viewer: the viewer's own clock, in seconds; what a recorded minute is measured by.
    """

    BINDINGS = actions.bindings("replay", priority=True)

    def __init__(
        self,
        client: ReplayClient,
        *,
        theme: str | None = None,
        environ: Mapping[str, str] | None = None,
        own_fds: bool = True,
        viewer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            client, theme=theme, environ=environ, own_fds=own_fds, clock=lambda: client.cursor
        )
        self.replay = client
        self.viewer = viewer
        self._viewed = viewer()
        self.overview: ReplayOverview = ReplayOverview(self.model, self.paint, client)

    def on_mount(self) -> None:
        self.set_interval(FRAME, self.tick)

    def _join(self, client: EngineClient) -> None:
        self._unsubscribe = client.subscribe(self.model.apply)
        self.go_to(self.replay.cursor)

    # -- the cursor ------------------------------------------------------------------------------

    def tick(self) -> None:
        """The viewer's time passes."""
        now = self.viewer()
        passed, self._viewed = now - self._viewed, now
        if self.replay.playing and not self.overview.bar.seeking:
            self.replay.advance(passed)
            self._moved()

    def _moved(self) -> None:
        self.model.dirty |= {"replay", "header", "devices"}
        self._picture()

    def go_to(self, moment: float) -> None:
        """Put the cursor anywhere; the picture there is built on a thread."""
        recording = self.replay.recording
        moment = min(max(moment, recording.start), recording.end)
        bar = self.overview.bar
        if self.model.connected and not bar.seeking and 0 <= moment - self.replay.cursor <= _WALK:
            self.replay.play_to(moment)
            self._moved()
            return
        bar.seeking = True
        bar.update()
        self._build(moment, self.model.next_empty())

    @work(thread=True, exclusive=True, group="seek")
    def _build(self, moment: float, picture: Model) -> None:
        picture.now = moment
        picture.connected = True
        for event in self.replay.ground(moment):
            picture.apply(event)
        self._from_thread(self._built, moment, picture)

    def _built(self, moment: float, picture: Model) -> None:
        self.replay.seek(moment)
        self.model.become(picture)
        self.overview.logs.forget()
        self.overview.bar.seeking = False
        self._viewed = self.viewer()
        self._moved()

    def action_transport(self, what: str, by: int = 0) -> None:
        """What a transport key does."""
        replay = self.replay
        if what == "play":
            if not replay.playing and replay.cursor >= replay.recording.end:
                self.go_to(replay.recording.start)
            replay.playing = not replay.playing
            self._viewed = self.viewer()
            self._moved()
        elif what == "step":
            self.go_to(replay.cursor + by * STEP * max(1.0, replay.speed / 10))
        elif what == "speed":
            replay.faster(by)
            self._moved()
        elif what == "edge":
            self.go_to(replay.recording.start if by < 0 else replay.recording.end)
        elif what == "mark":
            self._to_mark(by)

    def _to_mark(self, by: int) -> None:
        mark = self.replay.mark(by)
        if mark is None:
            where = "before" if by < 0 else "after"
            self.say(f"No spike, alert or error {where} {stamp(self.replay.cursor)}.", "soft")
            return
        self.replay.playing = False
        self.go_to(self.replay.moment_of(mark))
        role = "spike" if mark.kind == "spike" else "state.act"
        self.say(f"{mark.kind} at {stamp(mark.at)}: {mark.text}", role)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Transport keys belong to the overview, not to dialogs or a search being typed."""
        if action in _KEYS:
            return self.screen is self.overview and self.overview.logs.prompt is None
        return super().check_action(action, parameters)

    # -- what a recording does not do ------------------------------------------------------------

    def command(self, command: Command, done: str) -> None:  # noqa: ARG002
        self._refuse()

    def _refuse(self) -> None:
        self.say("This is a recording: nothing in it can be changed.", "state.watch")

    def action_submit(self) -> None:
        self._refuse()

    def action_cancel_job(self) -> None:
        self._refuse()

    def action_threshold(self) -> None:
        self._refuse()

    def action_quit_console(self) -> None:
        self.exit(Leave("quit"))

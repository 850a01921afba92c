"""The console over a recording: the same screens, one time cursor, keys to move it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from textual import work

from console import actions
from console.app import FRAME, AvatopApp
from console.config import Config
from console.i18n import t
from console.leave import Leave
from console.screens.replay_bar import ReplayBar, stamp
from console.state import Model
from console.widgets.bars import Place
from engine.client import EngineClient
from engine.telemetry.replay import ReplayClient

STEP: Final = 5.0  # recorded seconds an arrow key moves
#: Up to this far ahead the cursor walks; beyond, the picture is built anew.
_WALK: Final = 60.0
_KEYS: Final = frozenset(action.name.partition("(")[0] for action in actions.in_scope("replay"))


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
        lang: str | None = None,
        config: Config | None = None,
        environ: Mapping[str, str] | None = None,
        own_fds: bool = True,
        viewer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            client,
            theme=theme,
            lang=lang,
            config=config,
            environ=environ,
            own_fds=own_fds,
            clock=lambda: client.cursor,
        )
        self.replay = client
        self.viewer = viewer
        self._viewed = viewer()
        self.seeking = False

    def banner(self) -> ReplayBar:
        return ReplayBar(self.model, self.paint, self.replay, id="replay")

    def place(self) -> Place:
        scopes = ("replay", *self.page.scopes)
        return Place(scopes, self.keymap, self.read_only)

    @property
    def read_only(self) -> bool:
        return True

    def refuses(self) -> bool:
        self.say(t("This is a recording: nothing in it can be changed."), "state.watch")
        return True

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
        if self.replay.playing and not self.seeking:
            self.replay.advance(passed)
            self._moved()

    def _moved(self) -> None:
        self.model.dirty |= {"replay", "header", "devices"}
        self._picture()

    def go_to(self, moment: float) -> None:
        """Put the cursor anywhere; the picture there is built on a thread."""
        recording = self.replay.recording
        moment = min(max(moment, recording.start), recording.end)
        if self.model.connected and not self.seeking and 0 <= moment - self.replay.cursor <= _WALK:
            self.replay.play_to(moment)
            self._moved()
            return
        self.seeking = True
        if self.page.banner is not None:
            self.page.banner.update()
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
        for page in self._opened.values():
            for part in page.parts:
                part.forget()
        self.seeking = False
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
            at = stamp(self.replay.cursor)
            none = (
                t("No spike, alert or error before {time}.", time=at)
                if by < 0
                else t("No spike, alert or error after {time}.", time=at)
            )
            self.say(none, "soft")
            return
        self.replay.playing = False
        self.go_to(self.replay.moment_of(mark))
        role = "spike" if mark.kind == "spike" else "state.act"
        self.say(f"{stamp(mark.at)}  {t(mark.kind)}: {mark.text}", role)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Transport keys belong to pages, not to dialogs or a search being typed."""
        if action in _KEYS:
            return self.screen is self.page and not self.page.typing
        return super().check_action(action, parameters)

    def action_quit_console(self) -> None:
        self.exit(Leave("quit"))

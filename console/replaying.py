"""A console over a recorded moment: one time cursor, keys that move it, the way back to now.

The pages draw from the same model as ever. While a recording is shown the model holds the picture
at the cursor, the engine's own events go on into ``live``, and no command reaches the engine.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final

from textual import work
from textual.binding import BindingType
from textual.timer import Timer

from console import actions
from console.i18n import t
from console.spoken import spoken
from console.state import Model
from console.terminal_app import TerminalApp
from console.widgets.lines import Lines
from console.widgets.paint import Paint
from engine.client import EngineClient

if TYPE_CHECKING:
    from console.screens.base import Page
    from engine.telemetry.replay import ReplayClient

TICK: Final = 0.1  # seconds of the viewer's time between two moves of the cursor
STEP: Final = 5.0  # recorded seconds an arrow key moves
#: Up to this far ahead the cursor walks; beyond, the picture is built anew.
_WALK: Final = 60.0
_KEYS: Final = frozenset(action.name.partition("(")[0] for action in actions.in_scope("replay"))


class Replaying(TerminalApp):
    """What the console does with recordings.

    Attributes:
        replay: the recording that is shown; None: the present.
        live: what the engine tells now. The model itself, unless a recording is shown.
        seeking: a picture of another moment is being built.
        viewer: the viewer's own clock, in seconds; what a recorded minute is measured by.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        *actions.bindings("replay", priority=True),
        *actions.bindings("visit", priority=True),
    ]
    model: Model
    live: Model
    paint: Paint
    client: EngineClient | None
    clock: Callable[[], float]
    _opened: dict[str, Page]
    replay: ReplayClient | None = None
    seeking = False
    viewer: Callable[[], float] = staticmethod(time.monotonic)
    _viewed = 0.0
    _present: tuple[EngineClient | None, Callable[[], float]] | None = None
    _ticking: Timer | None = None
    _heard: Callable[[], None] | None = None

    @property
    @abstractmethod
    def page(self) -> Page:
        """The page shown."""

    @abstractmethod
    def say(self, sentence: str, role: str = "text") -> None:
        """A sentence in the footer."""

    @abstractmethod
    def _picture(self) -> None:
        """Take in what has come, draw what changed."""

    @abstractmethod
    def _from_thread(self, function: Callable[..., object], *arguments: object) -> None:
        """Call on the console's own thread."""

    @property
    def replay_scopes(self) -> tuple[str, ...]:
        """Scopes of the keys that hold because a recording is shown."""
        if self.replay is None:
            return ()
        return ("visit", "replay") if self.visiting else ("replay",)

    # -- there and back --------------------------------------------------------------------------

    @property
    def visiting(self) -> bool:
        """Whether a recording is shown from which there is a way back to the present."""
        return self._present is not None

    def own_time(self) -> float:
        """The person's own clock in Unix seconds, also while a recording is shown."""
        if self.replay is None:
            return self.clock()
        return time.time() if self._present is None else self._present[1]()

    def visit(self, client: ReplayClient) -> None:
        """Show a recording, its cursor where the first picture shall be, on every page."""
        if self.replay is not None:
            self._leave_recording()
        else:
            self._present = (self.client, self.clock)
            self.live = Model()
            self.live.become(self.model)
        self.client = client
        self.clock = lambda: client.cursor
        self.attend(client)
        for page in self._opened.values():
            page.set_banner(self.banner())
        self._anew(client.cursor)

    def back_to_present(self) -> None:
        """Leave the recording; what the engine told meanwhile is there."""
        if self._present is None:
            return
        self._leave_recording()
        (self.client, self.clock), self._present = self._present, None
        self.model.become(self.live)
        self.live = self.model
        self.seeking = False
        for page in self._opened.values():
            page.set_banner(None)
        self._forget()
        self.model.dirty |= {"replay"}
        self._picture()
        self.say(t("Back to the present."), "state.good")

    def attend(self, client: ReplayClient) -> None:
        """Let the recording's events and the viewer's time move the picture."""
        self.replay = client
        self._viewed = self.viewer()
        self._heard = client.subscribe(self.model.apply)
        self._ticking = self.set_interval(TICK, self.tick)

    def _leave_recording(self) -> None:
        if self._ticking is not None:
            self._ticking.stop()
        if self._heard is not None:
            self._heard()
        if self.replay is not None:
            self.replay.close()
        self.replay = None

    def banner(self) -> Lines | None:
        """A row above every page, or None; a recording marks its pages with one."""
        if self.replay is None:
            return None
        from console.screens.replay_bar import ReplayBar

        return ReplayBar(self.model, self.paint, self.replay, id="replay")

    # -- the cursor ------------------------------------------------------------------------------

    def tick(self) -> None:
        """The viewer's time passes."""
        now = self.viewer()
        passed, self._viewed = now - self._viewed, now
        if self.replay is not None and self.replay.playing and not self.seeking:
            self.replay.advance(passed)
            self._moved()

    def _moved(self) -> None:
        self.model.dirty |= {"replay", "header", "devices"}
        self._picture()

    def go_to(self, moment: float) -> None:
        """Put the cursor anywhere; the picture there is built on a thread."""
        replay = self.replay
        if replay is None:
            return
        moment = min(max(moment, replay.recording.start), replay.recording.end)
        if self.model.connected and not self.seeking and 0 <= moment - replay.cursor <= _WALK:
            replay.play_to(moment)
            self._moved()
        else:
            self._anew(moment)

    def _anew(self, moment: float) -> None:
        assert self.replay is not None
        self.seeking = True
        if self.page.banner is not None:
            self.page.banner.update()
        self._build(self.replay, moment, self.model.next_empty())

    @work(thread=True, exclusive=True, group="seek")
    def _build(self, replay: ReplayClient, moment: float, picture: Model) -> None:
        picture.now = moment
        picture.connected = True
        for event in replay.ground(moment):
            picture.apply(event)
        self._from_thread(self._built, replay, moment, picture)

    def _built(self, replay: ReplayClient, moment: float, picture: Model) -> None:
        if replay is not self.replay:
            return  # the recording was left meanwhile
        replay.seek(moment)
        self.model.become(picture)
        self._forget()
        self.seeking = False
        self._viewed = self.viewer()
        self._moved()

    def _forget(self) -> None:
        for page in self._opened.values():
            for part in page.parts:
                part.forget()

    # -- keys ------------------------------------------------------------------------------------

    def action_transport(self, what: str, by: int = 0) -> None:
        """What a transport key does."""
        replay = self.replay
        if replay is None:
            return
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
            self._to_mark(replay, by)

    def _to_mark(self, replay: ReplayClient, by: int) -> None:
        from console.screens.replay_bar import stamp

        stop = replay.stop(by)
        if stop is None:
            at = stamp(replay.cursor)
            none = (
                t("No spike, alert or error before {time}.", time=at)
                if by < 0
                else t("No spike, alert or error after {time}.", time=at)
            )
            self.say(none, "soft")
            return
        replay.playing = False
        self.go_to(stop.moment)
        mark = stop.mark
        role = "spike" if mark.kind == "spike" else "state.act"
        told = t(mark.kind) + t(": ") + spoken(mark.text, self.model)
        self.say(f"{stamp(mark.at)}  {told}", role)

    def action_present(self) -> None:
        if self.visiting:
            self.back_to_present()
        else:
            self.say(t("Here is only the recording: there is no present to go back to."), "soft")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Transport keys belong to the pages of a recording, not to dialogs or a search."""
        if action == "present":
            shown = self.replay is not None
            return shown and self.screen is self.page and not self.page.typing
        if action in _KEYS:
            shown = self.replay is not None
            return shown and self.screen is self.page and not self.page.typing
        return super().check_action(action, parameters)

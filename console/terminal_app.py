"""A Textual app that owns its terminal: what the console is, apart from what it shows.

It draws through a driver that never waits, turns what is written to file descriptors 1 and 2 into
lines, and leaves, rather than dies, when the terminal goes away.
"""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from rich.console import RenderableType
from textual import events
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.screen import Screen
from textual.strip import Strip

from console.leave import Leave
from console.terminal import OwnedTerminal, SteadyDriver, signals
from console.theme import Theme
from console.thrift import Spans, Whole
from console.typeahead import TypeAhead


class TerminalApp(App[Leave]):
    """Base of the console.

    Args:
        own_fds: whether file descriptors 1 and 2 become lines while the app runs.
        mouse: whether the terminal tells of the mouse; without, it selects and copies by itself.
    """

    look: Theme

    def __init__(self, *, own_fds: bool, ansi_color: bool, mouse: bool = True) -> None:
        super().__init__(driver_class=SteadyDriver, ansi_color=ansi_color)
        self._with_mouse = mouse
        self._own_fds = own_fds
        self._owned: OwnedTerminal | None = None
        self._printed: dict[str, str] = {}  # stream → what has no end of line yet
        self._typed = TypeAhead(self)

    @abstractmethod
    def captured(self, stream: str, line: str) -> None:
        """A line that something wrote to file descriptor 1 or 2. Any thread."""

    @abstractmethod
    def action_redraw(self) -> None:
        """Paint everything anew."""

    def run(self, **kwargs: Any) -> Leave:
        """Show the console until it is left; the terminal is as before afterwards."""
        kwargs.setdefault("mouse", self._with_mouse)
        if not self._own_fds:
            return super().run(**kwargs) or Leave("quit")
        with OwnedTerminal(self.captured) as owned:
            self._owned = owned
            SteadyDriver.tty_fd = owned.tty_fd
            try:
                return super().run(**kwargs) or Leave("quit")
            finally:
                SteadyDriver.tty_fd = None

    async def run_async(self, **kwargs: Any) -> Leave | None:
        import asyncio

        hangup = {signal.SIGHUP: self.terminal_gone, signal.SIGTERM: self._terminated}
        if kwargs.get("headless"):
            return await super().run_async(**kwargs)
        with signals(asyncio.get_running_loop(), hangup):
            return await super().run_async(**kwargs)

    def call_from_thread(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call in the app's own time and context: words keep the console's language there.

        Unlike Textual's, it does not wait for the callback and gives no result.
        """
        return super().call_from_thread(self.call_later, callback, *args, **kwargs)

    def on_print(self, event: events.Print) -> None:
        """Python-level prints, which come in pieces."""
        stream = "stderr" if event.stderr else "stdout"
        *lines, rest = (self._printed.get(stream, "") + event.text).split("\n")
        if len(rest) > OwnedTerminal.LONGEST:
            lines, rest = [*lines, rest], ""
        self._printed[stream] = rest
        for line in lines:
            if line.strip():
                self.captured(stream, line)

    async def on_event(self, event: events.Event) -> None:
        typed = isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded
        if typed and self._typed.holds(event):
            return
        await super().on_event(event)
        if typed:
            self._typed.follow()

    @property
    def fault(self) -> Exception | None:
        """What the app failed of, if it did."""
        return self._exception

    # -- the terminal ------------------------------------------------------------------------

    @property
    def stalled(self) -> bool:
        return isinstance(self._driver, SteadyDriver) and self._driver.stalled

    @property
    def bytes_written(self) -> int:
        """Bytes the terminal has taken so far."""
        driver = self._driver
        writer = driver.writer if isinstance(driver, SteadyDriver) else None
        return writer.written if writer is not None else 0

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if type(renderable) is ChopsUpdate:
            renderable = Spans(renderable.chops, renderable.spans, renderable.chop_ends)
        elif type(renderable) is LayoutUpdate:
            renderable = Whole(renderable.strips, renderable.region)
        super()._display(screen, renderable)

    def terminal_recovered(self) -> None:
        """The terminal reads again: what was skipped is painted in full."""
        self.call_later(self.action_redraw)

    def terminal_gone(self) -> None:
        """Hang-up: the console leaves, the engine does not."""
        if self._owned is not None:
            self._owned.gone = True
        self.exit(Leave("terminal_gone", "The terminal went away; the engine works on."))

    def _terminated(self) -> None:
        self.exit(Leave("terminated", "Ended by SIGTERM; the engine works on."))

    # -- pictures ----------------------------------------------------------------------------

    def picture(self) -> str:
        """The present screen as an SVG document."""
        from console import shot

        dark = self.look.dark
        ink = self.look.hex("text", "#d6dae1" if dark else "#22272f")
        ground = self.look.base if self.look.base != "default" else "#101010"
        return shot.svg(self._strips(), ink if ink.startswith("#") else "#d0d0d0", ground)

    def picture_text(self) -> str:
        """The present screen as text, a line for each row."""
        rows = ("".join(segment.text for segment in strip).rstrip() for strip in self._strips())
        return "".join(f"{row}\n" for row in rows)

    def _strips(self) -> list[Strip]:
        """What the terminal shows: the screen, and what lies dimmed beneath it."""
        update = self.screen._compositor.render_update(
            full=True, screen_stack=self._background_screens
        )
        return [Strip.join(line) for line in getattr(update, "strips", ())]

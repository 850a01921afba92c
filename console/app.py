"""The console as a Textual app: what the engine tells goes to the screen, keys become commands.

``AvatopApp(client).run()`` returns a :class:`Leave` that says why the console ended, so that its
caller knows whether to end the engine or to let it finish.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, ClassVar, cast

from rich.console import RenderableType
from textual import events, work
from textual._compositor import ChopsUpdate
from textual.app import App, SystemCommand
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip

from console import actions
from console import theme as themes
from console.leave import Leave
from console.mailbox import Mailbox
from console.screens.overview import Overview
from console.state import Model
from console.terminal import OwnedTerminal, SteadyDriver, shows_unicode, signals
from console.thrift import Spans
from console.widgets.paint import Paint
from engine.client import EngineClient
from engine.messages import (
    Command,
    LogLine,
    Reply,
    Snapshot,
)

FRAME: float = 0.1  # seconds between pictures at most
MESSAGE_SECONDS: float = 6.0


class Arrived(Message):
    """Events wait in the mailbox."""


class AvatopApp(App[Leave]):
    """The console.

    Args:
        client: the engine, or a function that starts or finds one; the function is called on a
            thread after the first picture, so that a slow start is not a black screen.
        theme: name or path of a theme; default: ``AVATOP_THEME``, or what the terminal can show.
        environ: environment to read instead of the process's.
        own_fds: whether file descriptors 1 and 2 become log lines while the console runs.
        clock: wall-clock time in Unix seconds.
    """

    TITLE = "avatop"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = actions.bindings("app")
    ESCAPE_TO_MINIMIZE: ClassVar[bool] = False

    def __init__(
        self,
        client: EngineClient | Callable[[], EngineClient],
        *,
        theme: str | None = None,
        environ: Mapping[str, str] | None = None,
        own_fds: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.environ = os.environ if environ is None else environ
        self.look = themes.load(themes.choose(theme, self.environ))
        super().__init__(driver_class=SteadyDriver, ansi_color=self.look.colors != "truecolor")
        self.paint = Paint(self.look, shows_unicode(self.environ))
        self.clock = clock
        self.model = Model()
        self.model.now = clock()
        self.mailbox = Mailbox(self._arrived)
        ready = hasattr(client, "send")
        self.client = cast(EngineClient, client) if ready else None
        self._connect = None if ready else cast("Callable[[], EngineClient]", client)
        self._own_fds = own_fds
        self._owned: OwnedTerminal | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._printed: dict[str, str] = {}  # stream → what has no end of line yet
        self._last_frame = 0.0
        self._frame_due = False
        self._message_until = 0.0
        self.leaving: Leave | None = None
        self.overview = Overview(self.model, self.paint)
        self._register_look()

    # -- life --------------------------------------------------------------------------------

    def run(self, **kwargs: Any) -> Leave:
        """Show the console until it is left; the terminal is as before afterwards."""
        if not self._own_fds:
            return super().run(**kwargs) or Leave("quit")
        with OwnedTerminal(self._captured) as owned:
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

    def get_default_screen(self) -> Screen[None]:
        return self.overview

    def on_mount(self) -> None:
        self.begin_capture_print(self)
        self.set_interval(1.0, self._second)
        self.call_after_refresh(self._first_picture_done)

    def _first_picture_done(self) -> None:
        if self.client is not None:
            self._join(self.client)
        elif self._connect is not None:
            self._start_engine(self._connect)

    @work(thread=True, exclusive=True, exit_on_error=False, group="connect")
    def _start_engine(self, connect: Callable[[], EngineClient]) -> None:
        try:
            client = connect()
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            leave = Leave("failed", f"The engine cannot be reached: {error}")
            self.call_from_thread(self.exit, leave)
            return
        self.call_from_thread(self._join, client)

    def _join(self, client: EngineClient) -> None:
        self.client = client
        self._unsubscribe = client.subscribe(self.mailbox.put)
        client.snapshot().add_done_callback(self._snapshot_came)
        prewarm = getattr(client, "prewarm", None)
        if callable(prewarm):
            prewarm()

    def _snapshot_came(self, future: Future[Snapshot]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._from_thread(self._take_snapshot, future.result())

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        self.model.apply_snapshot(snapshot)
        self._picture()

    def _from_thread(self, function: Callable[..., object], *arguments: object) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: self.call_later(function, *arguments))

    def on_unmount(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    # -- from the engine to the screen ---------------------------------------------------------

    def _arrived(self) -> None:
        """Called on the engine's thread."""
        if self.is_running:
            self.post_message(Arrived())

    def on_arrived(self) -> None:
        """Draw at once, or when the frame's time has come."""
        wait = self._last_frame + FRAME - time.monotonic()
        if wait <= 0:
            self._picture()
        elif not self._frame_due:
            self._frame_due = True
            self.set_timer(wait, self._picture)

    def _picture(self) -> None:
        self._frame_due = False
        self._last_frame = time.monotonic()
        self.model.now = self.clock()
        for event in self.mailbox.drain():
            self.model.apply(event)
        if self.model.stopped is not None and self.leaving is not None:
            self.exit(self.leaving)
            return
        if not self.stalled:
            self._show(self.model.taken())

    def _show(self, dirty: set[str]) -> None:
        if dirty and self.is_running:
            self.overview.show(dirty)
            top = self.screen
            if top is not self.overview and hasattr(top, "show_model"):
                top.show_model(dirty)

    def _second(self) -> None:
        """The clock, and plots that move with time while something lives."""
        self.model.now = self.clock()
        if self.overview.foot.message and time.monotonic() > self._message_until:
            self.overview.foot.message = None
            self.model.dirty.add("footer")
        self.model.dirty.add("header")
        if time.monotonic() - self._last_frame > 1.5:
            self.model.dirty.add("devices")  # nothing came: what is held moves on with time
        if not self.stalled:
            self._show(self.model.taken())

    def _captured(self, stream: str, line: str) -> None:
        """A line that something wrote to file descriptor 1 or 2."""
        level = "WARNING" if stream == "stderr" else "INFO"
        self.mailbox.put(LogLine(level=level, source="console", text=line, stream=stream))

    def on_print(self, event: events.Print) -> None:
        """Python-level prints, which come in pieces."""
        stream = "stderr" if event.stderr else "stdout"
        *lines, rest = (self._printed.get(stream, "") + event.text).split("\n")
        if len(rest) > OwnedTerminal.LONGEST:
            lines, rest = [*lines, rest], ""
        self._printed[stream] = rest
        for line in lines:
            if line.strip():
                self._captured(stream, line)

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
        # Textual sends each changed row from its widget's left edge on; we send what changed.
        if type(renderable) is ChopsUpdate:
            renderable = Spans(renderable.chops, renderable.spans, renderable.chop_ends)
        super()._display(screen, renderable)

    def terminal_recovered(self) -> None:
        """The terminal reads again: what was skipped is painted in full."""
        self.call_later(self.action_redraw)

    def terminal_gone(self) -> None:
        """Hang-up: the console leaves, the engine does not."""
        if self._owned is not None:
            self._owned.gone = True
        self.exit(Leave("terminal_gone", "The terminal went away; the engine works on."))

    def detach(self) -> None:
        """Somebody asked consoles to leave (``avatop detach``). Any thread."""
        self._from_thread(self.exit, Leave("detached"))

    def _terminated(self) -> None:
        self.exit(Leave("terminated", "Ended by SIGTERM; the engine works on."))

    # -- actions -----------------------------------------------------------------------------

    def say(self, sentence: str, role: str = "text") -> None:
        """A sentence in the footer for some seconds."""
        self.overview.foot.message = (sentence, role)
        self._message_until = time.monotonic() + MESSAGE_SECONDS
        self.overview.foot.update()

    def command(self, command: Command, done: str) -> None:
        """Send a command; the answer becomes a sentence."""
        if self.client is None:
            self.say("The engine is still starting; try again in a moment.", "state.watch")
            return

        def answered(future: Future[Reply]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is not None:
                self._from_thread(self.say, f"The engine did not take it: {error}", "state.act")
                return
            reply = future.result()
            role = "state.good" if reply.ok else "state.act"
            self._from_thread(self.say, reply.message or done, role)

        self.client.send(command).add_done_callback(answered)

    def action_redraw(self) -> None:
        """Everything anew, for a screen that something else wrote over."""
        for part in self.overview.parts:
            part.update()
        self.screen.refresh(layout=True)
        self.refresh(repaint=True, layout=True)

    def picture(self) -> str:
        """The present screen as an SVG document."""
        from console import shot

        dark = self.look.dark
        ink = self.look.hex("text", "#d6dae1" if dark else "#22272f")
        ground = self.look.base if self.look.base != "default" else "#101010"
        update = self.screen._compositor.render_update(
            full=True, screen_stack=self._background_screens
        )
        lines = [Strip.join(line) for line in getattr(update, "strips", ())]
        return shot.svg(lines, ink if ink.startswith("#") else "#d0d0d0", ground)

    def action_help(self) -> None:
        from console.screens.help import Help

        self.push_screen(Help(self.model, self.paint))

    def action_next_theme(self) -> None:
        known = themes.names()
        at = known.index(self.look.name) if self.look.name in known else -1
        self.set_look(known[(at + 1) % len(known)])

    def set_look(self, name: str) -> None:
        """Change the theme of the running console."""
        self.look = themes.load(name)
        self.paint.change(self.look)
        self._register_look()
        self.ansi_color = self.look.colors != "truecolor"
        for part in self.overview.parts:
            part.update()
        self.say(f"Theme: {self.look.title}.")

    def action_submit(self) -> None:
        from console import deeds

        deeds.submit(self)

    def action_cancel_job(self) -> None:
        from console import deeds

        deeds.cancel(self)

    def action_threshold(self) -> None:
        from console import deeds

        deeds.threshold(self)

    def action_history(self) -> None:
        from console import deeds

        deeds.history(self)

    def action_quit_console(self) -> None:
        from console import deeds

        deeds.leave(self)

    async def action_quit(self) -> None:
        self.action_quit_console()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the registry's actions, and the themes."""
        del screen
        from console.palette import commands

        return commands(self)

    def _register_look(self) -> None:
        """Textual's own widgets wear the theme too."""
        from console.dress import dressed

        dress = dressed(self.look)
        self.register_theme(dress)
        self.theme = dress.name

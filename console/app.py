"""The console as a Textual app: what the engine tells goes to the screen, keys become commands.

``AvatopApp(client).run()`` returns a :class:`Leave` that says why the console ended, so that its
caller knows whether to end the engine or to let it finish.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import work
from textual.app import SystemCommand
from textual.message import Message
from textual.screen import Screen

from console import actions, dress, i18n, pauses
from console import theme as themes
from console.config import Config
from console.frames import Frames
from console.i18n import t
from console.keys.kinds import PageEntry
from console.leave import Leave
from console.mailbox import Mailbox
from console.notices import Notice, Notices
from console.replaying import Replaying
from console.screens.base import Page
from console.screens.overview import Overview
from console.spoken import spoken
from console.state import Model
from console.symbols import shows_unicode
from console.widgets.bars import Place
from console.widgets.paint import Paint
from engine.client import EngineClient
from engine.messages import LogLine, Reply, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from console.bookmarks import Bookmarks
    from engine.messages import Command


class Arrived(Message):
    """Events wait in the mailbox."""


class AvatopApp(Replaying):
    """The console.

    Args:
        client: the engine, or a function that starts or finds one; the function is called on a
            thread after the first picture, so that a slow start is not a black screen.
        theme: name or path of a theme; default: ``AVATOP_THEME``, the configuration's, or what the
            terminal can show.
        lang: language; default: ``AVATOP_LANG``, the configuration's, or the locale's.
        config: keys, theme, language and thresholds of one's own.
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
        lang: str | None = None,
        config: Config | None = None,
        environ: Mapping[str, str] | None = None,
        own_fds: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.environ = os.environ if environ is None else environ
        self.config = config or Config()
        self.asked_theme = theme
        self.look_name = themes.choose(theme, self.environ, self.config.theme)
        self.look = themes.load(self.look_name)
        super().__init__(
            own_fds=own_fds, ansi_color=self.look.colors != "truecolor", mouse=self.config.mouse
        )
        self.paint = Paint(self.look, shows_unicode(self.environ))
        language = i18n.choose(lang, self.environ, self.config.lang)
        i18n.use(language if self.paint.unicode else "en")
        self._unspoken = language != "en" and not self.paint.unicode
        self.keymap = actions.Keymap(self.config.keys)
        self.set_keymap(self.keymap.textual())
        self.clock = clock
        self.model = self.live = Model()
        self.model.now = clock()
        self.mailbox = Mailbox(self._arrived)
        ready = hasattr(client, "send")
        self.client = cast(EngineClient, client) if ready else None
        self._connect = None if ready else cast("Callable[[], EngineClient]", client)
        self._unsubscribe: Callable[[], None] | None = None
        self.frames = Frames()
        self._second_shown = 0  # what the header's clock shows
        self.leaving: Leave | None = None
        self.closing = threading.Event()  # ends what watches on threads
        self.notices = Notices()
        self.overview = Overview(self.model, self.paint)
        self._opened: dict[str, Page] = {Overview.NAME: self.overview}
        dress.first(self, self.look)

    # -- life --------------------------------------------------------------------------------

    def get_default_screen(self) -> Screen[None]:
        return self.overview

    def on_mount(self) -> None:
        self.begin_capture_print(self)
        self.set_interval(1.0, self._second)
        self.call_after_refresh(self._first_picture_done)

    def _first_picture_done(self) -> None:
        if self._own_fds:
            pauses.seldom()
        if self._unspoken:
            self.say(t("This terminal has no UTF-8: the console speaks English."), "state.watch")
        for problem in self.config.problems:
            self.say(t("Configuration: {problem}", problem=problem), "state.watch")
        self.watch_own_files()
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

    @work(thread=True, exclusive=True, exit_on_error=False, group="own files")
    def watch_own_files(self) -> None:
        """A theme or configuration of one's own that changes on disk is worn at once."""
        from console.watching import watch

        watch(self)

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
        self.live.apply_snapshot(snapshot)
        self._picture()
        if self._own_fds:
            pauses.seldom()

    def _from_thread(self, function: Callable[..., object], *arguments: object) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: self.call_later(function, *arguments))

    def on_unmount(self) -> None:
        self.closing.set()
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
        wait = self.frames.wait(self.mailbox.pressing, time.monotonic())
        if wait == 0:
            self._picture()
        elif wait is not None:
            self.set_timer(wait, self._due_picture)

    def _due_picture(self) -> None:
        if self.frames.due(time.monotonic()):  # else it came earlier
            self._picture()

    def _picture(self) -> None:
        self.frames.drawn(time.monotonic())
        self._clock_moves()
        for event in self.mailbox.drain():
            self.live.apply(event)
        if self.live.stopped is not None and self.leaving is not None:
            self.exit(self.leaving)
            return
        if not self.stalled:
            self._show(self.model.taken())

    def _show(self, dirty: set[str]) -> None:
        if dirty and self.is_running:
            self.page.show(dirty)
            top = self.screen
            if not isinstance(top, Page) and hasattr(top, "show_model"):
                top.show_model(dirty)

    def _second(self) -> None:
        """The clock, and plots that move with time while something lives."""
        still = time.monotonic() - self.frames.last
        if still > 1.2:  # else what comes every second brings the clock along
            self._clock_moves()
        if self.notices.expire(time.monotonic()):
            self.model.dirty.add("footer")
        if still > 1.5:
            self.model.dirty.add("devices")  # nothing came: what is held moves on with time
        if not self.stalled:
            self._show(self.model.taken())

    def _clock_moves(self) -> None:
        """The header's clock is drawn once a second, with whatever picture comes first."""
        self.model.now = self.clock()
        if int(self.model.now) != self._second_shown:
            self._second_shown = int(self.model.now)
            self.model.dirty.add("header")

    def captured(self, stream: str, line: str) -> None:
        level = "WARNING" if stream == "stderr" else "INFO"
        self.mailbox.put(LogLine(level=level, source="console", text=line, stream=stream))

    def detach(self) -> None:
        """Somebody asked consoles to leave (``avatop detach``). Any thread."""
        self._from_thread(self.exit, Leave("detached"))

    # -- pages -------------------------------------------------------------------------------

    @property
    def pages(self) -> Sequence[PageEntry]:
        """The pages that number keys open."""
        return actions.PAGES

    @property
    def page(self) -> Page:
        """The page shown, maybe below a dialog."""
        found = (screen for screen in reversed(self.screen_stack) if isinstance(screen, Page))
        return next(found, self.overview)

    def action_go(self, name: str) -> None:
        """Show a page; it is imported and built when first asked for."""
        if name == self.page.NAME or self.screen is not self.page:
            return
        page = self._opened.get(name)
        if page is None:
            entry = next(entry for entry in self.pages if entry.name == name)
            module, _, attribute = entry.at.partition(":")
            kind: type[Page] = getattr(importlib.import_module(module), attribute)
            page = self._opened[name] = kind(self.model, self.paint)
            self.install_screen(page, name)
        if page is self.overview:
            self.pop_screen()
        elif self.page is self.overview:
            self.push_screen(page)
        else:
            self.switch_screen(page)

    def place(self) -> Place:
        """Where the person is, for the footer."""
        return Place((*self.replay_scopes, *self.page.scopes), self.keymap, self.read_only)

    # -- actions -----------------------------------------------------------------------------

    @cached_property
    def bookmarks(self) -> Bookmarks:
        """Bookmarks on log lines; without a terminal of its own a console keeps none."""
        from console.bookmarks import Bookmarks
        from engine.jobs.paths import Places

        return Bookmarks(Places.of(self.environ).bookmarks if self._own_fds else None)

    @property
    def engine_log(self) -> Path | None:
        """The engine's log on this host; without a terminal of its own a console reads none."""
        from engine.jobs.paths import Places

        return Places.of(self.environ).log if self._own_fds else None

    @property
    def read_only(self) -> bool:
        """Whether one may only look."""
        return bool(getattr(self.client, "read_only", False))

    def refuses(self) -> bool:
        """Whether nothing may be changed from here; says so if that is the case."""
        if self.replay is not None:
            self.say(t("This is a recording: nothing in it can be changed."), "state.watch")
        elif self.read_only:
            self.say(t("Read-only: nothing can be changed from here."), "state.watch")
        elif self.live.stopped is not None:
            self.say(self.after_the_engine(), "state.act")
            return True
        return self.read_only

    def after_the_engine(self) -> str:
        """What is left to do once the engine has ended."""
        key = self.keymap.key_of("app.quit")
        return t("The engine has ended: {key} leaves, and avatop starts another.", key=key)

    def say(self, sentence: str, role: str = "text") -> None:
        """A sentence in the footer for some seconds; it stays in the message history."""
        shown = None if self.replay is None else self.clock()
        self.notices.say(Notice(self.own_time(), sentence, role, shown), time.monotonic())
        self.page.foot.update()

    def hush(self) -> None:
        """Take the footer's sentence away: what it told of is over."""
        self.notices.current = None
        self.page.foot.update()

    def command(self, command: Command, done: str) -> None:
        """Send a command; the answer becomes a sentence."""
        self.ask(command, lambda reply: self.said(reply, done))

    def said(self, reply: Reply, done: str = "") -> None:
        """An engine's answer as a sentence."""
        self.say(
            spoken(reply.message, self.model) or done, "state.good" if reply.ok else "state.act"
        )

    def ask(self, command: Command, answered: Callable[[Reply], object]) -> None:
        """Send a command; ``answered`` gets the reply in the console's own time.

        A failure to send becomes a reply that is not ok.
        """
        if self.refuses():
            return
        if self.client is None:
            self.say(t("The engine is still starting; try again in a moment."), "state.watch")
            return

        def came(future: Future[Reply]) -> None:  # on the engine's thread
            if not future.cancelled():
                self._from_thread(deliver, future)

        def deliver(future: Future[Reply]) -> None:
            error = future.exception()
            if error is not None:
                sentence = t("The engine did not take it: {why}", why=spoken(error))
                answered(Reply(ok=False, message=sentence))
            else:
                answered(future.result())

        self.client.send(command).add_done_callback(came)

    def action_redraw(self) -> None:
        """Everything anew, for a screen that something else wrote over."""
        for part in self.page.parts:
            part.update()
        self.screen.refresh(layout=True)
        self.refresh(repaint=True, layout=True)

    def action_help(self) -> None:
        from console.screens.help import Help

        self.push_screen(Help(self.model, self.paint, self.place()))

    def action_next_theme(self) -> None:
        known = themes.names()
        at = known.index(self.look_name) if self.look_name in known else -1
        self.set_look(known[(at + 1) % len(known)])

    def set_look(self, name: str) -> None:
        """Change the theme of the running console, and say so."""
        self.wear(name)
        self.say(t("Theme: {name}.", name=self.look.title))

    def wear(self, name: str) -> None:
        """Change the theme."""
        self.look = themes.load(name)
        self.look_name = name
        self.paint.change(self.look)
        self.theme = dress.registered(self, self.look)
        self.ansi_color = self.look.colors != "truecolor"
        for part in self.page.parts:
            part.update()

    def action_messages(self) -> None:
        from console.screens.messages import Messages

        self.push_screen(Messages(self.model, self.paint, self.notices))

    def action_quit_console(self) -> None:
        if self.visiting:
            self.back_to_present()
            return
        from console import deeds

        deeds.leave(self)

    async def action_quit(self) -> None:
        self.action_quit_console()

    def action_command_palette(self) -> None:
        from console.palette import open_palette

        open_palette(self)

    def action_jump(self) -> None:
        from console.screens.jump import jump

        jump(self)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the registry's actions, and the themes."""
        del screen
        from console.palette import commands

        return commands(self)

"""The list of log lines: a cursor, following, a filter, searches, bookmarks; only rows in sight
are made, so that a million lines cost what a screen of them costs.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from textual import events
from textual.message import Message
from textual.strip import Strip

from console import actions
from console import format as fmt
from console.i18n import t
from console.state import Model
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.logs_meaning import Meaning
from console.widgets.logs_row import Dressing, line_rows
from console.widgets.logs_sieve import Backwards, Sieve
from console.widgets.logs_source import LiveSource, Source
from console.widgets.paint import Paint, Row
from console.widgets.prompt import Prompt
from engine.triage.query import Predicate, QueryError, parse
from engine.triage.records import Record

TURN: Final = 0.05  # seconds between pieces of work that takes long
#: Seconds of such work in one turn.
_SHARE: Final = 0.012
_LEVEL: Final = re.compile(r"(?:^|\s)level\S+", re.IGNORECASE)
#: What the level key goes through.
_LEVELS: Final = ("", "level>=warning", "level>=error")
_SIGNS: Final = {"search": "/", "filter": "&", "jump": "@"}


class LogLines(Lines, can_focus=True):
    """The list; ``following`` is a state one can see and rely on."""

    SHOWS = frozenset({"logs"})
    SCOPE = "loglines"
    BINDINGS = actions.bindings("loglines")

    class Moved(Message):
        """The cursor is on another line."""

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.prompt = Prompt()
        self.asking = "search"  # what the prompt is for
        self.query = ""
        self.needle = ""
        self.wrap = False
        self.bookmarks: set[int] = set()
        self.compiled = threading.Event()  # triage's catalogue is there
        self.show(LiveSource(model))

    # -- what is shown -----------------------------------------------------------------------

    def show(self, source: Source) -> None:
        """Show another source's lines, following, with the filter that holds."""
        self._stop_work()
        if hasattr(self, "source"):
            self.source.close()
        self.source: Source = source
        self.meaning = Meaning(source, self.compiled)
        self.following = True
        self.cursor: int | None = None  # number of the line; the newest while following
        self._top: int | None = None  # number of the first line in sight
        self.bookmarks.clear()
        self._sift(self._predicate(self.query))

    _back: Backwards | None = None
    _hunt: Iterator[int | None] | None = None

    def _sift(self, wanted: Predicate | None) -> None:
        self._stop_work()
        asks = wanted is not None and "class" in self.query.casefold()
        self.sieve = Sieve(self.source, wanted, asks)
        if wanted is not None and not isinstance(self.source, LiveSource):
            self._back = Backwards(self.sieve)

    def _stop_work(self) -> None:
        if self._back is not None:
            self._back.stop()
        self._back = self._hunt = None

    def forget(self) -> None:
        """The model has become another: its lines are looked at anew."""
        if isinstance(self.source, LiveSource):
            self.show(LiveSource(self.model))

    def on_mount(self) -> None:
        self.set_interval(TURN, self._turn)

    def on_unmount(self) -> None:
        self._stop_work()
        self.source.close()

    def _turn(self) -> None:
        """A little of what takes long: counting lines, the filter, a search."""
        if not self.screen.is_current:
            return
        before = (len(self.sieve), self.sieve.left)
        until = time.perf_counter() + _SHARE
        self.source.poll()
        while not self.source.complete and time.perf_counter() < until:
            self.source.poll()
        self.sieve.take_new()
        if self._back is not None:
            self._back.collect()
        while self._back is None and self.sieve.left and time.perf_counter() < until:
            self.sieve.go_back()
        if self._hunt is not None:
            self._pursue()
        if (len(self.sieve), self.sieve.left) != before:
            self.update()

    def record(self) -> Record | None:
        """The line under the cursor."""
        number = self.number
        return None if number is None else self.source.record(number)

    @property
    def number(self) -> int | None:
        """The number of the line under the cursor; the newest while following."""
        count = len(self.sieve)
        if not count:
            return None
        if self.following or self.cursor is None:
            return self.sieve.at(count - 1)
        return self.sieve.at(min(self.sieve.place(self.cursor), count - 1))

    @property
    def room(self) -> int:
        return max(self.size.height - 1 - self.prompt.open, 1)

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        with self._back.screen if self._back is not None else contextlib.nullcontext():
            return self._draw(width, height)

    def _draw(self, width: int, height: int) -> Sequence[Strip]:
        self.sieve.take_new()
        room = max(height - 1 - self.prompt.open, 1)
        body = self._body(width, room)
        lines = [heading(self.paint, self._title(), width, self.has_focus, self._note(width))]
        lines += body or [self._empty(width)]
        if self.prompt.open:
            lines += [self.paint.blank(width)] * (height - 1 - len(lines))
            sign = _SIGNS[self.asking]
            lines.append(self.prompt.draw(self.paint.row(width), sign).strip())
        return lines

    def _body(self, width: int, room: int) -> list[Strip]:
        count = len(self.sieve)
        if not count:
            return []
        number = self.number
        assert number is not None
        at = self.sieve.place(number)
        top = at if self._top is None else min(self.sieve.place(self._top), count - 1)
        if self.following or at >= top + room or self.wrap:
            top = max(top, self._fits_above(at, width, room))
        if self.following:
            top = self._fits_above(at, width, room)
        top = min(top, at)
        self._top = self.sieve.at(top)
        shown = [self.sieve.at(n) for n in range(top, min(top + room, count))]
        self.meaning.look(shown)
        out: list[Strip] = []
        for one in shown:
            out += self._rows(one, number, width)
            if len(out) >= room:
                break
        return out[:room]

    def _fits_above(self, at: int, width: int, room: int) -> int:
        """The highest place from which the line at ``at`` is still in sight."""
        if not self.wrap:
            return max(at - room + 1, 0)
        used = 0
        for place in range(at, -1, -1):
            used += len(self._rows(self.sieve.at(place), -1, width))
            if used > room:
                return min(place + 1, at)
        return 0

    def _rows(self, number: int, chosen: int, width: int) -> Sequence[Strip]:
        dress = Dressing(
            class_=self.meaning.class_of(number),
            needle=self.needle,
            current=number == chosen,
            chosen=number == chosen,
            focused=self.has_focus,
            bookmarked=number in self.bookmarks,
            wrap=self.wrap,
        )
        return line_rows(self.paint, self.model, self.source.record(number), width, dress)

    def _empty(self, width: int) -> Strip:
        row = self.paint.row(width).put("  ")
        key = self.console_app.keymap.key_of("loglines.filter")
        if self.sieve.left:
            row.put(t("No line so far; the filter is still at work."), "soft")
        elif self.query:
            row.phrase(t("No line passes the filter. {key} changes it."), key=key)
        elif isinstance(self.source, LiveSource):
            row.phrase(
                t("Nothing was logged yet. {key} opens a log file."),
                key=self.console_app.keymap.key_of("logs.file"),
            )
        else:
            row.put(t("The file has no lines."), "soft")
        return row.strip()

    def _title(self) -> str:
        return fmt.fit_left(fmt.inert(self.source.name), 40).strip() if self.source.name else (
            t("Log")
        )  # fmt: skip

    def _note(self, width: int) -> Row:
        note = self.paint.row(max(width - 16, 20))
        if self._hunt is not None:
            note.put(t("searching") + "  ", "accent")
        if self.needle:
            note.put("/", "accent").outside(fmt.short(self.needle, 20), "soft").put("  ")
        if self.query:
            note.put("&", "accent").outside(fmt.short(self.query, 32), "soft").put("  ")
        first, end = self.source.span()
        shown, every = len(self.sieve), end - first
        if self.query:
            note.put(t("{some} of {all} lines", some=f"{shown:,}", all=f"{every:,}"), "soft")
            if self.sieve.left and every:
                done = 100 - 100 * self.sieve.left // every
                note.put(f" {done} %", "accent")
        else:
            note.put(t("{count} lines", count=f"{every:,}"), "soft")
        note.put("  ")
        if self.following:
            sign = "▸ " if self.paint.unicode else ""
            return note.put(sign + t("following"), "state.good")
        number = self.number
        below = 0 if number is None else shown - 1 - self.sieve.place(number)
        return note.put(t("‖ held, {below} newer", below=f"{below:,}"), "state.watch")

    # -- moving ------------------------------------------------------------------------------

    def go(self, place: int) -> None:
        """Put the cursor on a line by its place among those that pass; following stops."""
        count = len(self.sieve)
        if not count:
            return
        self.cursor = self.sieve.at(min(max(place, 0), count - 1))
        self.following = False
        self.update()
        self.post_message(self.Moved())

    def _at(self) -> int:
        number = self.number
        return 0 if number is None else self.sieve.place(number)

    def _center(self, number: int) -> None:
        """Go to a line, with others around it in sight."""
        place = self.sieve.place(number)
        top = self._top if self._top is not None else number
        if not self.sieve.place(top) <= place < self.sieve.place(top) + self.room:
            self._top = self.sieve.at(max(place - self.room // 2, 0))
        self.go(place)

    def action_move(self, by: int) -> None:
        self.go(self._at() + by)

    def action_leaf(self, by: int) -> None:
        step = by * max(self.room - 1, 1)
        if self._top is not None:
            top = max(self.sieve.place(self._top) + step, 0)
            self._top = self.sieve.at(min(top, max(len(self.sieve) - self.room, 0)))
        self.go(self._at() + step)

    def action_first(self) -> None:
        self.go(0)

    def action_follow(self) -> None:
        if self.following:
            self.go(len(self.sieve) - 1)
            return
        self.following = True
        self.cursor = None
        self.update()
        self.post_message(self.Moved())

    # -- filter, search, jumps ---------------------------------------------------------------

    def _predicate(self, query: str) -> Predicate | None:
        return parse(query, now=self.model.now) if query.strip() else None

    def apply(self, query: str) -> bool:
        """Show only what passes a query; whether it could be read."""
        try:
            wanted = self._predicate(query)
        except QueryError as error:
            self.console_app.say(t("Filter: {problem}", problem=error), "state.act")
            return False
        at = None if self.following else self.number
        self.query = query.strip()
        self._sift(wanted)
        self.cursor = at
        self._top = None
        self.update()
        return True

    def action_filter(self) -> None:
        self._ask("filter", self.query)

    def action_search(self) -> None:
        self._ask("search", self.needle)

    def action_jump(self) -> None:
        self._ask("jump", "")

    def _ask(self, what: str, text: str) -> None:
        self.asking = what
        self.prompt.begin(text)
        self.update()

    def action_level(self) -> None:
        found = _LEVEL.search(self.query)
        now = found[0].strip() if found else ""
        rest = _LEVEL.sub("", self.query).strip()
        follows = _LEVELS[(_LEVELS.index(now) + 1) % len(_LEVELS)] if now in _LEVELS else ""
        self.apply(" ".join(part for part in (follows, rest) if part))

    def action_match(self, by: int) -> None:
        """Go to the match above (-1) or below (1) the cursor."""
        if self.needle:
            self._seek(by, self.needle)
        else:
            self.action_search()

    def action_error(self, by: int) -> None:
        """Go to the error above or below the cursor."""
        self._seek(by, None)

    def _seek(self, by: int, needle: str | None, *, both: bool = False) -> None:
        """Look for a text or an error; ``both``: then the other way, if there is none."""
        number = self.number
        if number is None:
            return
        self._sought, self._both = (by, needle), both
        self._hunt = self.source.find(number + by, by, needle)
        self._pursue()

    _sought: tuple[int, str | None] = (1, None)
    _both = False

    def _pursue(self) -> None:
        """Search on for some milliseconds."""
        assert self._hunt is not None
        until = time.perf_counter() + _SHARE
        while time.perf_counter() < until:
            try:
                found = next(self._hunt)
            except StopIteration:
                self._hunt = None
                by, needle = self._sought
                if self._both:
                    self._seek(-by, needle)
                    return
                self._say_none(by, needle)
                self.update()
                return
            if found is not None and self.sieve.has(found):
                self._hunt = None
                self._center(found)
                return

    def _say_none(self, by: int, needle: str | None) -> None:
        if needle is None:
            said = t("No error above.") if by < 0 else t("No error below.")
        elif by < 0:
            said = t("No further match of {words} above.", words=repr(needle))
        else:
            said = t("No further match of {words} below.", words=repr(needle))
        self.console_app.say(said, "state.watch")

    def jump(self, moment: str) -> None:
        """Go to the first line at or after a moment."""
        try:
            reached = parse(f'since="{moment.strip()}"', now=self.model.now)
        except QueryError as error:
            self.console_app.say(t("Time: {problem}", problem=error), "state.act")
            return
        low, high = 0, len(self.sieve)
        while low < high:
            middle = (low + high) // 2
            at = middle
            record = self.source.record(self.sieve.at(at))
            while record.t is None and at > low:  # a traceback has the time of its first line
                at -= 1
                record = self.source.record(self.sieve.at(at))
            if reached(record):
                high = at
            else:
                low = middle + 1
        if low >= len(self.sieve):
            self.console_app.say(t("No line is as late as that."), "state.watch")
        if len(self.sieve):
            self._center(self.sieve.at(min(low, len(self.sieve) - 1)))

    def action_bookmark(self) -> None:
        number = self.number
        if number is not None:
            self.bookmarks ^= {number}
            self.go(self.sieve.place(number))

    def action_to_bookmark(self, by: int) -> None:
        here = self.number
        there = sorted(number for number in self.bookmarks if self.sieve.has(number))
        if here is None or not there:
            key = self.console_app.keymap.key_of("loglines.bookmark")
            self.console_app.say(t("No bookmark yet. {key} sets one.", key=key), "soft")
            return
        if by > 0:
            self._center(next((n for n in there if n > here), there[0]))
        else:
            self._center(next((n for n in reversed(there) if n < here), there[-1]))

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self.update()

    # -- keys --------------------------------------------------------------------------------

    @property
    def typing(self) -> bool:  # type: ignore[override]
        return self.prompt.open

    def on_key(self, event: events.Key) -> None:
        """While something is typed keys are its text; Escape else takes search and filter away."""
        if self.prompt.open:
            self._typed(event)
        elif event.key == "escape" and (self._hunt or self.needle or self.query):
            event.stop()
            event.prevent_default()
            if self._hunt is not None:
                self._hunt = None
            elif self.needle:
                self.needle = ""
            else:
                self.apply("")
            self.update()

    def on_paste(self, event: events.Paste) -> None:
        if self.prompt.open:
            self._typed(event)

    def _typed(self, event: events.Key | events.Paste) -> None:
        outcome = self.prompt.take(event)
        if outcome == "left":
            self.prompt.close()
        elif outcome == "done":
            self._done(self.prompt.text or "")
        self.update()

    def _done(self, text: str) -> None:
        if self.asking == "filter":
            if self.apply(text):
                self.prompt.close()
            return
        self.prompt.close()
        if self.asking == "search":
            self.needle = text
            if text:
                number = self.number
                record = self.record()
                here = record is not None and text.casefold() in fmt.inert(record.text).casefold()
                if number is not None and here:
                    self._center(number)
                else:
                    self._seek(-1, text, both=True)
        elif text.strip():
            self.jump(text)

    def check_consume_key(self, key: str, character: str | None) -> bool:  # noqa: ARG002
        return self.prompt.open and character is not None and character.isprintable()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        return not self.prompt.open

    def on_click(self, event: events.Click) -> None:
        if event.y >= 1 and self._top is not None and not self.wrap:
            self.go(self.sieve.place(self._top) + event.y - 1)

    def on_mouse_scroll_up(self) -> None:
        self.action_move(-3)

    def on_mouse_scroll_down(self) -> None:
        if self._at() + 3 >= len(self.sieve):
            self.following = False
            self.action_follow()
        else:
            self.action_move(3)

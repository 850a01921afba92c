"""The part of the list of log lines that shows: rows in sight, the cursor, following.

Only rows in sight are made, so that a million lines cost what a screen of them costs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer

from console import format as fmt
from console.i18n import n, t
from console.state import Model
from console.widgets.bars import heading
from console.widgets.logs_marks import LineMarks
from console.widgets.logs_meaning import Meaning
from console.widgets.logs_row import Dressing, line_rows
from console.widgets.logs_sieve import Backwards, Sieve
from console.widgets.logs_source import LiveSource, Source
from console.widgets.paint import Paint, Row
from console.widgets.prompt import Prompted
from engine.triage.glance import Glance
from engine.triage.query import Predicate, parse
from engine.triage.records import Record

TURN: Final = 0.05  # seconds between pieces of work that takes long
LOOK: Final = 0.25  # seconds between looks for what was written to a file
SHARE: Final = 0.012  # seconds of such work in one turn
_SIGNS: Final = {"search": "/", "filter": "&", "jump": "@"}


class LineView(Prompted, can_focus=True):
    """What is in sight and where the cursor is; ``following`` is a state one can rely on."""

    SHOWS = frozenset({"logs"})

    class Moved(Message):
        """The cursor is on another line."""

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.asking = "search"  # what the prompt is for
        self.words = ""
        self.needle = ""
        self.wrap = False
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
        self._sift(self._predicate(self.words))

    _turns: Timer | None = None
    _looks: Timer | None = None
    _back: Backwards | None = None
    _marks: LineMarks | None = None
    _hunt: Iterator[int | None] | None = None

    def _sift(self, wanted: Predicate | None) -> None:
        self._stop_work()
        asks = wanted is not None and "class" in self.words.casefold()
        glance = None if wanted is None else Glance(self.words)
        self.sieve = Sieve(self.source, wanted, asks, glance)
        if wanted is not None and not isinstance(self.source, LiveSource):
            self._back = Backwards(self.sieve)

    def _stop_work(self) -> None:
        if self._back is not None:
            self._back.stop()
        self._back = self._hunt = None

    def _predicate(self, query: str) -> Predicate | None:
        return parse(query, now=self.model.now) if query.strip() else None

    @property
    def marks(self) -> LineMarks:
        """The bookmarks of the source shown, known again from consoles before."""
        if self._marks is None or self._marks.source is not self.source:
            self._marks = LineMarks(self.console_app.bookmarks, self.source)
            self._marks.look()
        return self._marks

    @property
    def bookmarks(self) -> set[int]:
        """Numbers of the lines with a bookmark."""
        return self.marks.numbers

    def _pursue(self) -> None:
        """Go on with the search at hand."""

    def forget(self) -> None:
        """The model has become another: its lines are looked at anew."""
        if isinstance(self.source, LiveSource):
            self.show(LiveSource(self.model))

    def on_mount(self) -> None:
        self._turns = self.set_interval(TURN, self._turn, pause=True)
        self._looks = self.set_interval(LOOK, self._turn)
        self._set_pace()

    def on_unmount(self) -> None:
        self._stop_work()
        self.source.close()

    def _set_pace(self) -> None:
        """Turns while there is something to do, looks where nobody tells that there is."""
        if self._turns is None or self._looks is None:
            return
        work = self._hunt is not None or self.sieve.left or not self.source.complete
        shown = self.screen.is_current
        (self._turns.resume if work and shown else self._turns.pause)()
        live = isinstance(self.source, LiveSource)
        (self._looks.resume if shown and not live else self._looks.pause)()

    def _turn(self) -> None:
        """A little of what takes long: counting lines, the filter, a search."""
        if not self.screen.is_current:
            self._set_pace()
            return
        before = (len(self.sieve), self.sieve.left)
        until = time.perf_counter() + SHARE
        self.source.poll()
        while not self.source.complete and time.perf_counter() < until:
            self.source.poll()
        self.sieve.take_new()
        found = self.marks.look()
        if self._back is not None:
            self._back.collect()
        while self._back is None and self.sieve.left and time.perf_counter() < until:
            self.sieve.go_back()
        if self._hunt is not None:
            self._pursue()
        if found or (len(self.sieve), self.sieve.left) != before:
            self.update()
        self._set_pace()

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
        self.marks.look()
        self._set_pace()
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
        if not self.wrap:
            top = min(top, max(count - room, 0))  # no empty rows while there are lines above
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
        elif self.words:
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
        if self.bookmarks:
            sign = "◆" if self.paint.unicode else "*"
            note.put(f"{sign} {len(self.bookmarks)}  ", "accent")
        if self.needle:
            note.put("/", "accent").outside(fmt.short(self.needle, 20), "soft").put("  ")
        if self.words:
            note.put("&", "accent").outside(fmt.short(self.words, 32), "soft").put("  ")
        first, end = self.source.span()
        shown, every = len(self.sieve), end - first
        if self.words:
            note.put(t("{some} of {all} lines", some=f"{shown:,}", all=f"{every:,}"), "soft")
            if self.sieve.left and every:
                done = 100 - 100 * self.sieve.left // every
                note.put(f" {done} %", "accent")
        else:
            note.put(n("{count} line", "{count} lines", every), "soft")
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

"""The list of log lines: filter, search, jumps in time and to errors, bookmarks, keys."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from textual import events

from console import actions
from console import format as fmt
from console.i18n import n, t
from console.widgets.logs_view import SHARE, LineView
from engine.triage.query import QueryError, parse

#: Bookmarks that a dialog lists.
_LISTED: Final = 12
#: Lines from the newest up among which one has a time.
_TIMED: Final = 200
_LEVEL: Final = re.compile(r"(?:^|\s)level\S+", re.IGNORECASE)
#: What the level key goes through.
_LEVELS: Final = ("", "level>=warning", "level>=error")


class LogLines(LineView):
    """The list with everything one can do in it."""

    SCOPE = "loglines"
    BINDINGS = actions.bindings("loglines")

    # -- filter, search, jumps ---------------------------------------------------------------

    def apply(self, query: str) -> bool:
        """Show only what passes a query; whether it could be read."""
        try:
            wanted = self._predicate(query)
        except QueryError as error:
            self.console_app.say(t("Filter: {problem}", problem=error), "state.act")
            return False
        at = None if self.following else self.number
        self.words = query.strip()
        self._sift(wanted)
        self.cursor = at
        self._top = None
        self.update()
        self.post_message(self.Moved())
        return True

    def action_filter(self) -> None:
        self._ask("filter", self.words)

    def action_search(self) -> None:
        self._ask("search", self.needle)

    def action_jump(self) -> None:
        self._ask("jump", "")

    def _ask(self, what: str, text: str) -> None:
        self.asking = what
        self.prompt.begin(text)
        self.update()

    def action_level(self) -> None:
        found = _LEVEL.search(self.words)
        now = found[0].strip() if found else ""
        rest = _LEVEL.sub("", self.words).strip()
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
        self._set_pace()

    _sought: tuple[int, str | None] = (1, None)
    _both = False

    def _pursue(self) -> None:
        """Search on for some milliseconds."""
        assert self._hunt is not None
        until = time.perf_counter() + SHARE
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
            reached = parse(f'since="{moment.strip()}"', now=self._now(moment))
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

    def _now(self, moment: str) -> float:
        """What a moment counts from: the present, or the last day that an old log tells of."""
        first, end = self.source.span()
        back = range(end - 1, max(end - _TIMED, first) - 1, -1)
        last = (self.source.record(number).t for number in back)
        newest = next((t for t in last if t is not None), None)
        now = self.model.now
        if newest is None or time.localtime(newest)[:3] == time.localtime(now)[:3]:
            return now
        if ":" not in moment:
            return newest
        year, month, day = time.localtime(newest)[:3]
        return time.mktime((year, month, day, 23, 59, 59, 0, 0, -1))

    def action_bookmark(self) -> None:
        number = self.number
        if number is not None:
            self._change_marks(lambda: self.marks.turn(number))
            self.go(self.sieve.place(number))

    def _change_marks(self, change: Callable[[], None]) -> None:
        """Bookmarks that cannot be kept count here; that is told."""
        try:
            change()
        except OSError as error:
            why = error.strerror or str(error)
            said = t("Bookmarks last only as long as this console: {why}", why=why)
            self.console_app.say(said, "state.watch")

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

    def action_bookmarks(self) -> None:
        """The newest of them as a list; Enter goes to one."""
        from console.screens.dialog import Choice, Dialog

        low, _ = self.source.span()
        marked = sorted(number for number in self.bookmarks if number >= low)
        if not marked:
            self.action_to_bookmark(1)  # says how one is set
            return
        choices = [Choice(str(number), self._told(number)) for number in marked[-_LISTED:]]
        choices.append(Choice("clear", t("Take all bookmarks away"), danger=True))

        def done(choice: str | None) -> None:
            if choice == "clear":
                self._change_marks(self.marks.clear)
                self.update()
            elif choice is not None and choice.isdigit():
                if not self.sieve.has(int(choice)):
                    self.apply("")  # the filter hides it
                self._center(int(choice))

        title = n("{count} bookmark", "{count} bookmarks", len(marked))
        self.app.push_screen(Dialog(self.model, self.paint, title, (), choices, "leave"), done)

    def _told(self, number: int) -> str:
        record = self.source.record(number)
        clock = "" if record.t is None else f"{fmt.moment(record.t, self.model.now)}  "
        whose = [
            *([] if record.job is None else [t("job {id}", id=record.job)]),
            *([] if record.rank is None else [t("rank {rank}", rank=record.rank)]),
        ]
        about = " ".join(whose) + t(": ") if whose else ""
        return f"{clock}{about}{fmt.inert(record.text)}"

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self.update()

    # -- keys --------------------------------------------------------------------------------

    def other_key(self, event: events.Key) -> None:
        """Escape takes search and filter away."""
        if event.key == "escape" and (self._hunt or self.needle or self.words):
            event.stop()
            event.prevent_default()
            if self._hunt is not None:
                self._hunt = None
            elif self.needle:
                self.needle = ""
            else:
                self.apply("")
            self.update()

    def typed(self, outcome: str) -> None:
        if outcome == "left":
            self.prompt.close()
        elif outcome == "done":
            self._done(self.prompt.text or "")

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

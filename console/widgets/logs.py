"""The log pane: follows until one scrolls up, filters by level, searches.

A line's place is known by its number, so that nothing moves under the reader while lines come in.
Lines are outside text: every control character is shown, none is obeyed.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from rich.cells import cell_len
from textual.strip import Strip

from console import actions
from console import format as fmt
from console.i18n import t
from console.parts import LogEntry
from console.state import Model
from console.widgets.bars import heading
from console.widgets.paint import Paint, Row
from console.widgets.prompt import Prompted
from engine.messages import LOG_LEVELS

_ROLES = {
    "DEBUG": "log.debug", "INFO": "log.info", "WARNING": "log.warning",
    "ERROR": "log.error", "CRITICAL": "log.error",
}  # fmt: skip
_WORDS = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "WARN",
    "ERROR": "ERROR",
    "CRITICAL": "FATAL",
}
FILTERS = ("DEBUG", "INFO", "WARNING", "ERROR")


def log_row(
    paint: Paint, entry: LogEntry, width: int, needle: str = "", current: bool = False
) -> Strip:
    """One line: time, level, source, text; matches of a search stand out."""
    row = paint.row(width).put(" ").put(fmt.clock(entry.t), "faint").put(" ")
    role = _ROLES[entry.level]
    row.put(_WORDS[entry.level].ljust(5), role).put(" ")
    if width >= 60:
        row.outside(fmt.fit(entry.source, 8), "faint").put(" ")
    text = fmt.inert(entry.text)
    if not paint.unicode:
        text = fmt.plain(text)
    body = "text" if role == "log.info" else role
    tail = f"  {entry.where}" if entry.where and width >= 110 else ""
    text = fmt.short(text, row.left, paint.ellipsis)
    matches(row, text, body, needle, current)
    if tail and row.left > len(tail):
        row.to(width - len(tail) - 1).outside(tail, "faint")
    return row.strip()


def matches(row: Row, text: str, role: str, needle: str, current: bool) -> None:
    """Write a text with the places of a search standing out."""
    if not needle:
        row.raw(text, role)
        return
    folded, wanted = text.casefold(), needle.casefold()
    if len(folded) != len(text):  # a folding that changes length: positions would not fit
        row.raw(text, role)
        return
    at = 0
    while (found := folded.find(wanted, at)) >= 0:
        row.raw(text[at:found], role)
        row.raw(text[found : found + len(wanted)], "match.current" if current else "match")
        at = found + len(wanted)
    row.raw(text[at:], role)


class Logs(Prompted, can_focus=True):
    """The pane; ``following`` is a state one can see and rely on."""

    SHOWS = frozenset({"logs"})
    SCOPE = "log"
    BINDINGS = actions.bindings("log")

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.following = True
        self.least = "INFO"
        self.needle = ""
        self.current: int | None = None  # number of the line of the current match
        self._bottom = 0  # number of the lowest line shown while not following
        self._rows: list[LogEntry] = []  # what passes the filter, oldest first
        self._seen = 0

    def forget(self) -> None:
        """The model has become another: look at its lines anew."""
        self._rows = []
        self._seen = 0

    # -- what is shown -----------------------------------------------------------------------

    def rows(self) -> list[LogEntry]:
        """Lines that pass the filter; only new ones are looked at."""
        for entry in self.model.log_after(self._seen):
            self._seen = entry.number
            if self._passes(entry):
                self._rows.append(entry)
        if self.model.logs and self._rows:
            oldest = self.model.logs[0].number
            if self._rows[0].number < oldest:
                del self._rows[: self._index(oldest - 1)]
        return self._rows

    def _passes(self, entry: LogEntry) -> bool:
        return LOG_LEVELS.index(entry.level) >= LOG_LEVELS.index(self.least)

    def _index(self, number: int) -> int:
        """How many rows have a number up to ``number``."""
        return bisect.bisect_right(self._rows, number, key=lambda entry: entry.number)

    def _end(self) -> int:
        """Index past the lowest row shown."""
        rows = self.rows()
        room = self._room()
        if self.following:
            return len(rows)
        return max(self._index(self._bottom), min(room, len(rows)))

    def _room(self) -> int:
        return max(self.size.height - 1 - self.prompt.open, 1)

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        end = self._end()
        rows = self.rows()
        room = max(height - 1 - self.prompt.open, 1)
        shown = rows[max(end - room, 0) : end]
        lines = [heading(self.paint, t("Log"), width, self.has_focus, self._note(len(rows) - end))]
        for entry in shown:
            current = entry.number == self.current
            lines.append(log_row(self.paint, entry, width, self.needle, current))
        if not shown:
            text = (
                t("Nothing logged yet.")
                if not self.model.logs
                else t("No line of level {level} or above.", level=self.least)
            )
            lines.append(self.paint.row(width).put("  ").put(text, "soft").strip())
        lines += [self.paint.blank(width)] * (height - len(lines) - self.prompt.open)
        if self.prompt.open:
            lines.append(self.prompt.draw(self.paint.row(width), "/").strip())
        return lines

    def _note(self, below: int) -> Row:
        note = self.paint.row(72)
        if self.needle:
            note.put(t("search") + " ", "soft").outside(
                fmt.fit(self.needle, min(cell_len(self.needle), 20))
            )
            note.put("  ")
        note.put(t("{level} and above", level=self.least.lower()), "soft").put("  ")
        if self.following:
            sign = "▸ " if self.paint.unicode else ""
            return note.put(sign + t("following"), "state.good")
        return note.put(t("‖ held, {below} newer", below=f"{below:,}"), "state.watch")

    # -- keys --------------------------------------------------------------------------------

    def _hold(self, end: int) -> None:
        """Stop following with the view ending at row index ``end``."""
        rows = self.rows()
        end = min(max(end, min(self._room(), len(rows))), len(rows))
        self.following = False
        self._bottom = rows[end - 1].number if rows else 0
        self.update()

    def action_scroll(self, by: int) -> None:
        end = self._end() + by
        if by > 0 and end >= len(self.rows()):
            self._hold(len(self.rows()))
            return
        self._hold(end)

    def action_page(self, by: int) -> None:
        self.action_scroll(by * max(self._room() - 1, 1))

    def action_first(self) -> None:
        self._hold(0)

    def action_follow(self) -> None:
        if self.following:
            self._hold(len(self.rows()))
        else:
            self.following = True
            self.update()

    def action_level(self) -> None:
        self.least = FILTERS[(FILTERS.index(self.least) + 1) % len(FILTERS)]
        self._rows = []
        self._seen = 0
        self.update()

    def action_search(self) -> None:
        self.prompt.begin(self.needle)
        self.update()

    def action_match(self, by: int) -> None:
        """Go to the match above (-1) or below (1) the current one."""
        if not self.needle:
            self.action_search()
            return
        rows = self.rows()
        wanted = self.needle.casefold()
        at = self._index(self.current) - 1 if self.current is not None else len(rows)
        index = at + by
        while 0 <= index < len(rows):
            if wanted in fmt.inert(rows[index].text).casefold():
                self.current = rows[index].number
                end = self._end()
                if not end - self._room() <= index < end:
                    end = index + self._room() // 2 + 1
                self._hold(end)
                return
            index += by
        sentence = (
            t("No further match of {words} above.", words=repr(self.needle))
            if by < 0
            else t("No further match of {words} below.", words=repr(self.needle))
        )
        self.console_app.say(sentence, "state.watch")

    def typed(self, outcome: str) -> None:
        if outcome == "left":
            self.prompt.close()
            self.needle, self.current = "", None
        elif outcome == "done":
            self.needle, self.current = self.prompt.close(), None
            if self.needle:
                self.action_match(-1)

    def on_mouse_scroll_up(self) -> None:
        self.action_scroll(-3)

    def on_mouse_scroll_down(self) -> None:
        end = self._end() + 3
        if end >= len(self.rows()):
            self.following = True
            self.update()
        else:
            self._hold(end)

"""Which of the lines shown are bookmarked: bookmarks kept of old, found again among lines."""

from __future__ import annotations

from console.bookmarks import TEXT, Bookmark, Bookmarks
from console.widgets.logs_source import LiveSource, Source


class LineMarks:
    """The bookmarks of one source.

    Attributes:
        numbers: the lines that carry one.
    """

    def __init__(self, book: Bookmarks, source: Source) -> None:
        self.book, self.source = book, source
        self.numbers: set[int] = set()
        self._sought = {_known_by(mark): mark for mark in book.of(source.name)}
        self._found: dict[int, Bookmark] = {}
        self._looked = 0  # lines before this one were looked at

    def look(self) -> bool:
        """Look among the lines that came since; whether one of them is bookmarked."""
        if not self._sought:
            return False
        before = len(self.numbers)
        if isinstance(self.source, LiveSource):
            self._look_live(self.source)
        else:
            self._look_file()
        return len(self.numbers) != before

    def _look_live(self, source: LiveSource) -> None:
        first, end = source.span()
        for entry in reversed(source.model.logs):
            if entry.number < self._looked:
                break
            known = (entry.t, entry.rank, entry.text[:TEXT], None)
            if known in self._sought:
                self._find(entry.number, self._sought[known])
        self._looked = max(end, first)

    def _look_file(self) -> None:
        _, end = self.source.span()
        for known, mark in list(self._sought.items()):
            number = mark.line
            if number is None or number >= end:
                continue  # not counted yet
            del self._sought[known]
            if self.source.record(number).text[:TEXT] == mark.text:
                self._find(number, mark)

    def _find(self, number: int, mark: Bookmark) -> None:
        self.numbers.add(number)
        self._found[number] = mark

    def turn(self, number: int) -> None:
        """Set a bookmark on a line, or take it away.

        Raises:
            OSError: it could not be kept; it counts as long as the console does.
        """
        if number in self.numbers:
            self.numbers.discard(number)
            mark = self._found.pop(number)
            self._sought.pop(_known_by(mark), None)
            self.book.change(mark, kept=False)
            return
        record = self.source.record(number)
        line = None if isinstance(self.source, LiveSource) else number
        mark = Bookmark(
            self.source.name, record.text[:TEXT], record.t, record.job, record.rank, line
        )
        self._find(number, mark)
        self.book.change(mark, kept=True)

    def clear(self) -> None:
        """Take away all that are on the lines shown.

        Raises:
            OSError: that could not be written.
        """
        for number in list(self.numbers):
            self.turn(number)


def _known_by(mark: Bookmark) -> tuple[float | None, int | None, str, int | None]:
    return mark.t, mark.rank, mark.text, mark.line

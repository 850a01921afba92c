"""A person's bookmarks on log lines, kept from console to console in a small file.

A line of the engine or of a rank is known again by its time, rank and text, so a bookmark set
while a job ran is there when a console comes back, and in the recording of that moment too. A
line of any other file is known by its number and text: where the file has moved on beneath it
(rotated, cut), the bookmark waits and shows nothing.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MOST: Final = 2000  # bookmarks kept; the oldest leave
TEXT: Final = 200  # characters of a line that it is known by


@dataclass(frozen=True)
class Bookmark:
    """One line.

    Args:
        place: path of the file; empty: lines of the engine and its ranks, live or recorded.
        text: its beginning. line: its number in the file; None for the engine's.
    """

    place: str
    text: str
    t: float | None = None
    job: int | None = None
    rank: int | None = None
    line: int | None = None


class Bookmarks:
    """All of a person's bookmarks, the oldest first.

    Args:
        path: where they are kept, one JSON object a line; None: only as long as this lives.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._marks: dict[Bookmark, None] = dict.fromkeys(self._read())

    def of(self, place: str) -> list[Bookmark]:
        """Those of a file, or of the engine's lines."""
        return [mark for mark in self._marks if mark.place == place]

    def change(self, mark: Bookmark, *, kept: bool) -> None:
        """Keep a bookmark or take it away, here and in the file.

        Raises:
            OSError: it could not be written; it counts here all the same.
        """
        self._apply(mark, kept)
        if self.path is None:
            return
        with self._alone():
            self._marks = dict.fromkeys(self._read())  # another console may have written
            self._apply(mark, kept)
            lines = [json.dumps(dataclasses.asdict(m), ensure_ascii=False) for m in self._marks]
            fresh = self.path.with_name(f".{self.path.name}.new")
            fresh.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            fresh.replace(self.path)

    def _apply(self, mark: Bookmark, kept: bool) -> None:
        self._marks.pop(mark, None)
        if kept:
            self._marks[mark] = None
            while len(self._marks) > MOST:
                del self._marks[next(iter(self._marks))]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two consoles do not write at once."""
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> Iterator[Bookmark]:
        """What the file holds; a damaged line is left out."""
        if self.path is None:
            return
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # none was kept yet, or it cannot be read: there is none then
            return
        for line in lines:
            try:
                yield _mark(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue


def _mark(body: dict[str, Any]) -> Bookmark:
    def number(name: str) -> int | None:
        value = body.get(name)
        return None if value is None else int(value)

    t = body.get("t")
    return Bookmark(
        str(body["place"]), str(body["text"]), None if t is None else float(t),
        number("job"), number("rank"), number("line"),
    )  # fmt: skip

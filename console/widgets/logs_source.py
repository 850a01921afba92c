"""Where the log page's lines come from: the console's own picture, or files of any length.

Lines have numbers that never change and follow each other, so that nothing moves under the reader.
"""

from __future__ import annotations

import itertools
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from console import format as fmt
from console.parts import LogEntry
from console.state import Model
from engine.logfile import place_of
from engine.triage.glance import Glance
from engine.triage.query import Predicate
from engine.triage.records import Record, parse_line

_CHUNK: Final = 1 << 20  # bytes read at once while lines are counted
_BLOCK: Final = 4096  # lines searched at once
_LONGEST: Final = 1 << 16  # bytes of one line that are read
_KEPT: Final = 4096  # lines kept in memory
_NEWLINE: Final = re.compile(rb"\n")
#: What makes a line of any program an error.
_ERRORS: Final = (b"ERROR", b"CRITICAL", b"FATAL", b"Traceback (most recent call", b"Error: ")
_ERROR_LEVELS: Final = frozenset({"ERROR", "CRITICAL"})


class Source(Protocol):
    """Lines by number."""

    name: str  # untrusted: a path; empty for the console's own
    complete: bool  # no more lines are known to be waiting to be counted

    def span(self) -> tuple[int, int]:
        """Number of the oldest line, and one past the newest."""

    def record(self, number: int) -> Record:
        """One line."""

    def between(self, first: int, end: int) -> Iterable[tuple[int, Record]]:
        """Lines from ``first`` to before ``end``, oldest first."""

    def passing(self, first: int, end: int, wanted: Predicate, glance: Glance) -> list[int]:
        """Numbers of those lines that are ``wanted``; ``glance`` is made of the same query."""

    def find(self, start: int, by: int, needle: str | None) -> Iterator[int | None]:
        """Numbers of lines with a text (None: of errors) from ``start`` on, up (-1) or down (1).

        None now and then, so that a search can be interrupted.
        """

    def poll(self) -> None:
        """Look whether there is more."""

    def close(self) -> None:
        """Let go of files."""


class LiveSource:
    """The lines that the console's model holds."""

    name = ""
    complete = True

    def __init__(self, model: Model) -> None:
        self.model = model

    def span(self) -> tuple[int, int]:
        logs = self.model.logs
        return (logs[0].number, logs[-1].number + 1) if logs else (0, 0)

    def record(self, number: int) -> Record:
        logs = self.model.logs
        return self._record(logs[number - logs[0].number])

    def passing(
        self,
        first: int,
        end: int,
        wanted: Predicate,
        glance: Glance,  # noqa: ARG002 - there are too few lines to hurry
    ) -> list[int]:
        return [number for number, record in self.between(first, end) if wanted(record)]

    def between(self, first: int, end: int) -> Iterable[tuple[int, Record]]:
        low, high = self.span()
        first, end = max(first, low), min(end, high)
        for entry in itertools.islice(self.model.logs, max(first - low, 0), max(end - low, 0)):
            yield entry.number, self._record(entry)

    def find(self, start: int, by: int, needle: str | None) -> Iterator[int | None]:
        low, high = self.span()
        wanted = needle.casefold() if needle else None
        numbers = range(start, high) if by > 0 else range(start, low - 1, -1)
        for count, number in enumerate(numbers, 1):
            oldest = self.model.logs[0].number if self.model.logs else number + 1
            if number >= oldest:
                entry = self.model.logs[number - oldest]
                if wanted is None:
                    hit = entry.level in _ERROR_LEVELS
                else:
                    hit = wanted in fmt.inert(entry.text).casefold()
                if hit:
                    yield number
            if count % 500 == 0:
                yield None

    def poll(self) -> None:
        """The model tells by itself."""

    def close(self) -> None:
        """Nothing is held."""

    def _record(self, entry: LogEntry) -> Record:
        job = self.model.jobs.get(entry.job) if entry.job is not None else None
        return Record(
            text=entry.text,
            level=entry.level,
            t=entry.t,
            where=entry.where or place_of(entry.source.partition(" ")[0], entry.stream),
            job=entry.job,
            rank=entry.rank,
            stream=entry.stream,
            node=self.model.host or None,
            version=None if job is None else job.version,
            line=entry.number,
        )


class _Segment:
    """One file: where each of its lines begins.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        info = os.fstat(self.fd)
        self.identity = (info.st_dev, info.st_ino)
        self.starts = array("q", [0])  # of every line, and where the next one would begin
        self._read = 0  # bytes looked at
        self._tail = False  # the last line has no end yet

    def __len__(self) -> int:
        return len(self.starts) - 1 + self._tail

    def count(self, limit: int = _CHUNK) -> bool:
        """Count lines in the next ``limit`` bytes; whether there may be more."""
        data = os.pread(self.fd, limit, self._read)
        if data:
            base = self._read + 1
            self.starts.extend(base + found.start() for found in _NEWLINE.finditer(data))
            self._read += len(data)
        self._tail = self._read > self.starts[-1]
        return len(data) == limit

    @property
    def shortened(self) -> bool:
        """Whether the file is shorter than what was read of it."""
        return os.fstat(self.fd).st_size < self._read

    def line(self, index: int) -> bytes:
        start = self.starts[index]
        end = self.starts[index + 1] if index + 1 < len(self.starts) else self._read
        return os.pread(self.fd, min(end - start, _LONGEST), start)

    def block(self, first: int, end: int) -> tuple[int, bytes]:
        """(where it begins, the bytes) of some lines."""
        start = self.starts[first]
        stop = self.starts[end] if end < len(self.starts) else self._read
        return start, os.pread(self.fd, stop - start, start)

    def hits(self, first: int, end: int, needles: Sequence[bytes], fold: bool) -> list[int]:
        """Lines of a block in which one of the needles is found; ``fold`` ignores ASCII case."""
        base, data = self.block(first, end)
        if fold:
            data = data.lower()
        found: set[int] = set()
        for needle in needles:
            place = data.find(needle)
            while place >= 0:
                index = bisect_right(self.starts, base + place, first) - 1
                found.add(index)
                after = self.starts[index + 1] - base if index + 1 < len(self.starts) else -1
                place = data.find(needle, after) if after >= 0 else -1
        return sorted(found)

    def close(self) -> None:
        os.close(self.fd)


class FileSource:
    """A log file, or its rotated parts from the oldest on, read where one looks.

    Args:
        paths: oldest first; the last one may grow, be rotated or cut.
        node: the host that it tells of.

    Raises:
        OSError: none of them can be opened.
    """

    def __init__(self, paths: Sequence[Path], node: str | None = None) -> None:
        self.name = str(paths[-1])
        self._path = paths[-1]
        self._node = node
        self._segments: list[_Segment] = []
        self._bases: list[int] = []  # number of each segment's first line
        failed: OSError | None = None
        for path in paths:
            try:
                self._add(_Segment(path))
            except OSError as error:
                failed = error
        if not self._segments:
            raise failed or FileNotFoundError(str(paths[-1]))
        self._counting = 0  # the segment whose lines are being counted
        self.complete = False
        self._cached = lru_cache(_KEPT)(self._record)

    def _add(self, segment: _Segment) -> None:
        base = self._bases[-1] + len(self._segments[-1]) if self._segments else 0
        self._bases.append(base)
        self._segments.append(segment)

    def span(self) -> tuple[int, int]:
        at = min(self._counting, len(self._segments) - 1)
        return 0, self._bases[at] + len(self._segments[at])

    def poll(self) -> None:
        """Count some more lines; follow rotation, begin anew when the file was cut."""
        last = self._counting == len(self._segments) - 1
        segment = self._segments[self._counting]
        if last and segment.shortened:
            self._bases[-1] += len(segment)  # numbers go on; what was read before is gone
            self._segments[-1] = _Segment(self._path)
            segment.close()
            return
        before = len(segment)
        if segment.count():
            self.complete = False
        elif not last:
            self._counting += 1
            self._bases[self._counting] = self._bases[self._counting - 1] + len(segment)
        else:
            self.complete = True
            self._look_for_rotation(segment)
        if len(segment) != before:
            self._cached.cache_clear()  # the last line may have grown

    def _look_for_rotation(self, segment: _Segment) -> None:
        try:
            info = self._path.stat()
        except OSError:
            return  # about to be made anew
        if (info.st_dev, info.st_ino) != segment.identity:
            self._add(_Segment(self._path))
            self._counting += 1

    def _place(self, number: int) -> tuple[_Segment, int]:
        at = bisect_right(self._bases, number, 0, self._counting + 1) - 1
        return self._segments[at], number - self._bases[at]

    def record(self, number: int) -> Record:
        """One line; the last few thousand are kept."""
        return self._cached(number)

    def _record(self, number: int) -> Record:
        segment, index = self._place(number)
        if not 0 <= index < len(segment):
            return Record(text="", line=number + 1)
        return self._parsed(number, segment.line(index))

    def between(self, first: int, end: int) -> Iterable[tuple[int, Record]]:
        for number, line in self._lines(first, end):
            yield number, self._parsed(number, line)

    def passing(self, first: int, end: int, wanted: Predicate, glance: Glance) -> list[int]:
        found = []
        for number, line in self._lines(first, end):
            passes = glance.verdict(line)
            if passes or (passes is None and wanted(self._parsed(number, line))):
                found.append(number)
        return found

    def _parsed(self, number: int, line: bytes) -> Record:
        return parse_line(line.decode("utf-8", "replace"), node=self._node, number=number + 1)

    def _lines(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Lines as they stand there, as much of each as is read."""
        first, end = max(first, 0), min(end, self.span()[1])
        while first < end:
            segment, index = self._place(first)
            stop = min(index + end - first, index + _BLOCK, len(segment))
            if stop <= index:
                return
            _, data = segment.block(index, stop)
            for line in data.split(b"\n")[: stop - index]:
                yield first, line[:_LONGEST]
                first += 1

    def find(self, start: int, by: int, needle: str | None) -> Iterator[int | None]:
        fold = bool(needle)
        needles = (needle.encode("utf-8", "replace").lower(),) if needle else _ERRORS
        number = min(start, self.span()[1] - 1)
        while 0 <= number < self.span()[1]:
            segment, index = self._place(number)
            base = number - index
            if by > 0:
                first, end = index, min(index + _BLOCK, len(segment))
            else:
                first, end = max(index - _BLOCK + 1, 0), index + 1
            if first >= end:
                return
            found = segment.hits(first, end, needles, fold)
            yield from (base + hit for hit in (found if by > 0 else reversed(found)))
            number = base + (end if by > 0 else first - 1)
            yield None

    def close(self) -> None:
        for segment in self._segments:
            segment.close()


def engine_log(path: Path) -> list[Path]:
    """The engine's log with its rotated parts, oldest first."""
    rotated = []
    for part in path.parent.glob(f"{path.name}.*"):
        suffix = part.name[len(path.name) + 1 :]
        if suffix.isdigit():
            rotated.append((int(suffix), part))
    return [*(part for _, part in sorted(rotated, reverse=True)), path]

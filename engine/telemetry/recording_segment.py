"""One segment of a recording: gzip members of newline-delimited events, readable alone.

A segment is a chain of small gzip members (``zcat`` reads it). Whatever a crash, a full disk or a
bad block does to one member, the others are read; what could not be read is told. Each line is an
event's JSON with ``at``, the moment at which the engine told it, and ``key`` where it repeats an
earlier state so that the segment can be read alone. The first line describes the recording.

A closed segment has an index beside it: its times, jobs and marks.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.messages import (
    AlertChanged,
    DevicesSampled,
    Event,
    FindingRaised,
    JobChanged,
    LogLine,
    MessageError,
    RankChanged,
    Spike,
    from_dict,
)
from engine.sentence import sentence

FORMAT: Final = 1
PREFIX: Final = "events-"
SUFFIX: Final = ".ndjson.gz"
INDEX_SUFFIX: Final = ".index.json"
HEADER: Final = "Recording"
#: What one member may unpack to; the recorder writes far less.
MEMBER_LIMIT: Final = 64 << 20
_CHUNK: Final = 1 << 16
_MAGIC: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
_GZIP: Final = 31  # zlib's number for a gzip wrapper
_TEXT: Final = 1000  # characters of a mark; the longest of our sentences, so that it is known again
_FORMER_TEXT: Final = 120  # of the first versions, whose indexes did not tell
#: A rank that went down; what earlier versions also said of those that were ended with it.
_DIED: Final = re.compile(r"rank (\d+) died: (.*)", re.DOTALL)
_WITH_ITS_GROUP: Final = "was killed by SIGTERM"
_GROUP_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Stamped:
    """An event and the moment (Unix seconds) at which it was told."""

    at: float
    event: Event
    key: bool = False  # repeats an earlier state


@dataclass(frozen=True)
class Mark:
    """A moment worth jumping to."""

    at: float
    kind: str  # "spike" | "error" | "alert"
    text: str
    job: int | None = None


@dataclass
class Index:
    """What is in a segment, without unpacking it."""

    start: float | None = None
    end: float | None = None
    events: int = 0
    jobs: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cut: bool = False  # by an earlier version: the segment tells more of its marks

    def take(self, at: float, event: Event) -> None:
        self.start = at if self.start is None else min(self.start, at)
        self.end = at if self.end is None else max(self.end, at)
        self.events += 1
        job = _job(event)
        if job is not None and job not in self.jobs:
            self.jobs.append(job)
        mark = mark_of(at, event)
        if mark is not None:
            self._add(mark)

    def _add(self, mark: Mark) -> None:
        if not _ended_with_its_group(mark, self.marks):
            self.marks.append(mark)

    def to_json(self) -> str:
        fields = {name: value for name, value in asdict(self).items() if name != "cut"}
        return json.dumps({"v": FORMAT, "text": _TEXT, **fields}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str | bytes) -> Index:
        """Raises: ValueError: not an index."""
        data = json.loads(text)
        try:
            marks = [Mark(**mark) for mark in data["marks"]]
            length = data.get("text", _FORMER_TEXT)
            cut = length < _TEXT and any(len(mark.text) >= length for mark in marks)
            index = Index(data["start"], data["end"], data["events"], data["jobs"], [],
                          data["problems"], cut)  # fmt: skip
            for mark in marks:
                index._add(mark)
        except (KeyError, TypeError) as error:
            raise ValueError(sentence("not an index of a segment: {error}", error=error)) from error
        return index


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1].rstrip() + "…"


def _ended_with_its_group(mark: Mark, before: Sequence[Mark]) -> bool:
    """Earlier versions called a rank dead that only ended because another had failed."""
    died = _DIED.fullmatch(mark.text)
    if died is None or died[2] != _WITH_ITS_GROUP:
        return False
    return any(
        one.job == mark.job
        and abs(mark.at - one.at) < _GROUP_SECONDS
        and (other := _DIED.fullmatch(one.text)) is not None
        and other[1] != died[1]
        for one in before
    )


def _job(event: Event) -> int | None:
    if isinstance(event, JobChanged):
        return event.job.id
    number = getattr(event, "job", None)
    return number if isinstance(number, int) else None


#: A finding told again by a later engine is no news.
_NEWS_SECONDS: Final = 60.0


def mark_of(at: float, event: Event) -> Mark | None:
    """The mark an event deserves; None for most."""
    match event:
        case Spike():
            return Mark(at, "spike", _cut(f"{event.device}: {event.owner}"), event.job)
        case LogLine(level="ERROR" | "CRITICAL"):
            return Mark(at, "error", _cut(event.text), event.job)
        case RankChanged(phase="died"):
            reason = event.reason or sentence("no reason known")
            return Mark(
                at,
                "error",
                _cut(sentence("rank {rank} died: {reason}", rank=event.rank, reason=reason)),
                event.job,
            )
        case FindingRaised(role="root", resolved=False) if at - event.t < _NEWS_SECONDS:
            return Mark(at, "error", _cut(event.cause), event.job)
        case AlertChanged(state="firing") if event.previous != "firing":
            return Mark(at, "alert", _cut(f"{event.rule}: {event.message}"), event.job)
        case _:
            return None


def is_sample(event: Event) -> bool:
    """Whether the next event of its kind says the same anew: all that may be left out in need."""
    return isinstance(event, DevicesSampled) or type(event).__name__ in (
        "LedgerUpdated",
        "StepDone",
        "Unshards",
    )


# -- writing ------------------------------------------------------------------------------------


def header_line(facts: dict[str, Any]) -> bytes:
    return json.dumps({"type": HEADER, "v": FORMAT, **facts}, ensure_ascii=False).encode() + b"\n"


def event_line(at: float, event: Event, key: bool = False) -> bytes:
    mark = ',"key":true' if key else ""
    # A lone surrogate in a log line must not end a recording.
    return f'{{"at":{at:.6f}{mark},{event.to_json()[1:]}\n'.encode("utf-8", "replace")


def pack(lines: bytes) -> bytes:
    """One gzip member."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return squeeze.compress(lines) + squeeze.flush()


class SegmentWriter:
    """Appends members to one file; what fails half-way is taken back.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.index = Index()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, lines: bytes) -> None:
        """Write lines as one member.

        Raises:
            OSError: nothing of it was kept.
        """
        data = pack(lines)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Make the segment durable and put its index beside it.

        Raises:
            OSError: the index could not be written; the segment is closed all the same.
        """
        try:
            os.fdatasync(self._fd)
        finally:
            os.close(self._fd)
        part = index_path(self.path).with_suffix(".part")
        part.write_text(self.index.to_json(), encoding="utf-8")
        part.replace(index_path(self.path))


def index_path(segment: Path) -> Path:
    return segment.with_name(segment.name.removesuffix(SUFFIX) + INDEX_SUFFIX)


# -- reading ------------------------------------------------------------------------------------


def unpack(data: bytes) -> Iterator[tuple[bytes, str | None]]:
    """The members' contents; where one is damaged, whole lines before the damage and a remark."""
    view, pos = memoryview(data), 0
    while pos < len(data):
        stream = zlib.decompressobj(_GZIP)
        out, at, problem = bytearray(), pos, ""
        try:
            while not stream.eof and at < len(data) and not problem:
                chunk = view[at : at + _CHUNK]
                at += len(chunk)
                out += stream.decompress(chunk, MEMBER_LIMIT)
                if len(out) >= MEMBER_LIMIT:
                    problem = sentence("unpacks to more than a recorder writes")
        except zlib.error as error:
            out, problem = bytearray(), sentence("is damaged ({error})", error=error)
        if stream.eof:
            pos = at - len(stream.unused_data)
            yield bytes(out), None
            continue
        following = data.find(_MAGIC, pos + 1)
        lost = (following if following >= 0 else len(data)) - pos
        problem = problem or sentence("is cut short")
        yield (
            bytes(out[: out.rfind(b"\n") + 1]),
            sentence("{lost:,} bytes at {pos:,}: {problem}", lost=lost, pos=pos, problem=problem),
        )
        pos = following if following >= 0 else len(data)


@dataclass
class Contents:
    """A segment, read."""

    header: dict[str, Any] = field(default_factory=dict)
    events: list[Stamped] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unknown: int = 0  # events of a newer vocabulary

    def index(self) -> Index:
        """The index that a crash kept from being written."""
        index = Index(problems=list(self.problems))
        for stamped in self.events:
            if not stamped.key:
                index.take(stamped.at, stamped.event)
        if index.start is None and self.events:  # nothing happened after the opening
            index.start = index.end = self.events[0].at
        return index


def read_segment(data: bytes) -> Contents:
    """Read a segment's bytes (packed or plain lines); never raises for damage."""
    contents = Contents()
    packed = data[:2] == _MAGIC[:2]
    bad = 0
    for text, problem in unpack(data) if packed else [(data, None)]:
        if problem is not None:
            contents.problems.append(problem)
        for line in text.splitlines():
            if line.strip():
                bad += not _take_line(contents, line)
    if bad:
        contents.problems.append(sentence("{bad:,} lines are no events", bad=bad))
    return contents


def _take_line(contents: Contents, line: bytes) -> bool:
    try:
        data = json.loads(line)
    except ValueError:
        return False
    if not isinstance(data, dict):
        return False
    if data.get("type") == HEADER:
        contents.header = contents.header or data
        return True
    at = data.get("at", data.get("t"))
    if not isinstance(at, int | float) or isinstance(at, bool):
        return False
    try:
        event = from_dict(data)
    except MessageError:
        if str(data.get("type")) in Event.kinds:
            return False
        contents.unknown += 1
        return True
    if not isinstance(event, Event):
        return False
    contents.events.append(Stamped(float(at), event, bool(data.get("key"))))
    return True

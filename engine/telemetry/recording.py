"""Reading a recording: a folder of segments, one exported file, or one segment.

Segments are unpacked when they are asked for, the newest few stay unpacked, and indexes answer
where the spikes, errors and alerts are. Damage costs what it hit and is told in ``problems``.
"""

from __future__ import annotations

import heapq
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.sentence import joined, sentence
from engine.telemetry.recording_segment import (
    INDEX_SUFFIX,
    PREFIX,
    SUFFIX,
    Contents,
    Index,
    Stamped,
    read_segment,
)

#: Segments that stay unpacked (each holds minutes).
UNPACKED: Final = 8
#: What one segment may take, packed; the recorder's are a few MiB.
PACKED_LIMIT: Final = 512 << 20
MARKS: Final = ("spike", "error", "alert")


class RecordingError(ValueError):
    """There is no recording there; the text says what was looked for."""


@dataclass(frozen=True)
class Segment:
    """One segment: where it lies, when it begins and ends, what is marked in it."""

    name: str
    index: Index
    load: Callable[[], bytes]

    @property
    def start(self) -> float:
        return self.index.start or 0.0

    @property
    def end(self) -> float:
        return self.index.end or 0.0


class Recording:
    """A recording, open for reading. Use ``open_recording``."""

    def __init__(self, path: Path, segments: list[Segment], problems: list[str]) -> None:
        self.path = path
        self.segments = sorted(segments, key=lambda s: (s.start, s.name))
        self.problems = problems
        self._unpacked: OrderedDict[str, Contents] = OrderedDict()
        self._clusters: list[list[Segment]] = []
        end = -1.0
        for segment in self.segments:
            if self._clusters and segment.start < end:
                self._clusters[-1].append(segment)  # two engines, or a clock set back
            else:
                self._clusters.append([segment])
            end = max(end, segment.end)
        self.start = self.segments[0].start
        self.end = max(segment.end for segment in self.segments)
        self.marks = sorted(
            (mark for segment in self.segments for mark in segment.index.marks),
            key=lambda mark: mark.at,
        )

    @property
    def jobs(self) -> list[int]:
        return sorted({job for segment in self.segments for job in segment.index.jobs})

    @property
    def count(self) -> int:
        """Events in all segments."""
        return sum(segment.index.events for segment in self.segments)

    def header(self) -> dict[str, Any]:
        """What the last segment says of the engine that wrote it."""
        return self._contents(self.segments[-1]).header

    def events(self, start: float | None = None, end: float | None = None) -> Iterator[Stamped]:
        """Events in the order they were told, from ``start`` up to and including ``end``."""
        for stamped in self.ground(start, end):
            if not stamped.key and (start is None or stamped.at >= start):
                yield stamped

    def ground(self, start: float | None = None, end: float | None = None) -> Iterator[Stamped]:
        """The same, led in by the state (``key``) and the events of the segments that hold
        ``start``: what a picture needs to be right at ``start`` and after."""
        led = False
        for cluster in self._clusters:
            if start is not None and cluster is not self._clusters[-1]:
                last = max(segment.end for segment in cluster)
                if last < start:
                    continue
            if end is not None and cluster[0].start > end:
                return
            for stamped in self._merged(cluster):
                if stamped.key:
                    if not led:
                        yield stamped
                    continue
                if end is not None and stamped.at > end:
                    break
                yield stamped
            led = True

    def _merged(self, cluster: list[Segment]) -> Iterator[Stamped]:
        lists = [self._contents(segment).events for segment in cluster]
        if len(lists) == 1:
            return iter(lists[0])
        return heapq.merge(*lists, key=lambda stamped: stamped.at)

    def _contents(self, segment: Segment) -> Contents:
        found = self._unpacked.get(segment.name)
        if found is not None:
            self._unpacked.move_to_end(segment.name)
            return found
        found = _read(segment, self.problems)
        self._unpacked[segment.name] = found
        while len(self._unpacked) > UNPACKED:
            self._unpacked.popitem(last=False)
        return found


def _read(segment: Segment, problems: list[str]) -> Contents:
    try:
        contents = read_segment(segment.load())
    except (OSError, zipfile.BadZipFile, RecordingError) as error:
        contents = Contents(problems=[sentence("cannot be read: {error}", error=error)])
    for problem in contents.problems:
        if (text := f"{segment.name}: {problem}") not in problems:
            problems.append(text)
    if contents.unknown:
        text = sentence(
            "{name}: {unknown:,} events of a newer avatop are left out",
            name=segment.name,
            unknown=contents.unknown,
        )
        if text not in problems:
            problems.append(text)
    return contents


def open_recording(path: Path) -> Recording:
    """Open a folder of segments, an exported ``.zip``, or one segment (packed or plain lines).

    Raises:
        RecordingError: nothing there is a recording.
        OSError: it cannot be read.
    """
    if path.is_dir():
        names, load, sizes = _folder(path)
    elif path.exists() and zipfile.is_zipfile(path):
        names, load, sizes = _bundle(path)
    else:
        with path.open("rb"):
            pass
        names, sizes = {path.name: path.name}, {path.name: path.stat().st_size}
        load = {path.name: path.read_bytes}
    problems: list[str] = []
    segments = []
    for name, place in sorted(names.items()):
        if sizes[place] > PACKED_LIMIT:
            problems.append(
                sentence("{name}: larger than any recorder writes; left out", name=name)
            )
            continue
        segment = _segment(name, place, load, problems)
        if segment is not None:
            segments.append(segment)
    if not segments:
        none = sentence(
            "{path}: no recording here: no segments ({pattern}) with events",
            path=path,
            pattern=f"{PREFIX}*{SUFFIX}",
        )
        raise RecordingError(
            sentence("{what} ({why})", what=none, why=joined(problems[:3])) if problems else none
        )
    return Recording(path, segments, problems)


_Loads = dict[str, Callable[[], bytes]]


def _segment(name: str, place: str, load: _Loads, problems: list[str]) -> Segment | None:
    beside = place.removesuffix(SUFFIX) + INDEX_SUFFIX
    if place.endswith(SUFFIX) and beside in load:
        try:
            index = Index.from_json(load[beside]())
        except (OSError, ValueError, zipfile.BadZipFile):
            problems.append(sentence("{name}: its index is damaged and was made anew", name=name))
        else:
            if not index.cut:
                return Segment(name, index, load[place]) if index.start is not None else None
    bare = Segment(name, Index(), load[place])
    index = _read(bare, problems).index()
    return Segment(name, index, load[place]) if index.start is not None else None


def _is_segment(name: str) -> bool:
    return name.startswith(PREFIX) and name.endswith((SUFFIX, ".ndjson"))


def _folder(path: Path) -> tuple[dict[str, str], _Loads, dict[str, int]]:
    if not any(_is_segment(p.name) for p in path.iterdir()) and (path / "recording").is_dir():
        path = path / "recording"
    files = [p for p in path.iterdir() if p.is_file()]
    names = {p.name: p.name for p in files if _is_segment(p.name)}
    return names, {p.name: p.read_bytes for p in files}, {p.name: p.stat().st_size for p in files}


def _bundle(path: Path) -> tuple[dict[str, str], _Loads, dict[str, int]]:
    def reader(name: str) -> Callable[[], bytes]:
        def read() -> bytes:
            with zipfile.ZipFile(path) as bundle:
                return bundle.read(name)

        return read

    with zipfile.ZipFile(path) as bundle:
        entries = {info.filename: info.file_size for info in bundle.infolist()}
    names = {place.rpartition("/")[2]: place for place in entries}
    found = {name: place for name, place in names.items() if _is_segment(name)}
    return found, {place: reader(place) for place in entries}, entries

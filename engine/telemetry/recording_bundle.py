"""An incident bundle: one zip with a slice of a recording and all that explains it, redacted."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.logfile import format_line
from engine.messages import (
    DevicesSampled,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    MessageError,
    PlanMade,
    from_dict,
)
from engine.sentence import sentence
from engine.telemetry.csvlog import csv_lines
from engine.telemetry.recorder_state import Present
from engine.telemetry.recording import Recording
from engine.telemetry.recording_redact import Redactor
from engine.telemetry.recording_segment import (
    FORMAT,
    INDEX_SUFFIX,
    PREFIX,
    SUFFIX,
    Index,
    event_line,
    header_line,
    pack,
)

_PART: Final = 500  # events of a member
#: What is kept of a log file: its end.
LOG_BYTES: Final = 4 << 20


@dataclass
class Slice:
    """Events between two moments, led in by the state at the first."""

    start: float
    end: float
    state: list[Event] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)

    @property
    def jobs(self) -> dict[int, JobRow]:
        """The last row of every job that lived or changed in this time."""
        rows = {e.job.id: e.job for e in self.state if isinstance(e, JobChanged)}
        told = {e.job.id: e.job for _, e in self.events if isinstance(e, JobChanged)}
        living = {n: r for n, r in rows.items() if (r.ended or self.end) >= self.start}
        return {**living, **told}

    @property
    def plans(self) -> dict[int, dict[str, Any]]:
        every = [*self.state, *(event for _, event in self.events)]
        return {e.job: e.plan for e in every if isinstance(e, PlanMade)}


def cut(recording: Recording, start: float, end: float) -> Slice:
    """The part of a recording from ``start`` to ``end`` (Unix seconds)."""
    present, piece = Present(), Slice(start, end)
    for stamped in recording.ground(start, end):
        if stamped.key or stamped.at < start:
            present.take(stamped.event)
        else:
            piece.events.append((stamped.at, stamped.event))
    piece.state = present.events()
    return piece


def redacted(event: Event, redactor: Redactor) -> Event:
    """The same event without what must not leave."""
    data = redactor.data(event.to_dict())
    if not data.get("preview_rgb", "x"):
        data["preview_width"] = data["preview_height"] = 0
    made = from_dict(data)
    if not isinstance(made, Event):
        raise MessageError(sentence("{type} is no event", type=data.get("type")))
    return made


class Bundle:
    """Writes the parts of a bundle and keeps the list of them.

    Args:
        path: the file to make; its folder exists.

    Raises:
        OSError: it cannot be written, or is there already.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self.redactor = redactor
        self.files: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self._zip = zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED)
        path.chmod(0o600)

    def add(self, name: str, data: bytes) -> None:
        """A part as it is."""
        digest = hashlib.sha256(data).hexdigest()
        self.files.append({"name": name, "bytes": len(data), "sha256": digest})
        kind = zipfile.ZIP_STORED if name.endswith(".gz") else zipfile.ZIP_DEFLATED
        self._zip.writestr(name, data, kind)

    def add_text(self, name: str, text: str) -> None:
        """A text, redacted line by line."""
        self.add(name, self.redactor.text(text).encode("utf-8", "replace"))

    def add_json(self, name: str, data: Any) -> None:
        body = json.dumps(self.redactor.data(data), indent=1, ensure_ascii=False)
        self.add(name, body.encode("utf-8", "replace"))

    def add_log(self, name: str, path: Path) -> None:
        """The end of a log file; a remark where there is none."""
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(max(size - LOG_BYTES, 0))
                data = stream.read(LOG_BYTES)
        except OSError as error:
            self.left_out.append(f"{name}: {error.strerror or error}")
            return
        text = data.decode("utf-8", "replace")
        if size > LOG_BYTES:
            text = text.partition("\n")[2]
            self.left_out.append(
                sentence(
                    "{name}: all but its last {log_bytes} MiB", name=name, log_bytes=LOG_BYTES >> 20
                )
            )
        self.add_text(name, text)

    def add_slice(self, piece: Slice, header: Mapping[str, Any]) -> None:
        """The recording, its log lines as text, its readings as CSV, its plans and jobs."""
        for event in (*piece.state, *(event for _, event in piece.events)):
            if isinstance(event, JobChanged):
                self.redactor.know_prompt(str(event.job.request.get("prompt") or ""))
            elif isinstance(event, DevicesSampled):
                for process in (p for device in event.devices for p in device.processes):
                    self.redactor.know_user(process.user or "")
        state = [redacted(event, self.redactor) for event in piece.state]
        events = [(at, redacted(event, self.redactor)) for at, event in piece.events]
        name = f"recording/{PREFIX}{int(piece.start * 1000):013d}-0-0001"
        facts = {"format": FORMAT, **{k: header[k] for k in ("host", "version") if k in header}}
        lines = [header_line(facts)]
        lines += [event_line(piece.start, event, key=True) for event in state]
        packed = [pack(b"".join(lines))]
        index = Index()
        for first in range(0, len(events), _PART):
            part = events[first : first + _PART]
            packed.append(pack(b"".join(event_line(at, event) for at, event in part)))
            for at, event in part:
                index.take(at, event)
        if index.start is None:
            index.start = index.end = piece.start
        self.add(name + SUFFIX, b"".join(packed))
        self.add(name + INDEX_SUFFIX, index.to_json().encode())
        self._add_views([event for _, event in events], events)
        for job, plan in sorted(piece.plans.items()):
            self.add_json(f"plans/job-{job}.json", plan)
        for job, row in sorted(piece.jobs.items()):
            self.add_json(f"jobs/job-{job}.json", JobChanged(job=row).to_dict()["job"])

    def _add_views(self, events: Iterable[Event], stamped: list[tuple[float, Event]]) -> None:
        log = "".join(format_line(e) + "\n" for e in events if isinstance(e, LogLine))
        self.add("logs/recorded.log", log.encode("utf-8", "replace"))
        samples = [(at, e.devices) for at, e in stamped if isinstance(e, DevicesSampled)]
        self.add("memory.csv", "".join(csv_lines(samples)).encode())

    def close(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Add the manifest and finish the file; returns the manifest."""
        manifest = {
            "format": FORMAT,
            **facts,
            "redacted": self.redactor.report(),
            "left_out": [self.redactor.text(text) for text in self.left_out],
            "files": self.files,
        }
        self._zip.writestr("manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
        self._zip.close()
        return manifest

    def discard(self) -> None:
        """Give up: nothing stays behind."""
        self._zip.close()
        self.path.unlink(missing_ok=True)

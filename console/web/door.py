"""Between the browsers and the engine: verdicts, submissions, progress, results. No gradio here."""

from __future__ import annotations

import base64
import dataclasses
import threading
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from console.planning import answer_of, question_of
from console.stored import stored_row
from console.web.tickets import Tickets
from console.web.uploads import UploadRefused, Uploads
from engine.checkpoint.errors import CheckpointError
from engine.jobs.paths import Places
from engine.jobs.store import StoreError
from engine.media.findings import MediaError
from engine.messages import (
    END_STATES,
    BlockDone,
    Cancel,
    EngineStopped,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    Reply,
    Submit,
)
from engine.outcome import read_result
from engine.params import ParamError, Request, find_preset
from engine.remote.client import SocketClient, attach
from engine.remote.spawn import EngineNotStarted, attach_or_spawn
from engine.sentence import sentence
from engine.telemetry.devices import DeviceSelectionError

#: What a person at the door may set; all else is the server's to say.
OPEN: Final = (
    *("prompt", "size", "num_clip", "infer_frames", "sample_steps", "base_seed"),
    "accept_low_quality",
)
#: Seconds a request's check may take.
CHECK_SECONDS: Final = 600.0
_LOG_LINES: Final = 12


class DoorError(ValueError):
    """Not done; a sentence for the person at the door. ``refused``: by a plan or a guard."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class View:
    """What is to be seen of a ticket's job now. ``position`` counts from 1 while it waits."""

    ticket: str
    row: JobRow
    position: int | None = None
    preview: tuple[int, int, bytes] | None = None  # width, height, RGB
    log: tuple[str, ...] = ()
    video: Path | None = None
    report: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self.row.state in END_STATES


class Door:
    """One server's door. Any thread.

    Args:
        base: the request that people's values are laid over: checkpoint, devices, mode.
    """

    def __init__(self, places: Places, version: str, base: Request, uploads: Uploads) -> None:
        self._places, self._version, self.base, self.uploads = places, version, base, uploads
        self._tickets = Tickets(uploads.folder / "tickets.jsonl")
        self._lock = threading.Lock()
        self._client: SocketClient | None = None
        self._rows: dict[int, JobRow] = {}
        self._previews: dict[int, tuple[int, int, bytes]] = {}
        self._logs: dict[int, tuple[str, ...]] = {}

    # -- what people ask -----------------------------------------------------------------------

    def verdict(self, values: Mapping[str, Any], image: Path | None = None) -> tuple[bool, str]:
        """Whether it would fit now, and the sentences that say so.

        Raises:
            DoorError: values that are refused.
        """
        request = self._request(values, image=image)
        try:
            answer = answer_of(question_of(request))
        except (CheckpointError, DeviceSelectionError, MediaError, ParamError, ValueError) as error:
            raise DoorError(str(error)) from error
        plan = answer.plan
        fullest = max((d.predicted_bytes for d in plan.devices), default=0)
        where = f"mode {plan.mode} on {len(plan.devices)} device(s)"
        if answer.fits:
            pace = plan.seconds_per_block
            told = "not measured on this machine yet" if pace is None else f"{pace:.2f} s a block"
            return True, f"It fits: {where}, {fullest / 2**30:.1f} GiB on the fullest; {told}."
        near = next((a for a in answer.alternatives if a.plan.fits), None)
        hint = "" if near is None else f" What would fit: {near.flags}."
        said = "It does not fit" if plan.possible else "It cannot run here"
        return False, f"{said}: {'; '.join(answer.reasons)}.{hint}"

    def submit(
        self, values: Mapping[str, Any], image: tuple[str, BinaryIO], audio: tuple[str, BinaryIO]
    ) -> View:
        """Keep the uploads, queue the job, hand out a ticket.

        Raises:
            DoorError: refused by limits, by the lint of the inputs, by a plan.
        """
        try:
            ticket = self.uploads.new()
        except (UploadRefused, OSError) as error:
            raise DoorError(str(error), refused=True) from error
        try:
            paths = {
                "image": self.uploads.take(ticket, "image", *image),
                "audio": self.uploads.take(ticket, "audio", *audio),
            }
            request = self._request(values, **paths, output=self.uploads.video(ticket))
            reply = self._ask(request)
            if not reply.ok or reply.job is None:
                raise DoorError(reply.message, refused=reply.state == "refused")
        except (UploadRefused, OSError) as error:
            self.uploads.drop(ticket)
            raise DoorError(str(error)) from error
        except DoorError:
            self.uploads.drop(ticket)
            raise
        self._tickets.add(ticket, reply.job)
        return self.look(ticket)

    def look(self, ticket: str) -> View:
        """What there is to see.

        Raises:
            DoorError: no such ticket.
        """
        job = self._tickets.job(ticket)
        if job is None:
            raise DoorError("there is no such ticket")
        with self._lock:
            row = self._rows.get(job)
            waiting = sorted(r.id for r in self._rows.values() if r.state == "queued")
            preview, log = self._previews.get(job), self._logs.get(job, ())
        if row is None or row.state not in END_STATES:
            self._listen()
            row = row or self._stored(job)
        position = waiting.index(job) + 1 if job in waiting else None
        if row.state not in END_STATES:
            return View(ticket, row, position, preview, log)
        report = read_result(self._places.job(job), row)
        video = self.uploads.video(ticket)
        done = row.state == "done" and video.is_file()
        return View(ticket, row, None, preview, log, video if done else None, report)

    def cancel(self, ticket: str) -> str:
        """End a ticket's job; the engine's own words.

        Raises:
            DoorError: no such ticket.
        """
        job = self._tickets.job(ticket)
        if job is None:
            raise DoorError("there is no such ticket")
        client = self._listen()
        if client is None:
            return "no engine is running"
        command = Cancel(job=job, reason=sentence("cancelled through the web"))
        return client.send(command).result(30).message

    def close(self) -> None:
        """Let go of the engine; its jobs go on."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- inside --------------------------------------------------------------------------------

    def _request(self, values: Mapping[str, Any], **paths: Path | None) -> Request:
        given = {name: value for name, value in values.items() if value not in (None, "")}
        preset = given.pop("preset", None)
        closed = sorted(set(given) - set(OPEN))
        if closed:
            raise DoorError(f"{', '.join(closed)}: not to be set from here")
        try:
            chosen = find_preset(str(preset)).values if preset else {}
            own = {name: str(path) for name, path in paths.items() if path is not None}
            return self.base.replace(**{**chosen, **given, **own})
        except ParamError as error:
            raise DoorError(str(error)) from error

    def _ask(self, request: Request) -> Reply:
        client = self._listen(start=True)
        if client is None:
            raise DoorError("the engine does not answer")
        try:
            return client.send(Submit(request=request.to_dict())).result(CHECK_SECONDS)
        except FutureTimeoutError as error:
            raise DoorError("the engine took too long to check the request") from error

    def _listen(self, *, start: bool = False) -> SocketClient | None:
        """The connection to the engine; one is started only for a submission."""
        with self._lock:
            if self._client is not None:
                return self._client
            try:
                if start:
                    client = attach_or_spawn(self._places, self._version, kind="web")
                else:
                    found = attach(self._places, kind="web")
                    if found is None:
                        return None
                    client = found
            except (EngineNotStarted, OSError) as error:
                raise DoorError(f"no engine: {error}") from error
            self._client = client
        client.subscribe(self._hear)
        for row in client.snapshot().result(30).jobs:
            self._hear(JobChanged(job=row))
        return client

    def _hear(self, event: Event) -> None:
        """On the client's thread."""
        if isinstance(event, JobChanged):
            with self._lock:
                self._rows[event.job.id] = event.job
        elif isinstance(event, BlockDone) and event.preview_rgb:
            raw = base64.b64decode(event.preview_rgb)
            with self._lock:
                self._previews[event.job] = (event.preview_width, event.preview_height, raw)
        elif isinstance(event, LogLine) and event.job is not None and event.level != "DEBUG":
            line = f"{event.level} {event.text[:300]}"
            with self._lock:
                self._logs[event.job] = (*self._logs.get(event.job, ()), line)[-_LOG_LINES:]
        elif isinstance(event, EngineStopped):
            with self._lock:
                self._client = None  # the next submission starts another
                self._rows = {n: r for n, r in self._rows.items() if r.state in END_STATES}

    def _stored(self, job: int) -> JobRow:
        """A row of an engine that has ended, from the store."""
        try:
            row = stored_row(self._places.database, job)
        except StoreError as error:
            raise DoorError(str(error)) from error
        with self._lock:
            self._rows.setdefault(job, row)
        return row


def told(view: View) -> dict[str, Any]:
    """A view as JSON: what the HTTP interface answers."""
    row = dataclasses.asdict(view.row)
    keep = ("state", "mode", "size", "clip", "clips", "fps", "eta_seconds", "peak_bytes", "error")
    report = view.report or {}
    return {
        "ticket": view.ticket,
        "job": view.row.id,
        **{name: row[name] for name in keep},
        "position": view.position,
        "video": f"/api/jobs/{view.ticket}/video" if view.video is not None else None,
        "report": {
            name: report.get(name)
            for name in (
                *("frames", "fps_video", "seconds", "video_seconds", "av_offset_seconds"),
                *("clips", "findings"),
            )
        }
        if view.ended
        else None,
    }

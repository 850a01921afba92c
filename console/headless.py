"""One job from submit to end without a screen: progress, signals, the summary, the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import queue
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from console import exits
from console import format as fmt
from console.commands.say import print_json, tell
from console.i18n import n, t
from console.progress import ProgressView, memory
from console.signals import heard
from console.spoken import spoken
from console.stored import stored_row
from console.version import version
from engine.batch.post import PLACEHOLDERS, PostError, run_post
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.jobs.store import StoreError
from engine.messages import (
    END_STATES,
    Cancel,
    EngineStopped,
    Event,
    JobChanged,
    JobRow,
    Reply,
    Submit,
)
from engine.outcome import read_result
from engine.params import Request
from engine.remote.client import SocketClient
from engine.remote.host import Hosting
from engine.remote.spawn import EngineNotStarted, attach_or_host

_EXIT: Final = {
    "done": exits.DONE,
    "cancelled": exits.INTERRUPTED,
    "interrupted": exits.FAILED,
    "failed": exits.FAILED,
}
#: Seconds the engine takes at most to be idle after the last job has ended.
IDLE_SECONDS: Final = 1.0


def run_headless(
    request: Request, as_json: bool, post: Sequence[str] = (), post_seconds: float = 600.0
) -> int:
    """Run one job and return the exit code: in the engine that runs already, or in one of this
    process, to which consoles can attach meanwhile.

    Args:
        post: an argument list for the verified output (B7), and the seconds that it may take.

    Raises:
        BadInput, Refused: the engine would not take the job; nothing is left behind.
        Failed: no engine can be reached.
    """
    places = Places.of()
    engine = engine_here(places)
    if isinstance(engine, SocketClient):
        tell(f"avatop: submitting to the running engine, process {engine.engine_pid}")
        with contextlib.closing(engine):
            row, code = _Headless(engine, places, request).run()
            return _report(places, row, code, as_json, post, post_seconds)
    try:
        row, code = _Headless(engine.client, places, request).run()
        code = _report(places, row, code, as_json, post, post_seconds)
        let_others_finish(engine)
        return code
    finally:
        engine.close()


def engine_here(places: Places) -> SocketClient | Hosting:
    """The engine that runs already, or one in this process.

    Raises:
        Failed: neither can be had.
    """
    try:
        return attach_or_host(places, version(), kind="run")
    except (EngineNotStarted, OSError) as error:
        raise exits.Failed(str(error)) from error


def let_others_finish(hosting: Hosting) -> None:
    """Jobs that others gave to this command's engine are not ended with the command."""
    idle = hosting.client.when_idle()
    try:
        idle.result(IDLE_SECONDS)
    except TimeoutError:
        tell("avatop: others have work in this command's engine; it ends when that is done")
        idle.result()


class _Headless:
    def __init__(self, client: EngineClient, places: Places, request: Request) -> None:
        self._client = client
        self._places = places
        self._request = request
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._job: int | None = None
        self._signals = 0
        self._view = ProgressView(sys.stderr, rewrite=sys.stderr.isatty())

    def run(self) -> tuple[JobRow | None, int]:
        """The job's last row and the exit code; no row where a signal came before the job."""
        end = self._client.subscribe(self._events.put)
        try:
            with heard(self._on_signal):
                reply = self._submit()
                if reply is None:
                    return None, exits.INTERRUPTED
                row = self._follow(reply.job)
        finally:
            end()
            self._view.finish()
        return row, exits.INTERRUPTED if self._signals and row.state != "done" else _EXIT[row.state]

    def _submit(self) -> Reply | None:
        """The engine's answer; None when a signal came before there was a job."""
        future = self._client.send(Submit(request=self._request.to_dict()))
        reply = future.result()
        if not reply.ok:
            errors = {"refused": exits.Refused, "bad_input": exits.BadInput}
            raise errors.get(reply.state or "", exits.Failed)(reply.message)
        self._job = reply.job
        if self._signals:  # it came while the engine was checking the inputs
            self._cancel("interrupted by a signal")
        return reply

    def _follow(self, job: int | None) -> JobRow:
        while True:
            event = self._events.get()
            if isinstance(event, EngineStopped) and job is not None:
                return self._last_row(job, event)
            about = getattr(event, "job", None)
            number = about.id if isinstance(about, JobRow) else about
            if event is None or (number is not None and number != job):
                continue
            self._view.show(event)
            if isinstance(event, JobChanged) and event.job.state in END_STATES:
                return event.job

    def _last_row(self, job: int, event: EngineStopped) -> JobRow:
        """The row of a job whose engine has ended under it, as the store has it."""
        try:
            row = stored_row(self._places.database, job)
        except StoreError as error:
            raise exits.Failed(f"{event.reason}, and the jobs cannot be read: {error}") from error
        if row.state in END_STATES:
            return row
        return dataclasses.replace(row, state="interrupted", error=event.reason)

    # -- signals -------------------------------------------------------------------------------

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """INT and TERM cancel the job, the second time at once."""
        self._signals += 1
        name = signal.Signals(number).name
        if self._signals > 1:
            raise KeyboardInterrupt
        self._cancel(f"interrupted by {name}")

    def _cancel(self, reason: str) -> None:
        if self._job is not None:
            self._client.send(Cancel(job=self._job, reason=reason))


def _report(
    places: Places, row: JobRow | None, code: int, as_json: bool, post: Sequence[str], limit: float
) -> int:
    """Tell how a job ended, after its post-command; the exit code."""
    if row is None:
        return code
    result = read_result(places.job(row.id), row)
    done = row.state == "done"
    if done and post:
        result["post_error"] = problem = _post(post, limit, row, result["frames"])
        code = exits.DONE if problem is None else exits.FAILED
    if as_json:
        print_json(result)
    elif done:
        print(row.output)
    if done:
        tell(_summary(result))
        if code:
            tell(f"avatop: the post-command failed, the video is kept: {result['post_error']}")
        return code
    why = spoken(row.error or "") or t("no reason given")
    tell(t("avatop: job {id} {state}: {why}", id=row.id, state=fmt.word(row.state), why=why))
    if row.clip:
        kept = n("{count} committed clip kept", "{count} committed clips kept", row.clip)
        tell(t("{kept}; manifest: {manifest}", kept=kept, manifest=row.manifest))
    return code


def _post(command: Sequence[str], limit: float, row: JobRow, frames: int) -> str | None:
    """Run a command on a job's verified output; what went wrong with it."""
    output = Path(str(row.output))
    with output.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    values = dict.fromkeys(PLACEHOLDERS, "") | {
        "output": str(output),
        "name": output.stem,
        "audio": str(row.request.get("audio") or ""),
        "image": str(row.request.get("image") or ""),
        "sha256": sha256,
        "job": str(row.id),
        "frames": str(frames),
    }
    try:
        asyncio.run(run_post(command, values, limit, str(output.parent)))
    except PostError as error:
        return str(error)
    return None


def _summary(result: dict[str, Any]) -> str:
    """One line: what was made, how fast, and what it took."""
    clips = result["clips"]
    work = sum(clip["seconds"] for clip in clips)
    made = sum(clip["frames"] for clip in clips)
    unshard = result["unshard"]
    peak = max((rank["peak_bytes"] for rank in result["ranks"]), default=None)
    parts = [
        t(
            "{frames} frames, {time} of video",
            frames=result["frames"], time=fmt.duration(result["video_seconds"]),
        ),
        t("{fps} fps while generating", fps=fmt.significant(made / work)) if work else "",
        t("{time} in all", time=fmt.duration(result["seconds"])),
        t("peak {memory} per rank", memory=memory(peak)) if peak else "",
        t(
            "{count} unshards, largest {memory}",
            count=f"{unshard['events']:,}", memory=memory(unshard["max_bytes"]),
        )
        if unshard["events"]
        else "",
        n("{count} spike", "{count} spikes", result["spikes"]) if result["spikes"] else "",
    ]  # fmt: skip
    return t("; ").join(part for part in parts if part)

"""A batch from its command to its end without a screen: progress, signals, report, exit code."""

from __future__ import annotations

import contextlib
import queue
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from console import exits
from console import format as fmt
from console.commands.batch_page import page
from console.commands.say import print_json, tell, tell_remark
from console.headless import engine_here, let_others_finish
from console.i18n import n, t
from console.signals import heard
from console.spoken import spoken
from console.stored import stored_jobs
from console.version import version
from engine.batch import report as reports
from engine.batch.rows import BATCH_ENDS
from engine.batch.spec import BatchSpec
from engine.batch.store import BatchStore
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.messages import BatchChanged, BatchCommand, EngineStopped, Event, LogLine, Reply
from engine.remote.client import SocketClient
from engine.remote.spawn import EngineNotStarted, attach_or_spawn

#: Seconds until an engine has read, hashed and planned what a batch is made of.
CHECK_SECONDS: Final = 3600.0
_SHOWN: Final = frozenset({"done", "failed", "quarantined", "running", "alias"})
_ERRORS: Final = {"refused": exits.Refused, "bad_input": exits.BadInput}


@contextlib.contextmanager
def stored() -> Iterator[BatchStore | None]:
    """Batches as the store has them, without an engine; None where there never was a job.

    Raises:
        Failed: the store cannot be read.
    """
    with stored_jobs() as jobs:
        yield None if jobs is None else BatchStore(jobs)


def hand_over(spec: BatchSpec) -> dict[str, Any]:
    """Give a batch to the running engine, or to one that is started for it; what it answered.

    Raises:
        BadInput, Refused, Failed: it is not taken.
    """
    try:
        client = attach_or_spawn(version=version(), kind="verb")
    except (EngineNotStarted, OSError) as error:
        raise exits.Failed(str(error)) from error
    with contextlib.closing(client):
        command = BatchCommand(do="start", spec=spec.to_dict())
        reply = client.send(command).result(CHECK_SECONDS)
    _told(reply)
    return dict(reply.data)


def follow(command: BatchCommand, as_json: bool) -> int:
    """Run a batch to its end and return the exit code: in the engine that runs already, or in one
    of this process, to which consoles can attach meanwhile.

    Raises:
        BadInput, Refused, Failed: it is not taken, or no engine can be reached.
    """
    engine = engine_here(Places.of())
    if isinstance(engine, SocketClient):
        tell(f"avatop: the running engine, process {engine.engine_pid}, takes the batch")
        with contextlib.closing(engine):
            return _Follower(engine, as_json).run(command)
    try:
        code = _Follower(engine.client, as_json).run(command)
        let_others_finish(engine)
        return code
    finally:
        engine.close()


class _Follower:
    def __init__(self, client: EngineClient, as_json: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._signals = 0
        self._batch = ""
        self._states: dict[str, str] = {}

    def run(self, command: BatchCommand) -> int:
        end = self._client.subscribe(self._events.put)
        try:
            with heard(self._on_signal):
                reply = self._client.send(command).result(CHECK_SECONDS)
                _told(reply)
                self._batch = str(reply.data["batch"])
                if self._signals:  # it came while the engine was reading the folders
                    self._stop()
                self._follow()
        finally:
            end()
        return self._report()

    def _follow(self) -> None:
        """Until the batch has begun and ended: what is told of it from before is no end."""
        begun = False
        while True:
            event = self._events.get()
            match event:
                case BatchChanged() if event.batch == self._batch:
                    if event.state in BATCH_ENDS and begun:
                        return
                    begun = begun or event.state not in BATCH_ENDS
                    if begun:
                        self._show(event)
                    else:  # what was before is no news
                        self._states |= {item.key: item.state for item in event.items}
                case LogLine() if event.level in ("WARNING", "ERROR", "CRITICAL"):
                    about = "" if event.job is None else f"job {event.job}: "
                    tell(fmt.inert(f"avatop: {about}{event.text}"))
                case EngineStopped():
                    return
                case _:
                    pass

    def _show(self, event: BatchChanged) -> None:
        """A line for each item that went on."""
        for item in event.items:
            if item.state not in _SHOWN or self._states.get(item.key) == item.state:
                continue
            if item.state == "alias" and item.output is None:
                continue
            self._states[item.key] = item.state
            ended = sum(event.counts.get(state, 0) for state in ("done", "failed", "quarantined"))
            ended += sum(state == "alias" for state in self._states.values())
            left = "" if event.eta_seconds is None else f", {fmt.duration(event.eta_seconds)} left"
            took = "" if item.seconds is None else f" in {fmt.duration(item.seconds)}"
            why = f": {spoken(item.error)}" if item.error and item.state != "running" else ""
            text = f"[{ended}/{event.total}{left}] {item.name} {item.state}{took}{why}"
            tell(fmt.inert(text))

    # -- signals -------------------------------------------------------------------------------

    def _on_signal(self, _number: int, _: FrameType | None) -> None:
        """INT and TERM stop the batch, the second time at once."""
        self._signals += 1
        if self._signals > 1:
            raise KeyboardInterrupt
        if self._batch:
            self._stop()

    def _stop(self) -> None:
        self._client.send(BatchCommand(do="stop", batch=self._batch))

    # -- the end -------------------------------------------------------------------------------

    def _report(self) -> int:
        with stored() as found:
            row = found.batch(self._batch) if found else None
            body = reports.build(found, row) if found and row else None
        if body is None or row is None:
            raise exits.Failed(f"the store knows no batch {self._batch}")
        if self._as_json:
            print_json(body)
        else:
            print(page(body, None, sys.stdout.isatty()))
        if row.report:
            tell(f"report: {row.report} (and .csv, .md)")
        if row.state not in ("done", "failed"):
            tell(f"go on with: avatop batch resume {row.id}")
        if self._signals:
            return exits.INTERRUPTED
        return exits.DONE if row.state == "done" else exits.FAILED


def _told(reply: Reply) -> None:
    """What the engine answered, for a person; an error where it does not take the batch."""
    if not reply.ok:
        raise _ERRORS.get(reply.state or "", exits.Failed)(reply.message)
    tell(f"avatop: {reply.message}")
    for remark in reply.data.get("remarks", ()):
        tell_remark(fmt.inert(spoken(str(remark["text"]))))
    lines = reply.data.get("lines")
    if lines:
        count = len(lines["lines"])
        pipeline = lines["kind"] == "pipeline"
        how = t("one pipeline") if pipeline else n("{count} line", "{count} lines", count)
        why = spoken(str(lines["why"]))
        tell_remark(fmt.inert(t("{lines}: {why}.", lines=how, why=why)))

"""A rank's life after the fork: read the specification, run the job, report how it ended."""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Final

from engine.guard.identity import identify
from engine.ranks.onrank import native
from engine.ranks.onrank.report import Control, Lines, Reporter, start_reader
from engine.ranks.protocol import RankSpec, capped, decode

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_NO_SPEC: Final = 4

Job = Callable[[RankSpec, Reporter, Control], None]


class ReportHandler(logging.Handler):
    """Log records of libraries become ``log`` reports."""

    def __init__(self, report: Reporter) -> None:
        super().__init__(logging.INFO)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except (TypeError, ValueError):  # arguments that do not fit the format
            text = str(record.msg)
        level = record.levelname if record.levelname in logging.getLevelNamesMapping() else "INFO"
        for line in text.splitlines() or [""]:
            self._report.log(level, line, f"{record.filename}:{record.lineno}")


def rank_main(channel: socket.socket, entry: str) -> int:
    """Run one rank to its end; returns the exit code.

    Args:
        channel: stream socket to the engine.
        entry: ``module:function`` with the signature of ``engine.ranks.onrank.job.run``.
    """
    lines = Lines(channel)
    first = lines.read()
    if first is None:
        return EXIT_NO_SPEC  # the engine changed its mind
    try:
        spec = decode(first)
    except (ValueError, TypeError) as error:
        print(f"no rank specification: {error}", file=sys.stderr)
        return EXIT_NO_SPEC
    if not isinstance(spec, RankSpec):
        print(f"a {type(spec).__name__} is no rank specification", file=sys.stderr)
        return EXIT_NO_SPEC
    report = Reporter(channel, spec.rank)
    control = Control()
    start_reader(lines, control, report)
    _watch_faults()
    logging.basicConfig(handlers=[ReportHandler(report)], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    code = _work(capped(spec, os.environ), entry, report, control)
    report.close()
    return code


def _work(spec: RankSpec, entry: str, report: Reporter, control: Control) -> int:
    """One job, and those that follow it on the same weights."""
    while True:
        _title(spec, f"--job {spec.job}")
        try:
            kept = _run(spec, entry, report, control)
        except BaseException as error:  # noqa: BLE001 - the last line of a process: told, then ended
            _tell_failure(report, spec, error)
            return EXIT_FAILED
        if kept is None:
            return EXIT_DONE
        _title(spec, f"--warm --after {spec.job}")
        report.send("kept", bytes=kept)
        spec = capped(control.next_job(), os.environ)


def _title(spec: RankSpec, doing: str) -> None:
    words = f"avatop-rank {doing} --rank {spec.rank} --world {spec.world_size}"
    native.set_title(f"avatop-rank{spec.rank}", words)


def _run(spec: RankSpec, entry: str, report: Reporter, control: Control) -> int | None:
    """One job. Bytes that are kept for the next one; None where this process ends with it."""
    import torch  # late: whatever fails in here is reported, not lost

    from engine.ranks.onrank.setup import describe_device, prepare, prepare_again

    spec = prepare(spec) if control.held is None else prepare_again(spec)
    me = identify(os.getpid())
    report.send(
        "hello",
        pid=os.getpid(),
        started=None if me is None else me.started,
        torch=str(torch.__version__),
        **describe_device(spec),
    )
    job = load_entry(entry)
    job(spec, report, control)
    # An exit code of 0 alone could also come from a library that called exit(): this says that
    # the job itself returned.
    report.phase("ended")
    control.hold_mirror = None  # it refers to the job's rings
    return None if control.held is None else control.held.rest()


def load_entry(entry: str) -> Job:
    """Import ``module:function``.

    Raises:
        ImportError, AttributeError: there is no such thing.
    """
    module, _, name = entry.partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    return job


def _watch_faults() -> None:
    """Tracebacks of all threads to stderr: on a fatal signal, and on SIGUSR1 for a stuck rank."""
    faulthandler.enable(file=sys.stderr)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)


def _tell_failure(report: Reporter, spec: RankSpec, error: BaseException) -> None:
    from engine.ranks.onrank.failure import kind_of
    from engine.ranks.onrank.oom import figures, told

    # Our own errors (they carry ``kind``) are written for the operator; others need their class.
    text, name = str(error), type(error).__name__
    message = text if text and hasattr(error, "kind") else f"{name}: {text}" if text else name
    kind, memory = kind_of(error), {}
    if kind == "oom":
        memory = figures(spec, error)
        report.log("ERROR", told(memory), "oom.py")
    report.send(
        "failed",
        kind=kind,
        message=message,
        traceback="".join(traceback.format_exception(error)),
        **memory,
    )

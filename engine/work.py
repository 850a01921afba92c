"""Who does a job's work: our own ranks, or another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.external.prepare import PreparedCommand, prepare_command
from engine.external.run import CommandRun
from engine.guard.lease import LeaseHeld
from engine.host import Host
from engine.messages import JobRow
from engine.parameters.request import Request
from engine.preflight import Machine, Prepared, Work, prepare
from engine.retry.desk import Again
from engine.runner import JobRun


class Run(Protocol):
    """A job under way, as the queue sees it."""

    again: Again | None
    began: float  # Unix seconds

    @property
    def row(self) -> JobRow: ...
    @property
    def told_to_end(self) -> tuple[str, str] | None: ...  # state and reason, by ``cancel``
    def cancel(self, reason: str, state: str = "cancelled") -> bool: ...
    def stop_after_clip(self, reason: str) -> None: ...
    def set_spike_threshold(self, count: int | None, /) -> None: ...
    async def drive(self) -> LeaseHeld | None: ...


def prepare_work(request: Request, machine: Machine, folders: Sequence[Path] = ()) -> Work:
    """Check a request against its files and this host.

    Raises:
        PreflightError: it must not start; says everything there is to know.
    """
    if request.external:
        return prepare_command(request, machine)
    return prepare(request, machine, folders)


def run_of(host: Host, row: JobRow, work: Work) -> Run:
    """The run of a checked job."""
    if isinstance(work, PreparedCommand):
        return CommandRun(host, row, work)
    assert isinstance(work, Prepared)
    return JobRun(host, row, work)

"""``avatop submit`` and ``cancel``: give the running engine a job, or take one back."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import click

from console import exits
from console.commands.attach import ANSWER_SECONDS, running_engine
from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.say import json_option, tell_remark, tell_reply
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import Cancel, JobRow, Submit

#: Seconds a request's check may take: a big checkpoint on a slow disk.
CHECK_SECONDS: Final = 600.0
#: Jobs that a new engine could do nothing for, and those that it would begin at once.
_NOTHING_TO_DO: Final = frozenset({"done", "failed", "cancelled", "queued"})


@click.command(short_help="Queue a job and return; the engine works on it.")
@source_options
@click.option(
    "--release",
    "release",
    metavar="VERSION",
    help="Run by this release; none: by no release (default: as the rollout assigns).",
)
@json_option
@parameter_options
def submit(
    preset: str | None, file: Path | None, release: str | None, as_json: bool, **flags: Any
) -> None:
    """Check one request, queue it and return at once. Takes the flags of "run".

    The running engine gets it; where none runs, one is started that ends with its last job.
    """
    resolved = resolve_flags(flags, file, preset)
    for remark in resolved.remarks:
        tell_remark(remark)
    with contextlib.closing(started_engine()) as client:
        command = Submit(request=resolved.request.to_dict(), version=release)
        reply = client.send(command).result(CHECK_SECONDS)
    if not reply.ok:
        errors = {"refused": exits.Refused, "bad_input": exits.BadInput}
        raise errors.get(reply.state or "", exits.Failed)(reply.message)
    tell_reply(reply, as_json)


@click.command(short_help="Cancel a queued or running job.")
@click.argument("job", type=click.IntRange(min=1))
@json_option
def cancel(job: int, as_json: bool) -> None:
    """Cancel a job. Its committed clips are kept, the clip in progress is lost."""
    with contextlib.closing(engine_of(job)) as client:
        reply = client.send(Cancel(job=job)).result(ANSWER_SECONDS)
    if not reply.ok:
        # A job that nobody knows is a wrong number; one that has ended cannot be cancelled.
        raise (exits.BadInput if reply.state is None else exits.Failed)(reply.message)
    tell_reply(reply, as_json)


def engine_of(job: int) -> EngineClient:
    """The engine to ask about a job: the running one, or a new one where the job rests, also
    because its engine was killed.

    Raises:
        ClickException: none runs and there is nothing that one could do for the job.
    """
    client = running_engine()
    if client is not None:
        return client
    row = _kept(job)
    if row.state in _NOTHING_TO_DO:
        raise exits.Failed(f"no engine is running; job {job} is {row.state}")
    return started_engine()


def started_engine() -> EngineClient:
    """The running engine, or a new one that ends with its last job.

    Raises:
        Failed: there is none to be had.
    """
    from console.version import version
    from engine.remote.spawn import EngineNotStarted, attach_or_spawn

    try:
        return attach_or_spawn(version=version(), kind="verb")
    except (EngineNotStarted, OSError) as error:
        raise exits.Failed(str(error)) from error


def _kept(job: int) -> JobRow:
    path = Places.of().database
    if not path.exists():
        raise exits.BadInput(f"there is no job {job}")
    try:
        with contextlib.closing(JobStore(path)) as store:
            return store.get(job)
    except StoreError as error:
        raise exits.BadInput(str(error)) from error

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
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import Cancel, Submit

#: Seconds a request's check may take: a big checkpoint on a slow disk.
CHECK_SECONDS: Final = 600.0


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
    from console.version import version
    from engine.remote.spawn import EngineNotStarted, attach_or_spawn

    try:
        client = attach_or_spawn(version=version(), kind="verb")
    except (EngineNotStarted, OSError) as error:
        raise exits.Failed(str(error)) from error
    with contextlib.closing(client):
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
    client = running_engine()
    if client is None:
        raise no_engine(job)
    with contextlib.closing(client):
        reply = client.send(Cancel(job=job)).result(ANSWER_SECONDS)
    if not reply.ok:
        # A job that nobody knows is a wrong number; one that has ended cannot be cancelled.
        raise (exits.BadInput if reply.state is None else exits.Failed)(reply.message)
    tell_reply(reply, as_json)


def no_engine(job: int) -> click.ClickException:
    """What is known of a job while no engine runs, as an error to raise."""
    path = Places.of().database
    if not path.exists():
        return exits.BadInput(f"there is no job {job}")
    try:
        store = JobStore(path)
        try:
            row = store.get(job)
        finally:
            store.close()
    except StoreError as error:
        return exits.BadInput(str(error))
    return exits.Failed(f"no engine is running; job {job} is {row.state}")

"""``avatop pause``, ``resume``, ``switch``, ``finish``, ``mirror``: steer a job under way."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import click

from console import exits
from console.commands.attach import ANSWER_SECONDS
from console.commands.common import option_of
from console.commands.say import json_option, tell_reply
from console.commands.submit import CHECK_SECONDS, engine_of, started_engine
from engine.client import EngineClient
from engine.jobs.kept import essence
from engine.messages import Command, Finish, Mirror, Pause, Resume, Switch
from engine.parameters.request import DEFAULTS
from engine.params import PARAMETERS, BadValueError, parse

_TYPES: Final = ("dtype", "fp8", "kv_dtype")
#: Parameters that a switch may change: where a video is made, not what it is.
SWITCHABLE: Final = tuple(
    p for p in PARAMETERS if p.group == "placement" and p.name not in _TYPES and not p.no_effect
)
#: Parameters that say what a video is: known, and refused with the reason.
ALTERING: Final = tuple(
    p
    for p in PARAMETERS
    if (p.name in _TYPES or p.group in ("inputs", "generation", "model files"))
    and p.name in essence(DEFAULTS)
    and not p.no_effect
)

_JOB = click.argument("job", type=click.IntRange(min=1))


@click.command(short_help="Stop a job at its next clip boundary, its state on disk.")
@_JOB
@json_option
def pause(job: int, as_json: bool) -> None:
    """Stop a job at its next clip boundary and keep its state on disk.

    Its devices and its host memory are free then; "resume" goes on bit by bit.
    """
    _ask(Pause(job=job), job, as_json)


@click.command(short_help="Let a paused or interrupted job go on.")
@_JOB
@click.option(
    "--how",
    type=click.Choice(("auto", "mirror", "replay", "seam")),
    default="auto",
    show_default=True,
    help="mirror: from kept state, bit by bit. replay: computed again from the start, bit by bit, "
    "committed clips are not encoded again. seam: begun anew behind the committed clips; the "
    "seam will show. auto: mirror where there is state, else replay.",
)
@json_option
def resume(job: int, how: str, as_json: bool) -> None:
    """Let a paused or interrupted job go on, under its own number.

    Where no engine runs, one is started that ends with its last job.
    """
    _send(started_engine(), Resume(job=job, how=how), as_json)


def _switchable(function: Any) -> Any:
    for parameter in reversed(SWITCHABLE):
        function = option_of(parameter)(function)
    for parameter in ALTERING:
        function = option_of(parameter, hidden=True)(function)
    return function


@click.command(short_help="Go on under another plan from the next clip boundary.")
@_JOB
@json_option
@_switchable
def switch(job: int, as_json: bool, **flags: str | None) -> None:
    """Let a job go on in another mode from its next clip boundary, its output the same.

    A paused or interrupted job does so when it is resumed. What does not fit, or would alter the
    output, is refused with the reason. With --mode, the other placement flags begin from their
    defaults.
    """
    altering = [p.flag for p in ALTERING if flags.get(p.name) is not None]
    if altering:
        raise exits.Refused(
            f"{', '.join(altering)} would alter the output: that is never done within a video. "
            f"Submit another job with it (avatop submit)."
        )
    changes: dict[str, Any] = {}
    for parameter in SWITCHABLE:
        text = flags.get(parameter.name)
        if text is None:
            continue
        try:
            changes[parameter.name] = parse(parameter, text)
        except BadValueError as error:
            raise exits.BadInput(f"{parameter.flag} {text}: {error}") from error
    if not changes:
        raise exits.BadInput("say what to change, e.g. --mode tpp --num_gpus_dit 2")
    _ask(Switch(job=job, changes=changes), job, as_json, CHECK_SECONDS)


@click.command(short_help="End a job now and join what is committed.")
@_JOB
@json_option
def finish(job: int, as_json: bool) -> None:
    """End a job now and join its committed clips into a playable video.

    The clip in progress is lost. A paused or interrupted job can be finished too.
    """
    _ask(Finish(job=job), job, as_json, CHECK_SECONDS)


@click.command(short_help="Write a running job's state to disk now.")
@_JOB
@json_option
def mirror(job: int, as_json: bool) -> None:
    """Write a running job's mirrored state to disk now, without stopping it."""
    _ask(Mirror(job=job), job, as_json, CHECK_SECONDS)


def _ask(command: Command, job: int, as_json: bool, seconds: float = ANSWER_SECONDS) -> None:
    _send(engine_of(job), command, as_json, seconds)


def _send(
    client: EngineClient, command: Command, as_json: bool, seconds: float = CHECK_SECONDS
) -> None:
    with contextlib.closing(client):
        reply = client.send(command).result(seconds)
    if not reply.ok:
        errors = {"refused": exits.Refused, "bad_input": exits.BadInput, None: exits.BadInput}
        raise errors.get(reply.state, exits.Failed)(reply.message)
    tell_reply(reply, as_json)

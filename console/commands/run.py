"""``avatop run``: one job without a screen."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.say import json_option, tell_remark
from console.exits import BadInput


@click.command(short_help="Make one video without a screen.")
@source_options
@click.option(
    "--post-command",
    metavar="'PROGRAM ARG …'",
    help="Run on the verified output; {output}, {name}, {audio}, {image}, {sha256}, {job} and "
    "{frames} are filled in. Split into arguments once, never given to a shell.",
)
@click.option(
    "--post-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Seconds that the post-command may take.",
)
@json_option
@parameter_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    preset: str | None,
    file: Path | None,
    post_command: str | None,
    post_timeout: float,
    as_json: bool,
    **flags: Any,
) -> None:
    """Make one video from a portrait and a voice, without a screen.

    Progress goes to stderr. A flag wins over the environment, that over the TOML file, that over
    the preset. Exit codes: 0 done, 1 the work or the post-command failed, 2 bad input, 3 refused
    by a plan or a guard, 130 interrupted.
    """
    from engine.batch.post import check

    try:
        post = tuple(shlex.split(post_command or ""))
        check(post)
    except ValueError as error:
        raise BadInput(str(error)) from error
    resolved = resolve_flags(flags, file, preset)
    for remark in resolved.remarks:
        tell_remark(remark)
    from console.headless import run_headless

    ctx.exit(run_headless(resolved.request, as_json, post, post_timeout))

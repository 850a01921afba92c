"""``avatop run``: one job without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.say import json_option, tell


@click.command(short_help="Make one video without a screen.")
@source_options
@json_option
@parameter_options
@click.pass_context
def run(
    ctx: click.Context, /, preset: str | None, file: Path | None, as_json: bool, **flags: Any
) -> None:
    """Make one video from a portrait and a voice, without a screen.

    Progress goes to stderr. A flag wins over the environment, that over the TOML file, that over
    the preset. Exit codes: 0 done, 1 the work failed, 2 bad input, 3 refused by a plan or a guard,
    130 interrupted.
    """
    resolved = resolve_flags(flags, file, preset)
    for remark in resolved.remarks:
        tell(f"note: {remark}")
    from console.headless import run_headless

    ctx.exit(run_headless(resolved.request, as_json))

"""``avatop replay``: the console's screens over a recording."""

from __future__ import annotations

from pathlib import Path

import click

from console import exits
from console.commands.console import has_terminal, own_config
from console.commands.export import moment_option
from console.commands.recordings import lines, load, summary
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput


@click.command(short_help="Open the screens over a recording.")
@click.argument("path", type=click.Path(path_type=Path), required=False, metavar="[FILE|DIR]")
@click.option("--at", metavar="TIME", help="Where to begin: 10:30, 2025-12-25 10:30:22, -10m.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="1 to 60.")
@json_option
@click.pass_context
def replay(
    ctx: click.Context, path: Path | None, at: str | None, speed: float, as_json: bool
) -> None:
    """Show a recording (a folder, an exported bundle, one segment; default: this host's own).

    One time cursor moves plots, jobs and log. Without a terminal, or with --json: its summary.
    """
    if not 1 <= speed <= 60:
        raise BadInput("--speed: from 1 to 60")
    recording = load(path)
    begin = recording.start if at is None else moment_option("--at", at, recording.end)
    if as_json:
        print_json(summary(recording))
        return
    if not has_terminal():
        for line in lines(summary(recording)):
            click.echo(line)
        tell("avatop: the screens need a terminal; this was the summary.")
        return
    from console.i18n import LanguageError
    from console.screens.replay import ReplayApp
    from console.theme import ThemeError
    from engine.nightwatch.derived import derived
    from engine.telemetry.replay import ReplayClient

    client = ReplayClient(recording, derived)
    client.speed = speed
    client.seek(begin)
    client.playing = at is None  # from its start, where there is little to be seen yet
    asked = ctx.obj or {}
    try:
        leave = ReplayApp(
            client, theme=asked.get("theme"), lang=asked.get("lang"), config=own_config()
        ).run()
    except (ThemeError, LanguageError) as error:
        raise BadInput(str(error)) from error
    ctx.exit(exits.DONE if leave.reason == "quit" else exits.INTERRUPTED)

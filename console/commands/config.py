"""``avatop config``: where the console's configuration lies, what it says, whether it is right."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from console import actions, config
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput


@click.group("config", short_help="Theme, language, keys and thresholds of one's own.")
def config_command() -> None:
    """One TOML file for the console: theme, language, keys, thresholds. All of it is optional."""


@config_command.command("path")
def path() -> None:
    """Print where the file lies, or would lie."""
    click.echo(config.place(os.environ))


@config_command.command("validate")
@click.argument("file", type=click.Path(path_type=Path), required=False)
def validate(file: Path | None) -> None:
    """Check the file (default: one's own). Exit 2 with a sentence for each thing that is wrong."""
    where = file or config.place(os.environ)
    if not where.exists():
        if file is not None:
            raise BadInput(f"there is no file {file}")
        tell(f"There is no {where}; the defaults hold.")
        return
    problems = config.load(where).problems
    if problems:
        raise BadInput("\n".join([f"{where}:", *(f"  {problem}" for problem in problems)]))
    tell(f"{where} is right.")


@config_command.command("show")
@click.option("--all-keys", is_flag=True, help="Every key, not only those changed.")
@json_option
def show(all_keys: bool, as_json: bool) -> None:
    """Print what holds now, as a file that could be one's own."""
    where = config.place(os.environ)
    mine = config.load(where)
    if as_json:
        print_json(_data(where, mine))
        return
    lines = [f"# {where}" + ("" if where.exists() else " (does not exist; the defaults)")]
    lines += [f"# left out: {problem}" for problem in mine.problems]
    lines.append(f'theme = "{mine.theme}"' if mine.theme else '# theme = "signature"')
    lines.append(f'lang = "{mine.lang}"' if mine.lang else '# lang = "en"')
    lines.append("mouse = true" if mine.mouse else "mouse = false")
    lines += ["", "[thresholds]"]
    for entry in fields(config.Thresholds):
        lines.append(f"{entry.name} = {getattr(mine.thresholds, entry.name):g}")
    lines += _key_lines(mine, all_keys)
    click.echo("\n".join(lines))


def _key_lines(mine: config.Config, all_keys: bool) -> list[str]:
    keymap = actions.Keymap(mine.keys)
    lines: list[str] = []
    for scope in actions.SCOPES:
        entries = []
        for action in actions.in_scope(scope):
            if all_keys or action.id in mine.keys:
                keys = [key for key in keymap.keys(action) if key not in actions.FIXED]
                quoted = ", ".join(f'"{key}"' for key in keys)
                entries.append(f"{action.id.partition('.')[2]} = [{quoted}]")
        if entries:
            lines += ["", f"[keys.{scope}]", *entries]
    return lines


def _data(where: Path, mine: config.Config) -> dict[str, Any]:
    thresholds = {e.name: getattr(mine.thresholds, e.name) for e in fields(config.Thresholds)}
    return {
        "path": str(where), "exists": where.exists(), "theme": mine.theme, "lang": mine.lang,
        "mouse": mine.mouse,
        "thresholds": thresholds, "keys": {k: list(v) for k, v in mine.keys.items()},
        "problems": list(mine.problems),
    }  # fmt: skip

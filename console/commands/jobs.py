"""``avatop jobs``: what was asked for, what became of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from console import format as fmt
from console.commands.say import json_option, print_json, tell
from console.progress import memory
from console.spoken import spoken
from console.stored import stored_jobs
from engine.messages import JobRow


@click.command(short_help="List the jobs of this host.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest N jobs.")
@json_option
def jobs(limit: int | None, as_json: bool) -> None:
    """List jobs, the newest first."""
    rows = _rows(limit)
    if as_json:
        print_json({"jobs": [_object(row) for row in rows]})
    elif not rows:
        tell("No job yet. Try: avatop demo")
    else:
        click.echo(
            f"{'id':>4}  {'state':<13} {'mode':<7} {'size':<9} {'clip':>9} {'fps':>6} "
            f"{'peak':>9}  output"
        )
        for row in rows:
            click.echo(_line(row))


def _rows(limit: int | None) -> tuple[JobRow, ...]:
    with stored_jobs() as store:
        return () if store is None else store.list(limit=limit)


def _object(row: JobRow) -> dict[str, Any]:
    return dataclasses.asdict(row)


def _line(row: JobRow) -> str:
    fps = fmt.NA if row.fps is None else fmt.significant(row.fps)
    end = row.output if row.error is None else spoken(row.error)
    return (
        f"{row.id:>4}  {row.state:<13} {row.mode:<7} {row.size:<9} "
        f"{fmt.fraction(row.clip, row.clips):>9} {fps:>6} {memory(row.peak_bytes):>9}  "
        f"{fmt.inert(end or '')}"
    )

"""``avatop jobs``: what was asked for, what became of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import click

from console import format as fmt
from console.commands.columns import Col, Columns
from console.commands.say import json_option, print_json, tell
from console.i18n import N_, t
from console.progress import memory
from console.spoken import spoken
from console.stored import stored_jobs
from engine.messages import JobRow

_TABLE: Final = Columns(
    Col(N_("id"), 4, right=True), Col(N_("state"), 13, gap=2), Col(N_("mode"), 7),
    Col(N_("size"), 9), Col(N_("clip"), 9, right=True), Col(N_("fps"), 6, right=True),
    Col(N_("peak"), 9, right=True), Col(N_("output"), gap=2),
)  # fmt: skip


@click.command(short_help="List the jobs of this host.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest N jobs.")
@json_option
def jobs(limit: int | None, as_json: bool) -> None:
    """List jobs, the newest first."""
    rows = _rows(limit)
    if as_json:
        print_json({"jobs": [_object(row) for row in rows]})
    elif not rows:
        tell(t("No job yet. Try: {command}", command="avatop demo"))
    else:
        click.echo(_TABLE.head())
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
    clips = fmt.fraction(row.clip, row.clips)
    return _TABLE.row(
        str(row.id), fmt.word(row.state), row.mode, row.size, clips, fps, memory(row.peak_bytes),
        fmt.inert(end or ""),
    )  # fmt: skip

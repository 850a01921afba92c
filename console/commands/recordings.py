"""``avatop recordings``: what the flight recorder has kept on this host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click

from console import format as fmt
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput
from console.i18n import n, t
from console.progress import memory
from console.spoken import spoken
from engine.jobs.paths import Places
from engine.telemetry.recording import Recording, RecordingError, open_recording

_SAID: Final = 240  # cells of a mark's text; all of it is in --json


def default_folder() -> Path:
    """Where this user's engine records."""
    return Places.of().recordings


def load(path: Path | None) -> Recording:
    """A recording, or this host's own.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    place = path or default_folder()
    shown = fmt.inert(str(place))
    if path is None and not place.is_dir():
        raise BadInput(f"nothing has been recorded here yet ({shown} is not there)")
    try:
        recording = open_recording(place)
    except RecordingError as error:
        raise BadInput(fmt.inert(str(error), 600)) from error
    except OSError as error:
        raise BadInput(f"{shown}: {error.strerror or error}") from error
    for problem in recording.problems[:5]:
        tell(f"avatop: {fmt.inert(problem)}")
    return recording


def is_recording(file: Path) -> bool:
    """Whether a file holds a recording, and not somebody's log."""
    try:
        return bool(open_recording(file).segments)
    except (RecordingError, OSError):
        return False


def summary(recording: Recording) -> dict[str, Any]:
    """What a recording holds, without playing it."""
    kinds = [mark.kind for mark in recording.marks]
    return {
        "file": str(recording.path),
        "start": recording.start,
        "end": recording.end,
        "seconds": recording.end - recording.start,
        "events": recording.count,
        "segments": len(recording.segments),
        "jobs": recording.jobs,
        "spikes": kinds.count("spike"),
        "errors": kinds.count("error"),
        "alerts": kinds.count("alert"),
        "problems": recording.problems,
    }


def stamp(t: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t))


def lines(body: dict[str, Any]) -> list[str]:
    """A summary for a person."""
    jobs = ", ".join(str(job) for job in body["jobs"][-20:]) or t("none")
    counts = [
        n("{count} spike", "{count} spikes", body["spikes"]),
        n("{count} error", "{count} errors", body["errors"]),
        n("{count} alert", "{count} alerts", body["alerts"]),
    ]
    span = t("{start} to {end} ({time})", start=stamp(body["start"]), end=stamp(body["end"]),
             time=fmt.duration(body["seconds"]))  # fmt: skip
    held = n("{events} events in {count} segment", "{events} events in {count} segments",
             body["segments"], events=f"{body['events']:,}")  # fmt: skip
    told = t("{counts}; jobs: {ids}", counts=", ".join(counts), ids=jobs)
    return [fmt.inert(body["file"]), *(f"  {line}" for line in (span, held, told))]


@click.command(short_help="List what is recorded.")
@click.argument("path", type=click.Path(path_type=Path), required=False, metavar="[FILE|DIR]")
@json_option
def recordings(path: Path | None, as_json: bool) -> None:
    """Tell what the flight recorder has kept: times, jobs, spikes, errors, size."""
    recording = load(path)
    body = summary(recording)
    place = recording.path
    files = [p for p in place.rglob("*") if p.is_file()] if place.is_dir() else [place]
    body["bytes"] = sum(p.stat().st_size for p in files)
    body["marks"] = [
        {"at": m.at, "kind": m.kind, "text": m.text, "job": m.job} for m in recording.marks
    ]
    if as_json:
        print_json(body)
        return
    for line in lines(body):
        click.echo(line)
    click.echo("  " + t("{size} on disk", size=memory(body["bytes"])))
    for mark in recording.marks[-20:]:
        kind = fmt.fit(t(mark.kind), 6)
        said = fmt.short(fmt.inert(spoken(mark.text)), _SAID)
        click.echo(f"  {stamp(mark.at)}  {kind} {said}")

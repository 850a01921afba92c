"""``avatop export``: an incident bundle out of the recording, redacted; or its memory as CSV."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from console import format as fmt
from console.bundles import make, name
from console.commands.recordings import load, stamp
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput, Failed
from engine.messages import DevicesSampled
from engine.telemetry.csvlog import DEFAULT, CsvLogError, csv_lines
from engine.telemetry.recording import Recording

_AGO: Final = re.compile(r"-(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_HOUR: Final = 3600.0


def moment_option(flag: str, text: str, end: float) -> float:
    """A moment: Unix seconds, a date with time, a time of the recording's last day, or ``-10m``
    before its end.

    Raises:
        BadInput: none of these.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return end - float(ago[1]) * _UNITS[ago[2]]
    with contextlib.suppress(ValueError):
        number = float(text)
        if number > 1e8:
            return number
    with contextlib.suppress(ValueError, OverflowError):
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d(\.\d+)?)?", text):
            day = time.strftime("%Y-%m-%d", time.localtime(end))
            found = datetime.fromisoformat(f"{day} {text.zfill(5)}").timestamp()
            return found if found <= end else found - 86_400.0
        return datetime.fromisoformat(text.replace("/", "-")).timestamp()
    raise BadInput(
        f"{flag} {text!r}: give 10:30, 2025-12-25T10:30:22, Unix seconds, or -10m (before the end)"
    )


@click.command(short_help="Make an incident bundle, or a CSV log.")
@click.option("--from", "start", metavar="TIME", help="First moment [default: an hour before].")
@click.option("--to", "end", metavar="TIME", help="Last moment [default: the recording's end].")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--recording", type=click.Path(path_type=Path), metavar="FILE|DIR",
              help="Another recording than this host's own.")  # fmt: skip
@click.option("--csv", "as_csv", is_flag=True, help="Memory as nvidia-smi writes it, nothing else.")
@click.option("--query", metavar="A,B,…", help="Columns of --csv, by nvidia-smi's names.")
@click.option("--with-prompts", is_flag=True, help="Leave prompts in the bundle.")
@click.option("--with-frames", is_flag=True, help="Leave preview frames in the bundle.")
@json_option
def export(
    start: str | None,
    end: str | None,
    output: Path | None,
    recording: Path | None,
    as_csv: bool,
    query: str | None,
    with_prompts: bool,
    with_frames: bool,
    as_json: bool,
) -> None:
    """Put what happened between two moments into one file that can be handed on.

    Home folders, user names, secrets, prompts and frames are taken out; the manifest inside says
    how many of each. --csv writes the devices' readings alone, to -o or standard output.
    """
    source = load(recording)
    last = source.end if end is None else moment_option("--to", end, source.end)
    first = last - _HOUR if start is None else moment_option("--from", start, source.end)
    if first > last:
        raise BadInput(f"--from ({stamp(first)}) is after --to ({stamp(last)})")
    if first > source.end or last < source.start:
        raise BadInput(
            f"nothing was recorded from {stamp(first)} to {stamp(last)}; the recording has "
            f"{stamp(source.start)} to {stamp(source.end)}"
        )
    first = max(first, source.start)
    if output is not None and output.exists():
        raise BadInput(f"{fmt.inert(str(output))} is there already; choose another -o")
    if as_csv:
        _csv(source, first, last, output, query)
        return
    path = output or Path(name())
    try:
        body = make(source, first, last, path, prompts=with_prompts, frames=with_frames)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise BadInput(f"{fmt.inert(str(path))}: {error.strerror or error}") from error
    except OSError as error:
        raise Failed(f"{fmt.inert(str(path))}: {error.strerror or error}") from error
    if as_json:
        print_json(body)
        return
    click.echo(body["file"])
    counts = ", ".join(f"{n:,} {kind}" for kind, n in body["redacted"].items()) or "nothing"
    tell(f"{stamp(first)} to {stamp(last)}: {body['events']:,} events; redacted: {counts}")


def _csv(
    source: Recording, first: float, last: float, output: Path | None, query: str | None
) -> None:
    columns = [c.strip() for c in query.split(",")] if query else list(DEFAULT)
    samples = (
        (stamped.at, stamped.event.devices)
        for stamped in source.events(first, last)
        if isinstance(stamped.event, DevicesSampled)
    )
    try:
        made = csv_lines(samples, columns)
        head = next(made)
        if output is None:
            sys.stdout.write(head)
            sys.stdout.writelines(made)
            return
        with output.open("x", encoding="utf-8") as stream:
            stream.write(head)
            stream.writelines(made)
    except CsvLogError as error:
        raise BadInput(f"--query: {error}") from error
    except OSError as error:
        raise Failed(f"{fmt.inert(str(output))}: {error.strerror or error}") from error

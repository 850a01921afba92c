"""``avatop logs``: search what was said, by time, level, job, rank, node, version and class."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from console.commands.attach import running_engine
from console.commands.recordings import default_folder, is_recording, load
from console.commands.say import json_option, tell
from console.exits import BadInput, Failed
from console.format import inert
from engine.messages import EngineStopped, Event, LogLine
from engine.triage.logbook import Logbook, classified, of_file
from engine.triage.query import Predicate, QueryError, parse
from engine.triage.reader import LineSplitter, chunks
from engine.triage.records import Record

_LINES: Final = 200


@click.command(short_help="Search what was said: level, job, rank, class, time, text.")
@click.argument("query", nargs=-1, metavar="[CONDITION]...")
@click.option(
    "--from-file",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE|DIR|-",
    help="Another program's log, or a recording. Default: what this host has recorded.",
)
@click.option("-n", "--lines", default=_LINES, show_default=True, type=click.IntRange(0),
              help="The last N that match; 0: all.")  # fmt: skip
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on with the running engine's.")
@json_option
def logs(
    query: tuple[str, ...], file: Path | None, lines: int, follows: bool, as_json: bool
) -> None:
    """Show log lines that match every CONDITION, the newest last.

    \b
    level>=warning rank=2 node=gpu07 version=v1.1 class=nccl since=10m text~unshard
    A word alone is searched in the text; ! before a condition turns it round; a comma lists
    alternatives. Lines read: [LEVEL] 2025-12-25 10:30:22 file.py:145 - message
    """
    words = " ".join(query)
    try:
        wanted = parse(words)
    except QueryError as error:
        raise BadInput(str(error)) from error
    if follows and file is not None:
        raise BadInput("--follow is of the running engine; for a file: avatop triage --follow FILE")
    shown = [record for record in _past(file, follows) if wanted(record)]
    for record in shown[-lines:] if lines else shown:
        _show(record, as_json)
    if follows:
        _follow(wanted, as_json)
    elif not shown:
        tell("Nothing matches." if words else "Nothing was logged yet.")


def _past(file: Path | None, follows: bool) -> Iterable[Record]:
    if file is not None and (str(file) == "-" or (file.is_file() and not is_recording(file))):
        return classified(of_file(_lines(file)))
    if file is None and not default_folder().is_dir():
        if follows:
            return ()
        raise BadInput("nothing has been recorded here yet; name a file with --from-file")
    recording = load(file)
    book = Logbook()
    found = []
    for stamped in recording.ground():
        # The state that leads a segment in repeats lines that were told before.
        if not (stamped.key and isinstance(stamped.event, LogLine)):
            record = book.take(stamped.event)
            if record is not None:
                found.append(record)
    return classified(found)


def _lines(file: Path) -> Iterator[str]:
    splitter = LineSplitter()
    try:
        with contextlib.ExitStack() as stack:
            stream = sys.stdin.buffer
            if str(file) != "-":
                stream = stack.enter_context(file.open("rb", buffering=0))
            for data in chunks(stream):
                yield from (text for text, _ in splitter.push(data))
        yield from (text for text, _ in splitter.close())
    except OSError as error:
        raise BadInput(f"{inert(str(file))}: {error.strerror or error}") from error


def _follow(wanted: Predicate, as_json: bool) -> None:
    client = running_engine()
    if client is None:
        raise Failed("no engine is running: there is nothing to follow")
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    book = Logbook()
    with contextlib.closing(client):
        client.subscribe(events.put)
        for row_or_line in _ground(client.snapshot().result(30)):
            book.take(row_or_line)
        while not isinstance(event := events.get(), EngineStopped):
            record = book.take(event)
            if record is None:
                continue
            found = classified([record])[0]
            if wanted(found):
                _show(found, as_json)
                sys.stdout.flush()


def _ground(snapshot: object) -> Iterator[Event]:
    """What the book has to know before the first line: rows, not lines that were told already."""
    from engine.messages import Snapshot
    from engine.remote.wire import events_of

    assert isinstance(snapshot, Snapshot)
    return (event for event in events_of(snapshot) if not isinstance(event, LogLine))


def _show(record: Record, as_json: bool) -> None:
    if as_json:
        body = dataclasses.asdict(record)
        body["class"] = body.pop("class_")
        sys.stdout.write(json.dumps(body, ensure_ascii=False) + "\n")
        return
    click.echo(_sentence(record))


def _sentence(record: Record) -> str:
    """R10's line; what it does not tell is left out. Never markup, never escape codes."""
    if record.t is None:
        return inert(record.text, 4000)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.t))
    about = "" if record.job is None else f"job {record.job} "
    about += "" if record.rank is None else f"rank {record.rank} "
    about += "" if record.stream is None else f"{record.stream} "
    about += "" if record.class_ is None else f"{{{record.class_}}} "
    prefix = f"{about.rstrip()}: " if about else ""
    text = inert(record.text, 4000)
    return f"[{record.level or 'INFO'}] {stamp} {inert(record.where or '-')} - {prefix}{text}"

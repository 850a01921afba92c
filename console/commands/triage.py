"""``avatop triage``: what a log means, which failure came first, and what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from threading import Event

import click

from console.commands.recordings import is_recording, load
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput
from console.format import inert
from console.spoken import spoken
from engine.messages import LogLine
from engine.nightwatch.findings import read_as, worth
from engine.triage import Classifier, Finding
from engine.triage.classifier import Watcher, feed_bytes, feed_end
from engine.triage.reader import LineSplitter, chunks, follow

_STANDARD_INPUT = "-"


@click.command(short_help="Tell what a log means and what to do.")
@click.argument("file", metavar="FILE|DIR|-")
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on while the file grows.")
@json_option
def triage(file: str, follows: bool, as_json: bool) -> None:
    """Classify the incidents in FILE (- is standard input): roots first, then their victims.

    A recording may take the place of a log, too: a bundle, or a folder of segments.
    With --follow each finding is told as it appears; with --json as one object per line.
    """
    try:
        if follows:
            _follow(file, as_json)
            return
        classifier = _read(file)
    except OSError as error:
        raise BadInput(
            f"{inert(file)}: {error.strerror or error}. Give a readable log file, or - for"
            " standard input."
        ) from error
    found = classifier.findings()
    if as_json:
        print_json({"lines": classifier.lines, "findings": [f.to_dict() for f in found]})
        return
    for finding in found:
        click.echo(_paragraph(finding))
    if not found:
        tell(f"Nothing known in {classifier.lines:,} lines.")


def _read(file: str) -> Classifier:
    classifier, splitter = Classifier(), LineSplitter()
    if file == _STANDARD_INPUT:
        for data in chunks(sys.stdin.buffer):
            feed_bytes(classifier, splitter, data)
    elif is_recording(Path(file)):
        for stamped in load(Path(file)).events():
            event = stamped.event
            if isinstance(event, LogLine) and worth(event):
                for text in read_as(event):
                    classifier.feed(text)
    else:
        with Path(file).open("rb", buffering=0) as stream:
            for data in chunks(stream):
                feed_bytes(classifier, splitter, data)
    feed_end(classifier, splitter)
    return classifier


def _follow(file: str, as_json: bool) -> None:
    classifier, splitter = Classifier(), LineSplitter()
    watcher = Watcher(classifier)

    def report() -> None:
        for finding in watcher.news():
            if as_json:
                sys.stdout.write(json.dumps(finding.to_dict(), ensure_ascii=False) + "\n")
            else:
                click.echo(_paragraph(finding))
        sys.stdout.flush()

    if file == _STANDARD_INPUT:
        for data in chunks(sys.stdin.buffer):
            feed_bytes(classifier, splitter, data)
            report()
    else:
        for piece in follow(Path(file).absolute(), Event()):
            if piece is None:
                report()
            else:
                feed_bytes(classifier, splitter, piece)
    feed_end(classifier, splitter)
    report()


def _paragraph(finding: Finding) -> str:
    first, last = finding.lines
    where = f"line {first}" if first == last else f"lines {first}-{last}"
    rank = f", rank {finding.rank}" if finding.rank is not None else ""
    head = (
        f"{finding.role:<6} {finding.class_}  {where}{rank}, {finding.severity},"
        f" {finding.confidence:.0%} sure"
    )
    remedies = [f"         - {spoken(remedy.text)}" for remedy in finding.remedies]
    return "\n".join([head, f"       {spoken(finding.cause)}", *remedies])

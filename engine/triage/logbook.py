"""Log lines of events and files as records, with what triage says of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from engine.logfile import place_of
from engine.messages import EngineStarted, Event, JobChanged, LogLine
from engine.triage.classifier import Classifier
from engine.triage.records import Record, parse_line


class Logbook:
    """Turns events into records; remembers the host, and which version each job runs by.

    Args:
        node: the host until an engine names it.
    """

    def __init__(self, node: str | None = None) -> None:
        self._node = node
        self._versions: dict[int, str | None] = {}
        self._number = 0

    def take(self, event: Event) -> Record | None:
        """The record of a log line; None for any other event."""
        if isinstance(event, EngineStarted):
            self._node = event.host
        elif isinstance(event, JobChanged):
            self._versions[event.job.id] = event.job.version
        elif isinstance(event, LogLine):
            self._number += 1
            return Record(
                text=event.text,
                level=event.level,
                t=event.t,
                where=event.where or place_of(event.source, event.stream),
                job=event.job,
                rank=event.rank,
                stream=event.stream,
                node=self._node,
                version=None if event.job is None else self._versions.get(event.job),
                line=self._number,
            )
        return None


def of_file(lines: Iterable[str], node: str | None = None) -> Iterator[Record]:
    """Records of any program's log: lines of R10's format in their parts, others as text."""
    for number, line in enumerate(lines, 1):
        yield parse_line(line, node=node, number=number)


def classified(records: Iterable[Record]) -> list[Record]:
    """The records, each with the class of the finding whose lines it belongs to."""
    kept = list(records)
    classifier = Classifier()
    for record in kept:
        classifier.feed(record.text)
    for finding in classifier.findings():
        first, last = finding.lines
        for n in range(first - 1, min(last, len(kept))):
            if kept[n].class_ is None:
                kept[n] = dataclasses.replace(kept[n], class_=finding.class_)
    return kept

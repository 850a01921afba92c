"""The classifier: lines in, findings out; for a whole text and for a stream without an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from engine.triage.catalogue import Catalogue, catalogue
from engine.triage.findings import Finding
from engine.triage.reader import LineSplitter
from engine.triage.reason import Episode
from engine.triage.scan import Evidence, Scanner

#: Lines without evidence after which what follows is another episode.
EPISODE_GAP: Final = 4_000
#: Longer lines are judged in pieces (cut at carriage returns where there are some).
PIECE: Final = 1 << 12


class Classifier:
    """Feed it lines; ``findings`` tells what they mean so far, ``take`` what is over.

    The result does not depend on how the lines arrive. Memory is bounded: a block of lines, and
    per episode one tally per signature and rank.
    """

    def __init__(self, known: Catalogue | None = None) -> None:
        self._known = known or catalogue()
        self._scanner = Scanner(self._known)
        self._episode = Episode(self._known)
        self._closed: list[Finding] = []
        self.lines = 0

    def feed(self, line: str, *, fresh: bool = True) -> None:
        """Take one line without its end, or (``fresh`` false) a further part of the last one."""
        self.lines += fresh
        for piece in pieces(line):
            for evidence in self._scanner.feed(self.lines, piece):
                self._note(evidence)

    def findings(self) -> list[Finding]:
        """All that is known now, the lines in hand included; more lines may change it."""
        closed: list[Finding] = list(self._closed)
        episode = self._episode.copy()
        for evidence in self._scanner.pending():
            if episode and evidence.first - episode.last > EPISODE_GAP:
                closed += episode.findings()
                episode = Episode(self._known)
            episode.add(evidence)
        return [*closed, *episode.findings()]

    def take(self) -> list[Finding]:
        """Findings of episodes that ended since the last call; they are then forgotten."""
        if self._episode and self._scanner.judged - self._episode.last > EPISODE_GAP:
            self._close()
        taken, self._closed = self._closed, []
        return taken

    def _note(self, evidence: Evidence) -> None:
        if self._episode and evidence.first - self._episode.last > EPISODE_GAP:
            self._close()
        self._episode.add(evidence)

    def _close(self) -> None:
        self._closed += self._episode.findings()
        self._episode = Episode(self._known)


def classify(lines: Iterable[str], known: Catalogue | None = None) -> list[Finding]:
    """Findings of a whole text, the likeliest root first. Benign text gives none."""
    classifier = Classifier(known)
    for line in lines:
        for part in line.split("\n") if "\n" in line else (line,):
            classifier.feed(part)
    return classifier.findings()


def feed_bytes(classifier: Classifier, splitter: LineSplitter, data: bytes) -> None:
    """Hand a chunk of a file to a classifier."""
    for text, fresh in splitter.push(data):
        classifier.feed(text, fresh=fresh)


def feed_end(classifier: Classifier, splitter: LineSplitter) -> None:
    """Hand over a last line that has no end."""
    for text, fresh in splitter.close():
        classifier.feed(text, fresh=fresh)


class Watcher:
    """Findings of a stream, each told once when it appears and again when its role changes."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._told: dict[tuple[str, int], str] = {}

    def news(self) -> Iterator[Finding]:
        """What is new since the last call."""
        found = self._classifier.findings()
        for finding in found:
            key = (finding.class_, finding.lines[0])
            if self._told.get(key) != finding.role:
                self._told[key] = finding.role
                yield finding
        for finding in self._classifier.take():
            self._told.pop((finding.class_, finding.lines[0]), None)


def pieces(line: str) -> Iterable[str]:
    """A very long line in parts that can be judged; others as they are."""
    if len(line) <= PIECE:
        return (line,)
    parts: list[str] = []
    for part in line.split("\r"):
        parts += (part[n : n + PIECE] for n in range(0, max(1, len(part)), PIECE))
    return parts

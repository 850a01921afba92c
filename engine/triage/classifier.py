"""The classifier: lines in, findings out; for a whole text and for a stream without an end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.triage.catalogue import Catalogue, catalogue
from engine.triage.findings import Finding
from engine.triage.reason import Episode
from engine.triage.scan import Evidence, Scanner

#: Lines without evidence after which what follows is another episode.
EPISODE_GAP: Final = 4_000
#: Longer lines are judged in pieces (cut at carriage returns where there are some).
PIECE: Final = 1 << 16


class Classifier:
    """Feed it lines; ``take`` gives the findings of closed episodes, ``findings`` all it knows.

    Memory is bounded: a block of lines, and per episode one tally per signature and rank.
    """

    def __init__(self, known: Catalogue | None = None) -> None:
        self._known = known or catalogue()
        self._scanner = Scanner(self._known)
        self._episode = Episode(self._known)
        self._closed: list[Finding] = []
        self.lines = 0

    def feed(self, line: str) -> None:
        """Take one line, without its end."""
        self.lines += 1
        for piece in pieces(line):
            for evidence in self._scanner.feed(self.lines, piece):
                self._note(evidence)

    def flush(self) -> None:
        """Judge what is buffered now: the text ended, or a stream is quiet."""
        for evidence in self._scanner.flush():
            self._note(evidence)

    def take(self) -> list[Finding]:
        """Findings of episodes that ended since the last call; they are then forgotten."""
        if self._episode and self.lines - self._episode.last > 2 * EPISODE_GAP:
            self._close()
        taken, self._closed = self._closed, []
        return taken

    def open_findings(self) -> list[Finding]:
        """Findings of the episode that is still going on."""
        return self._episode.findings()

    def findings(self) -> list[Finding]:
        """Everything not yet taken: closed episodes, then the open one."""
        return [*self._closed, *self.open_findings()]

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
        for part in line.splitlines() if "\n" in line else (line,):
            classifier.feed(part)
    classifier.flush()
    return classifier.findings()


def pieces(line: str) -> Iterable[str]:
    """A very long line in parts that can be judged; others as they are."""
    if len(line) <= PIECE:
        return (line,)
    parts: list[str] = []
    for part in line.split("\r"):
        parts += (part[n : n + PIECE] for n in range(0, max(1, len(part)), PIECE))
    return parts

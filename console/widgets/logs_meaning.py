"""What a log line means: the class that triage gives it, and the finding that it belongs to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from console.widgets.logs_source import Source
from engine.triage.catalogue import catalogue
from engine.triage.classifier import classify, pieces
from engine.triage.findings import Finding
from engine.triage.scan import Scanner

NEAR: Final = 8  # lines around that a single piece of evidence may span
BESIDE: Final = 3  # the same for lines in sight only
FAR: Final = 200  # lines around in which causes of a line are looked for
_KEPT: Final = 20_000


def classes_of(texts: Sequence[str]) -> list[str | None]:
    """For every line the class of the strongest evidence in it."""
    scanner = Scanner(catalogue())
    found: list[tuple[float, str] | None] = [None] * len(texts)
    for number, text in enumerate(texts):
        for piece in pieces(text):
            for evidence in scanner.feed(number, piece):
                _mark(found, evidence.first, evidence.last, evidence.signature.strength,
                      evidence.signature.incident)  # fmt: skip
    for evidence in scanner.pending():
        _mark(found, evidence.first, evidence.last, evidence.signature.strength,
              evidence.signature.incident)  # fmt: skip
    return [None if one is None else one[1] for one in found]


def _mark(
    found: list[tuple[float, str] | None], first: int, last: int, strength: float, class_: str
) -> None:
    for number in range(first, min(last, len(found) - 1) + 1):
        before = found[number]
        if before is None or before[0] < strength:
            found[number] = (strength, class_)


class Meaning:
    """Classes and findings of one source's lines, worked out where one looks and remembered.

    Args:
        compiled: set once the catalogue was compiled, which takes a moment; nothing is said of any
            line before.
    """

    def __init__(self, source: Source, compiled: threading.Event) -> None:
        self.source = source
        self._compiled = compiled
        self._classes: dict[int, str | None] = {}
        self._findings: dict[int, Finding | None] = {}

    @property
    def ready(self) -> bool:
        return self._compiled.is_set()

    def class_of(self, number: int) -> str | None:
        """The class of a line that was looked at with ``look``."""
        return self._classes.get(number)

    def look(self, numbers: Sequence[int]) -> None:
        """Work out the classes of lines that are about to be shown."""
        if not self.ready or not numbers:
            return
        if len(self._classes) > _KEPT:
            self._classes.clear()
        settled = self.source.span()[1] - BESIDE  # later ones may yet get neighbours
        missing = [number for number in numbers if number not in self._classes]
        at = 0
        while at < len(missing):
            last = at
            while last + 1 < len(missing) and missing[last + 1] - missing[last] <= 2 * BESIDE:
                last += 1
            self._look_between(missing[at], missing[last] + 1, settled)
            at = last + 1

    def _look_between(self, first: int, end: int, settled: int) -> None:
        around = list(self.source.between(first - BESIDE, end + BESIDE))
        classes = classes_of([record.text for _, record in around])
        for (number, _), class_ in zip(around, classes, strict=True):
            if first <= number < end and (class_ is not None or number < settled):
                self._classes[number] = class_

    def finding(self, number: int) -> Finding | None:
        """What triage makes of a line: its cause and remedies, judged with the lines around."""
        self.look([number])
        class_ = self._classes.get(number)
        if class_ is None:
            return None
        if number not in self._findings:
            if len(self._findings) > _KEPT:
                self._findings.clear()
            texts = [record.text for _, record in self.source.between(number - FAR, number + FAR)]
            found = classify(texts)
            near = [record.text for _, record in self.source.between(number - NEAR, number + NEAR)]
            every = [*found, *classify(near)]
            self._findings[number] = next((f for f in every if f.class_ == class_), None)
        return self._findings[number]

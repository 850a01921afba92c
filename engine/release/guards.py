"""What ends a release at once: out of memory, values that are no numbers, undecodable output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.messages import JobRow
from engine.metrics.errors import kinds_of
from engine.sentence import sentence

_HARD: Final = ("oom", "decode")
_NOT_FINITE: Final = ("not finite", "nan latents", "latents are nan")
_UNDECODABLE: Final = ("cannot be played", "has no video stream")


def hard_breach(row: JobRow, texts: Sequence[str] = ()) -> str | None:
    """The first hard breach that a job's end or its error lines tell of, else None."""
    said = [*([row.error] if row.error else ()), *texts]
    for text in said:
        if (found := hard_words(row.id, text)) is not None:
            return found
    for number, kind in sorted(kinds_of(said)) if said else ():
        if kind in _HARD:
            return _told(kind, row.id, said[number])
    if row.error and "(oom)" in row.error:
        return _told("oom", row.id, row.error)
    return None


def hard_words(job: int, text: str) -> str | None:
    """What the engine's own words say at once, without triage's patterns."""
    low = text.lower()
    if any(words in low for words in _NOT_FINITE):
        return sentence("job {job} made values that are no numbers: {text}", job=job, text=text)
    if any(words in low for words in _UNDECODABLE):
        return _told("decode", job, text)
    return None


def _told(kind: str, job: int, text: str) -> str:
    if kind == "oom":
        return sentence("job {job} ran out of memory: {text}", job=job, text=text)
    return sentence("job {job} made output that cannot be decoded: {text}", job=job, text=text)

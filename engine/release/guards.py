"""What ends a release at once: out of memory, values that are no numbers, undecodable output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.messages import JobRow
from engine.metrics.errors import kinds_of

_HARD: Final = {
    "oom": "ran out of memory",
    "decode": "made output that cannot be decoded",
}
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
            return f"job {row.id} {_HARD[kind]}: {said[number]}"
    if row.error and "(oom)" in row.error:
        return f"job {row.id} {_HARD['oom']}: {row.error}"
    return None


def hard_words(job: int, text: str) -> str | None:
    """What the engine's own words say at once, without triage's patterns."""
    low = text.lower()
    if any(words in low for words in _NOT_FINITE):
        return f"job {job} made values that are no numbers: {text}"
    if any(words in low for words in _UNDECODABLE):
        return f"job {job} {_HARD['decode']}: {text}"
    return None

"""Why a command failed, by its own words, and whether another attempt may help. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.external.command import CommandEnd
from engine.messages import JobRow
from engine.parameters.request import Request
from engine.retry.desk import Again
from engine.retry.fault import Fault
from engine.retry.policy import decide
from engine.sentence import joined, sentence
from engine.triage import classify
from engine.triage.reason import STRONG


def fault_of_command(end: CommandEnd, words: Sequence[str]) -> Fault:
    """The fault in how a command ended; ``words`` are its last lines."""
    roots = [f for f in classify(words) if f.role == "root"]
    reason: str = sentence("the command failed, {words}", words=end.words)
    if roots:
        reason = sentence("{what}: {why}", what=reason, why=roots[0].cause)
    elif words:
        reason = joined((reason, sentence("its last line: {line}", line=words[-1][:200])))
    strong = tuple(f.class_ for f in roots if f.confidence >= STRONG)
    signal = -end.code if end.code is not None and end.code < 0 else None
    # A program that ended by itself has a rank that failed; one whose keeper was killed has none.
    return Fault(reason, signal=signal, rank=None if end.code is None else 0, classes=strong)


def next_attempt(
    fault: Fault, row: JobRow, request: Request, devices: int
) -> tuple[Again | None, str]:
    """The next attempt, or None; and the sentence that says which and why."""
    found = decide(
        fault,
        attempt=row.attempt,
        retries=request.retries,
        environment=row.environment,
        nccl=devices > 1,
        resumable=True,
    )
    if found.action != "again":
        why = found.why
        if found.action == "replan":
            why = joined((why, sentence("how another program uses memory is its own")))
        return None, sentence("not tried again: {why}", why=why)
    told = [
        sentence("It gets {name}={value}.", name=name, value=value)
        for name, value in found.environment.items()
    ]
    change = joined(told, " ") if told else ""
    again = Again(
        request, {**row.environment, **found.environment}, row.attempt + 1, found.why, change
    )
    text: str = sentence(
        "attempt {attempt} of {most}: {why}.",
        attempt=again.attempt,
        most=request.retries + 1,
        why=again.why,
    )
    if change:
        text = joined((text, change), " ")
    return again, text

"""What ended a job, in the few facts that a policy goes by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.ranks.outcome import GroupResult
from engine.report_events import Failure
from engine.triage import classify
from engine.triage.reason import STRONG


@dataclass(frozen=True)
class Fault:
    """A job's end that nobody asked for.

    ``kind`` is of the root rank's ``failed`` report (oom, comm, …), ``signal`` what killed it,
    ``limit`` what a guard ended it for ("block", "wall", "silence"), ``classes`` what triage read
    in its last words, roots only, the likeliest first.
    """

    reason: str
    kind: str | None = None
    signal: int | None = None
    rank: int | None = None
    limit: str | None = None
    classes: tuple[str, ...] = ()


#: Lines of a failure that are read: its message, and the innermost of its traceback.
_READ_LINES: Final = 200


def fault_of(
    group: GroupResult,
    limit: str | None,
    failures: Iterable[Failure] = (),
    last_words: Iterable[str] = (),
) -> Fault:
    """The fault in how a group ended.

    Args:
        limit: of the guard that ended it, if one did.
        failures: what its ranks said themselves.
        last_words: captured lines of the rank that failed first.
    """
    root = next((e for e in group.exits if e.rank == group.root), None)
    kind = None if group.failed is None else str(group.failed.data.get("kind", "other"))
    lines = list(last_words)[-_READ_LINES:]
    for failure in failures:
        if failure.rank == group.root:
            lines += [failure.message, *failure.traceback.splitlines()[-_READ_LINES:]]
    found = [f for f in classify(lines) if f.role == "root" and f.confidence >= STRONG]
    return Fault(
        reason=group.reason,
        kind=kind,
        signal=None if root is None else root.signal,
        rank=group.root,
        limit=limit,
        classes=tuple(f.class_ for f in found),
    )

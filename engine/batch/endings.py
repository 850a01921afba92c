"""How tries end in the store: fields of a done item, of one that failed, of a twin; recovery."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.batch import causes
from engine.batch.causes import Cause
from engine.batch.publish import NameTaken, Published, Reached, adopt, publish, taken
from engine.batch.rows import ALIAS, DONE, FAILED, WAITING, ItemRow
from engine.batch.spec import BatchSpec
from engine.batch.store import BatchStore, LostClaim
from engine.batch.tries import TryFailed
from engine.sentence import sentence

_FIGURES = ("frames", "seconds", "fps", "peak_bytes")


@dataclass(frozen=True)
class Failure:
    """What follows from a failed try: the attempt's outcome, and the item's fields."""

    outcome: str  # retry | failed | released
    cause: Cause
    fields: dict[str, Any]
    wait: float | None = None  # seconds until the next try


def done_fields(spec: BatchSpec, published: Published, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Of an item whose output is published."""
    return {
        "state": DONE,
        "output": str(published.path),
        "sha256": published.sha256,
        "bytes": published.bytes,
        **{name: facts.get(name) for name in _FIGURES},
        "error": None,
        "post": "due" if spec.post_command else None,
        "ended": time.time(),
    }


def failure(spec: BatchSpec, claim: ItemRow, failed: TryFailed, stopping: bool) -> Failure:
    """Again later, or never; a batch that is being stopped takes no try from its items."""
    if stopping:
        fields: dict[str, Any] = {"attempts": claim.attempts - 1, "error": None, "state": WAITING}
        return Failure("released", causes.ENGINE_STOPPED, fields)
    row, cause = failed.row, failed.cause
    # The job may have been tried again by the engine itself: those count, too.
    attempts = claim.attempts + (row.attempt - 1 if row is not None else 0)
    fields = {"attempts": attempts, "error": str(failed)}
    if row is not None and row.started is not None and row.ended is not None:
        fields |= {"seconds": row.ended - row.started, "peak_bytes": row.peak_bytes}
    if cause.passes and attempts <= spec.retries:
        wait = causes.wait_seconds(spec.retry_seconds, attempts)
        later = {"state": WAITING, "next_time": time.time() + wait}
        return Failure("retry", cause, fields | later, wait)
    return Failure("failed", cause, fields | {"state": FAILED, "ended": time.time()})


def unprepared(spec: BatchSpec, item: ItemRow, cause: Cause, message: str) -> dict[str, Any]:
    """A file that cannot be used fails; a disk that is full may have room later."""
    attempts = item.attempts + 1 if cause.passes else item.attempts
    fields = {"error": message, "cause": cause.kind, "attempts": attempts}
    if cause.passes and attempts <= spec.retries:
        wait = causes.wait_seconds(spec.retry_seconds, attempts)
        return {**fields, "next_time": time.time() + wait}
    return {**fields, "state": FAILED, "ended": time.time()}


def link_twin(
    spec: BatchSpec, item: ItemRow, twin: ItemRow, final: Path, work: Path, reached: Reached
) -> dict[str, Any]:
    """A twin's video under an alias's name, too: a link, no further bytes. Blocks.

    Raises:
        NameTaken, OSError: it cannot have that name.
    """
    found = adopt(final, item.key, reached)
    if found is None:
        why = taken(final)
        if why is not None:
            raise NameTaken(why)
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = work / f"{item.key[:32]}-alias.mp4"
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(str(twin.output))
        facts = {"batch": item.batch, "key": item.key, "name": item.name}
        facts |= {"twin": twin.name, "twin_key": twin.key}
        published = publish(temporary, final, {**facts, "frames": twin.frames}, reached)
    else:
        published = found[0]
    return {**done_fields(spec, published, {"frames": twin.frames}), "state": ALIAS}


def recover(
    store: BatchStore,
    spec: BatchSpec,
    batch: str,
    work: Path,
    final: Callable[[ItemRow], Path],
    reached: Callable[[str, str], None],
) -> list[tuple[ItemRow, str]]:
    """What a dead engine left: a published output is adopted, all else begins again. Blocks.

    Returns items with a sentence of what became of them.
    """
    told: list[tuple[ItemRow, str]] = []
    for claim in store.stale(batch):
        name = claim.name
        with contextlib.suppress(LostClaim):
            found = adopt(final(claim), claim.key, lambda step, name=name: reached(step, name))  # type: ignore[misc]
            if found is not None:
                fields = done_fields(spec, *found)
                row = store.end(claim, "done", **fields)
                told.append(
                    (
                        row,
                        sentence(
                            "{name}: its output was published already and is adopted", name=name
                        ),
                    )
                )
            else:
                row = store.crashed(claim)
                text = sentence(
                    "{name}: its engine died while it was worked on; it is {state}",
                    name=name,
                    state=row.state,
                )
                told.append((row, text))
        clean(work, claim)
    return told


def clean(work: Path, item: ItemRow) -> None:
    """Remove every temporary file of an item."""
    for path in (*work.glob(f"{item.key[:32]}-*"), *work.glob(f".{item.key[:32]}-*")):
        path.unlink(missing_ok=True)
    (work / f"{item.key[:32]}.wav").unlink(missing_ok=True)

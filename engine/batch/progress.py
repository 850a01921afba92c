"""How far a batch is, from its items alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from engine.batch.rows import ALIAS, DONE, FAILED, QUARANTINED, BatchRow, ItemRow
from engine.messages import BatchChanged


def ended(item: ItemRow) -> bool:
    """Nothing more happens to it by itself."""
    if item.state == ALIAS:
        return item.output is not None
    return item.state in (DONE, FAILED, QUARANTINED)


def counts(items: Iterable[ItemRow]) -> dict[str, int]:
    """State → number."""
    return dict(Counter(item.state for item in items))


def eta_seconds(items: Collection[ItemRow], lines: int) -> float | None:
    """Seconds until the rest is done, by what done items took per second of sound; None before
    one is done, or where a sound's length is not known."""
    made = [i for i in items if i.state == DONE and i.seconds and i.audio_seconds]
    left = [i for i in items if not ended(i) and i.state != ALIAS]
    if not made or any(i.audio_seconds is None for i in left):
        return None
    rate = sum(i.seconds or 0.0 for i in made) / sum(i.audio_seconds or 0.0 for i in made)
    return rate * sum(i.audio_seconds or 0.0 for i in left) / max(1, lines)


def changed(row: BatchRow, items: Collection[ItemRow], lines: int) -> BatchChanged:
    """The batch as an event, without items."""
    return BatchChanged(
        batch=row.id,
        name=row.name,
        state=row.state,
        total=len(items),
        counts=counts(items),
        lines=lines,
        eta_seconds=eta_seconds(items, lines) if row.state == "running" else None,
        started=row.started,
        report=row.report,
        note=row.note,
    )

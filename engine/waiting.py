"""Jobs that have not begun, in the order they will run in; the order is kept in the store."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from engine.jobs.store import JobStore
from engine.messages import JobRow
from engine.preflight import Work


@dataclass
class Entry:
    """One waiting job."""

    row: JobRow
    prepared: Work
    #: False while its next attempt is being checked: it keeps its place, and can be taken out.
    ready: bool = True

    @property
    def key(self) -> tuple[float, int]:
        """Ascending order of starts: where it was put, else the order of arrival."""
        row = self.row
        return (float(row.id) if row.position is None else row.position, row.id)


class Waiting:
    """The engine's loop only."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """In order; the jobs may be taken out meanwhile."""
        return iter(tuple(self._entries))

    def __contains__(self, job: int) -> bool:
        return self.find(job) is not None

    def find(self, job: int) -> Entry | None:
        return next((e for e in self._entries if e.row.id == job), None)

    def add(self, row: JobRow, prepared: Work, *, ready: bool = True) -> Entry:
        """Put a job where its position says."""
        entry = Entry(row, prepared, ready)
        bisect.insort(self._entries, entry, key=lambda e: e.key)
        return entry

    def take(self, job: int) -> Entry:
        """Remove one.

        Raises:
            KeyError: it does not wait.
        """
        entry = self.find(job)
        if entry is None:
            raise KeyError(job)
        self._entries.remove(entry)
        return entry

    def move(self, job: int, place: int, store: JobStore) -> JobRow:
        """Put a job at a place (0: first; beyond the end: last), durably.

        Raises:
            KeyError: it does not wait. StoreError: the order cannot be kept.
        """
        entry = self.take(job)
        keys = [e.key[0] for e in self._entries]
        place = max(0, min(place, len(keys)))
        try:
            if not keys:
                position = entry.key[0]
            elif place == 0:
                position = keys[0] - 1
            elif place == len(keys):
                position = keys[-1] + 1
            else:
                position = (keys[place - 1] + keys[place]) / 2
            entry.row = store.update(job, position=position)
        finally:
            bisect.insort(self._entries, entry, key=lambda e: e.key)
        return entry.row

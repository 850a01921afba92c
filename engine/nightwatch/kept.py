"""What was wrong and what was done about it, kept over an engine's end.

An engine ends when its work has ended and nobody is attached; who comes in the morning gets
another one, and it has to know what the first one found.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Final, TypeVar

from engine.messages import Audited, Event, FindingRaised, MessageError, from_json

#: Findings older than this are nobody's news any more; the store's audit keeps what was done.
KEEP_SECONDS: Final = 7 * 86400.0
MOST_FINDINGS: Final = 100
MOST_AUDITS: Final = 200
_Key = TypeVar("_Key", bound=Hashable)
_E = TypeVar("_E", bound=Event)
_LONGEST: Final = 1 << 22  # bytes of the file that are read


class Kept:
    """Findings, open and settled, and audits, in a file of newline-delimited events.

    Advice is not kept: it is about a moment. One thread only.

    Args:
        path: is replaced whole at each ``save``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._findings: dict[str, FindingRaised] = {}
        self._audits: dict[tuple[float, str, str], Audited] = {}
        self._dirty = False

    def load(self, now: float) -> list[Event]:
        """What earlier engines left, oldest first; lines that cannot be read are left out."""
        try:
            with self._path.open("rb") as file:
                lines = file.read(_LONGEST).splitlines()
        except OSError:
            return []
        found: list[Event] = []
        for line in lines:
            try:
                event = from_json(line)
            except MessageError:
                continue
            if isinstance(event, FindingRaised | Audited) and now - event.t < KEEP_SECONDS:
                self.take(event)
                found.append(event)
        self._dirty = False
        return found

    def take(self, event: FindingRaised | Audited) -> None:
        """Remember it; the same told again replaces the earlier."""
        if isinstance(event, Audited):
            _put(self._audits, (event.t, event.action, event.target), event, MOST_AUDITS)
        elif event.role != "advice":
            _put(self._findings, event.id, event, MOST_FINDINGS)
        self._dirty = True

    def knows(self, job: int) -> bool:
        """Whether anything is or was told of a job."""
        return any(finding.job == job for finding in self._findings.values())

    def save(self) -> None:
        """Write it, if there is anything new.

        Raises:
            OSError: it cannot be written.
        """
        if not self._dirty:
            return
        self._dirty = False
        events = [*self._findings.values(), *self._audits.values()]
        text = "".join(event.to_json() + "\n" for event in sorted(events, key=lambda e: e.t))
        beside = self._path.with_name(self._path.name + ".new")
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        beside.replace(self._path)


def _put(table: dict[_Key, _E], key: _Key, event: _E, most: int) -> None:
    table.pop(key, None)
    table[key] = event
    while len(table) > most:
        del table[next(iter(table))]

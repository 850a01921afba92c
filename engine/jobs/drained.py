"""Devices that get no new work, kept over the engine's end."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from engine.jobs.store import JobStore


class Drained(MutableMapping[str, str]):
    """UUID → what a device is leased by; every change is in the store before it counts."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        with store.reading() as db:
            self._held: dict[str, str] = dict(db.execute("SELECT device, lease FROM drained"))

    def __getitem__(self, device: str) -> str:
        return self._held[device]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __setitem__(self, device: str, lease: str) -> None:
        """Raises ``StoreError`` if it cannot be kept."""
        with self._store.writing() as db:
            db.execute("INSERT OR REPLACE INTO drained VALUES (?, ?)", (device, lease))
        self._held[device] = lease

    def __delitem__(self, device: str) -> None:
        """Raises ``StoreError`` if it cannot be kept."""
        with self._store.writing() as db:
            db.execute("DELETE FROM drained WHERE device = ?", (device,))
        del self._held[device]

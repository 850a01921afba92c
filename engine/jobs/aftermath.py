"""What an engine finds of earlier ones when it starts: state to go on from, and state of nobody."""

from __future__ import annotations

import shutil
from typing import Final

from engine.jobs.kept import Kept, mirrors
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError

_OVER: Final = frozenset({"done", "cancelled", "failed"})


def look_after(store: JobStore, places: Places) -> None:
    """Say of interrupted jobs how they can go on; remove mirrors whose job is over or unknown.

    Raises:
        StoreError: the jobs cannot be read or changed.
    """
    for row in store.list(states=("interrupted", "paused")):
        kept = Kept(places.state, places.job(row.id), row.id)
        resumable = kept.resumable() if kept.worth else None
        if resumable != row.resumable:
            store.update(row.id, resumable=resumable)
    for folder, state, job in mirrors():
        if _is_nobodys(store, places, state.exists(), str(state), job):
            shutil.rmtree(folder, ignore_errors=True)


def _is_nobodys(store: JobStore, places: Places, there: bool, state: str, job: int) -> bool:
    """Whether nobody can ever go on from a mirror."""
    if not there:
        return True
    if state != str(places.state):
        return False  # another installation's: its own engine looks after it
    try:
        return store.get(job).state in _OVER
    except StoreError:
        return True

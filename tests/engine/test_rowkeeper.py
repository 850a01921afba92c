"""Is a job's row told and kept, and its end told even where nothing can be kept?"""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.bus import Bus
from engine.jobs import store as module
from engine.jobs.store import JobStore, StoreError
from engine.messages import Event, JobChanged, JobRow, LogLine
from engine.rowkeeper import RowKeeper


class Held:
    def __init__(self, row: JobRow) -> None:
        self.row = row

    def change(self, **fields: Any) -> None:
        self.row = dataclasses.replace(self.row, **fields)


async def test_a_store_that_is_locked_loses_no_end_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    store = JobStore(tmp_path / "jobs.sqlite3")
    held = Held(store.create({}, mode="single", size="64*64", clips=2))
    bus, events = Bus(), list[Event]()
    bus.subscribe(events.append)
    keeper = RowKeeper(store, bus, held)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="another process has held it"):
        await keeper.change(state="preflight")
    await keeper.end(state="failed", error="no room")
    (told,) = [e.job for e in events if isinstance(e, JobChanged)]
    assert (told.state, told.error) == ("failed", "no room")
    (line,) = [e for e in events if isinstance(e, LogLine)]
    assert "told, and not kept" in line.text
    other.execute("ROLLBACK")
    other.close()
    assert store.get(held.row.id).state == "queued"  # the next engine calls it interrupted
    await keeper.end(state="failed")
    assert store.get(held.row.id).state == "failed"
    store.close()


async def test_an_end_is_not_told_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.rowkeeper.PUBLISH_SECONDS", 0.0)
    store = JobStore(tmp_path / "jobs.sqlite3")
    held = Held(store.create({}, mode="single", size="64*64", clips=2))
    bus, told = Bus(), list[tuple[str, str]]()
    bus.subscribe(lambda e: told.append((e.job.state, store.get(e.job.id).state)))  # type: ignore[attr-defined]
    keeper, slow, update = RowKeeper(store, bus, held), threading.Event(), store.update

    def at_length(job: int, **fields: Any) -> JobRow:
        assert slow.wait(20)
        return update(job, **fields)

    monkeypatch.setattr(store, "update", at_length)
    held.change(fps=1.0)
    keeper.touch()  # figures: told soon
    ending = asyncio.ensure_future(keeper.end(state="cancelled"))
    for _ in range(20):  # the moment for the figures passes while the end is on its way to disk
        await asyncio.sleep(0)
    keeper.touch()
    slow.set()
    await ending
    assert told == [("cancelled", "cancelled")]
    store.close()

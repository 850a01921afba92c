"""Are jobs kept, are wrong turns refused, and is a dead engine's work found?"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.identity import ProcessIdentity
from engine.jobs.states import TRANSITIONS, TransitionError
from engine.jobs.store import JobStore, StoreError
from engine.messages import JOB_STATES, JobRow

REQUEST = {"prompt": "一位女性", "size": "384*256"}
PLACE: dict[str, Any] = {"mode": "single", "size": "384*256", "clips": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs.sqlite3"


def dead_identity() -> ProcessIdentity:
    """A process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(child.pid)
    child.communicate(timeout=30)
    assert identity is not None
    return identity


def run_to(store: JobStore, state: str, **fields: Any) -> JobRow:
    row = store.create(REQUEST, **PLACE)
    for step in ("preflight", "loading", "running", "decoding"):
        if row.state == state:
            break
        row = store.update(row.id, state=step)
    return store.update(row.id, **fields) if fields else row


def test_does_a_job_come_back_after_reopening(path: Path) -> None:
    store = JobStore(path)
    row = store.create(REQUEST, **PLACE, ranks=2, plan={"mode": "single"})
    store.update(row.id, state="preflight")
    store.update(row.id, peak_bytes=2**35, fps=20.5, clip=1, output="/tmp/ü.mp4")
    store.close()
    again = JobStore(path)
    found = again.get(row.id)
    assert (found.state, found.ranks, found.peak_bytes, found.fps) == ("preflight", 2, 2**35, 20.5)
    assert found.request == REQUEST
    assert found.started is not None
    assert again.plan(row.id) == {"mode": "single"}
    assert again.notice is None
    assert again.list() == (found,)


def test_which_turns_are_allowed(path: Path) -> None:
    assert set(TRANSITIONS) == set(JOB_STATES)
    store = JobStore(path)
    done = store.update(run_to(store, "decoding").id, state="done")
    assert done.ended is not None
    for state in ("running", "cancelled"):
        with pytest.raises(TransitionError, match=f"done cannot become {state}"):
            store.update(done.id, state=state, peak_bytes=7)
    assert store.get(done.id).peak_bytes is None  # nothing of a refused update is kept
    stopped = store.update(run_to(store, "running").id, state="interrupted", error="rank 1 died")
    assert store.update(stopped.id, state="queued").state == "queued"
    reasons = [entry.detail.get("reason") for entry in store.audits()]
    assert "rank 1 died" in reasons


@pytest.mark.parametrize("state", ["loading", "running", "decoding"])
@pytest.mark.parametrize("then", ["queued", "paused"])
def test_ranks_that_end_at_any_moment_leave_a_job_that_is_tried_again_or_rests(
    path: Path, state: str, then: str
) -> None:
    store = JobStore(path)
    assert store.update(run_to(store, state).id, state=then).state == then


def test_are_unknown_jobs_and_fields_refused(path: Path) -> None:
    store = JobStore(path)
    row = store.create(REQUEST, **PLACE)
    for change in ({"sate": "x"}, {"id": 3}, {"owner_pid": 1}):
        with pytest.raises(StoreError, match="no field"):
            store.update(row.id, **change)
    for call in (store.get, store.plan, store.update):
        with pytest.raises(StoreError, match="no job 99"):
            call(99)


def test_is_the_newest_first_and_can_states_be_chosen(path: Path) -> None:
    store = JobStore(path)
    ids = [store.create(REQUEST, **PLACE).id for _ in range(3)]
    store.update(ids[1], state="preflight")
    assert [row.id for row in store.list()] == ids[::-1]
    assert [row.id for row in store.list(states={"preflight"})] == [ids[1]]
    assert [row.id for row in store.list(limit=1)] == [ids[2]]
    assert store.list(states=()) == ()


def test_is_the_work_of_a_dead_engine_interrupted_and_of_a_living_one_left(path: Path) -> None:
    dead = JobStore(path, owner=dead_identity())
    left = run_to(dead, "running", clip=2)
    waiting = dead.create(REQUEST, **PLACE)
    item = dead.create(REQUEST, **PLACE)
    dead.update(item.id, batch="b1")
    done = dead.update(run_to(dead, "decoding").id, state="done")
    dead.close()
    store = JobStore(path)
    mine = run_to(store, "running")
    claimed = store.claim_stale()
    assert [row.id for row in claimed] == [left.id, waiting.id, item.id]
    assert "while it was running; 2 clips are kept" in (claimed[0].error or "")
    assert (claimed[1].state, claimed[1].error) == ("queued", None), "it goes on waiting here"
    assert "before it started" in (claimed[2].error or ""), "its batch asks for it anew"
    assert store.get(mine.id).state == "running"
    assert store.get(done.id).state == "done"
    assert store.claim_stale() == ()


def test_is_a_killed_engine_s_job_interrupted_when_it_was_last_alive(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("engine.jobs.store.time.time", lambda: clock[0])
    dead = JobStore(path, owner=dead_identity())
    left = run_to(dead, "running")
    clock[0] = 1060.0
    dead.update(left.id, peak_bytes=7)  # the last that was heard of it
    item = dead.create(REQUEST, **PLACE)
    dead.update(item.id, batch="b1")
    dead.close()
    clock[0] = 9000.0
    claimed = {row.id: row.ended for row in JobStore(path).claim_stale()}
    assert claimed == {left.id: 1060.0, item.id: 9000.0}  # what only waited waited until now


def test_is_a_reused_pid_or_another_boot_not_taken_for_the_engine(path: Path) -> None:
    me = ProcessIdentity.of()
    assert me is not None
    assert me.alive
    assert not ProcessIdentity(me.pid, me.start_ticks + 1, me.boot_id).alive
    assert not ProcessIdentity(me.pid, me.start_ticks, "another boot").alive
    assert not dead_identity().alive


def test_can_threads_write_and_another_process_read(path: Path) -> None:
    store = JobStore(path)
    row = store.create(REQUEST, **PLACE)

    def work(number: int) -> None:
        for n in range(20):
            store.update(row.id, spikes=n)
            store.audit("test", number=number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert store.get(row.id).spikes == 19
    code = (
        "import sys; from pathlib import Path; from engine.jobs.store import JobStore\n"
        "print(len(JobStore(Path(sys.argv[1])).audits(limit=1000)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert int(out.stdout) == 81


def test_is_a_damaged_store_set_aside_with_a_word(path: Path) -> None:
    path.parent.mkdir()
    for number in (1, 2):
        path.write_bytes(b"this is no database " * 100)
        store = JobStore(path)
        assert store.notice
        assert f"damaged-{number}" in store.notice
        assert store.list() == ()
        store.close()
        assert path.with_name(f"jobs.sqlite3.damaged-{number}").exists()


def test_is_a_page_torn_in_the_middle_noticed(path: Path) -> None:
    store = JobStore(path)
    for _ in range(200):
        store.create({"prompt": "x" * 500}, **PLACE)
    store.close()
    raw = bytearray(path.read_bytes())
    raw[8192:40960] = b"\xff" * (40960 - 8192)
    path.write_bytes(raw)
    again = JobStore(path)
    assert again.notice
    assert again.create(REQUEST, **PLACE).id == 1


def test_is_a_locked_store_told_not_thrown_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.jobs.store._BUSY_SECONDS", 0.05)
    store = JobStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="another process has held it"):
        store.create(REQUEST, **PLACE)
    other.execute("ROLLBACK")
    other.close()
    assert store.create(REQUEST, **PLACE).id == 1


def test_is_a_newer_store_left_alone(path: Path) -> None:
    JobStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer avatop"):
        JobStore(path)
    assert not list(path.parent.glob("*.damaged-*"))


def test_what_is_said_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="AVATOP_STATE_DIR"):
        JobStore(tmp_path / "file" / "jobs.sqlite3")

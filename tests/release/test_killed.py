"""Killed by ``kill -9`` before any statement: is what stands there the state before, or after?"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.store import JobStore
from engine.messages import JobRow
from engine.parameters.request import Request
from engine.preflight import Prepared
from engine.release.assign import Assigner
from engine.release.model import Release
from engine.release.store import ReleaseStore
from tests.engine.plans import plan
from tests.release.world import FORECAST, settings

Step = Callable[[ReleaseStore], object]
OLD = Release("1.0", {"ckpt_dir": "/m/old"})
NEW = Release("1.1", {"ckpt_dir": "/m/old"}, parameters={"sample_shift": 2.0})


def _claim(store: ReleaseStore) -> object:
    row = store.jobs.list()[0]
    request = Request.from_dict(row.request)
    prepared = Prepared(request, None, plan(1), FORECAST, ())  # type: ignore[arg-type]
    return Assigner(store, settings()).claim(row, prepared)


def _rollout(store: ReleaseStore) -> Any:
    now = store.rollout()
    assert now is not None
    return now


STEPS: dict[str, tuple[Step, Step]] = {
    "add": (lambda s: None, lambda s: s.add(OLD, {"/c": b"x"}, "ana")),
    "first stable": (lambda s: s.add(OLD, {}, "ana"), lambda s: s.set_first_stable(OLD, "ana")),
    "start": (
        lambda s: (s.add(OLD, {}, "a"), s.set_first_stable(OLD, "a"), s.add(NEW, {}, "a")),
        lambda s: s.begin(NEW, "ana", automatic=True),
    ),
    "claim": (
        lambda s: (_started(s), s.move(_rollout(s), "stage", "p", stage=3), _job(s)),
        _claim,
    ),
    "stage": (lambda s: _started(s), lambda s: s.move(_rollout(s), "stage", "policy", stage=1)),
    "rollback": (
        lambda s: (_started(s), s.move(_rollout(s), "stage", "p", stage=3), _job(s), _claim(s)),
        lambda s: s.withdraw("policy", "breach", {"running": "requeue"}),
    ),
    "promote": (lambda s: _started(s), lambda s: s.promote(_rollout(s), "policy", "held")),
    "rollback after promote": (
        lambda s: (_started(s), s.promote(_rollout(s), "policy", "held")),
        lambda s: s.withdraw("ana", "odd", {"running": "finish"}),
    ),
}


def _started(store: ReleaseStore) -> None:
    store.add(OLD, {}, "a")
    store.set_first_stable(OLD, "a")
    store.add(NEW, {}, "a")
    store.begin(NEW, "a", automatic=True)


def _job(store: ReleaseStore) -> JobRow:
    request = Request(image="/i", audio="/a", ckpt_dir="/m/old").to_dict()
    return store.jobs.create(request, mode="single", size="64*64", clips=4)


def _picture(path: Path) -> dict[str, Any]:
    """Everything that releases and jobs consist of."""
    with sqlite3.connect(path) as db:
        tables = ("releases", "release_blobs", "release_pointers", "release_rollouts",
                  "release_jobs", "release_log", "jobs")  # fmt: skip
        return {name: db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}


@pytest.mark.parametrize("name", list(STEPS))
def test_R1_R6_killed_before_any_statement_it_is_all_or_nothing(name: str, tmp_path: Path) -> None:
    before, step = STEPS[name]
    base, whole_path = tmp_path / "base.sqlite3", tmp_path / "whole.sqlite3"
    jobs = _opened(base)
    before(ReleaseStore(jobs, clock=lambda: 5.0))
    jobs.close()
    start = _picture(base)
    shutil.copy(base, whole_path)
    jobs = _opened(whole_path)
    step(ReleaseStore(jobs, clock=lambda: 5.0))
    jobs.close()
    done = _picture(whole_path)
    seen = []
    for deadly in range(1, 60):
        path = tmp_path / f"{deadly}.sqlite3"
        shutil.copy(base, path)
        killed = _run(path, step, deadly)
        JobStore(path).close()  # what a restarted engine does first
        after = _picture(path)
        seen.append(after != start)
        if not killed:
            break
        assert after in (start, done), f"half of {name} before statement {deadly}"
    assert not killed
    assert seen[-1]  # undisturbed, it does something
    assert not seen[0]
    assert len(seen) > 3


def _opened(path: Path) -> JobStore:
    """A killed process loses nothing that it gave to the kernel: waiting for the disk is not asked
    about here."""
    jobs = JobStore(path)
    with jobs.reading() as db:
        db.execute("PRAGMA synchronous = OFF")
    return jobs


def _run(path: Path, step: Step, deadly: int) -> bool:
    """Do a step in a child that is killed before its n-th statement; whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def each(_: str) -> None:
            nonlocal count
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        jobs = _opened(path)
        with jobs.reading() as db:
            db.set_trace_callback(each)
        step(ReleaseStore(jobs, clock=lambda: 5.0))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_R6_the_log_of_releases_is_append_only(tmp_path: Path) -> None:
    jobs = JobStore(tmp_path / "jobs.sqlite3")
    _started(ReleaseStore(jobs))
    jobs.close()
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as db:
        for statement in ("DELETE FROM release_log", "UPDATE release_log SET who = 'x'"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)

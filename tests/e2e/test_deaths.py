"""What is left, and what is told, when something dies or is stopped in the middle of a job?"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine.guard.limits import Limits
from engine.messages import (
    BlockDone,
    Cancel,
    ClipCommitted,
    Event,
    FindingRaised,
    Finish,
    LogLine,
    RankChanged,
    StepDone,
    StopEngine,
)
from tests.e2e.harness import (
    PATIENCE,
    Driven,
    argv,
    engine_under,
    gone,
    job_flags,
    promptly,
    ranks_of,
    start_cli,
    until,
)

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("e2e")]

LONG = {"mode": "fsdp", "num_clip": 50, "audio": None}


def _steps(job: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StepDone) and event.job == job


@pytest.fixture(scope="module")
def long_audio(inputs: Path) -> Path:
    """A voice long enough that no test sees its job end by itself."""
    from tests.bad_inputs import voice, write_wav

    path = inputs / "long.wav"
    write_wav(path, voice(60.0, 16_000), 16_000)
    return path


def _ranks(engine: Driven, job: int) -> list[psutil.Process]:
    born = [e for e in engine.seen if isinstance(e, RankChanged) and e.job == job]
    return [psutil.Process(pid) for pid in sorted({e.pid for e in born if e.pid})]


def test_a_killed_rank_interrupts_its_job_and_the_next_one_runs(
    engine: Driven, inputs: Path, long_audio: Path
) -> None:
    job = engine.submit(job_flags(inputs, **{**LONG, "audio": long_audio}))
    engine.wait(lambda e: isinstance(e, ClipCommitted) and e.job == job)
    ranks = _ranks(engine, job)
    assert len(ranks) == 2

    ranks[1].send_signal(signal.SIGKILL)
    row = promptly(lambda: engine.row(job, "interrupted"), seconds=2.0)

    assert gone(ranks)
    assert row.error is not None
    assert "rank 1" in row.error
    assert "SIGKILL" in row.error
    assert row.clip >= 1
    assert f"{row.clip} clip" in row.error
    lines = [e for e in engine.seen if isinstance(e, LogLine) and e.level == "ERROR"]
    assert any(f"process {ranks[1].pid}" in line.text for line in lines)
    assert "rank 1" in engine.places.log.read_text()
    segments = engine.places.job(job).segments
    assert len(list(segments.glob("clip_*.mp4"))) == row.clip
    assert not list(segments.glob("*.part"))

    following = engine.submit(job_flags(inputs, mode="single", num_clip=1))
    assert engine.row(following, "done", "failed", "interrupted").state == "done"


def test_a_rank_that_stands_still_is_given_up_and_its_group_s_stacks_are_kept(
    engine: Driven, inputs: Path, long_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.services, "limits", Limits(silence=3.0))
    job = engine.submit(job_flags(inputs, **{**LONG, "audio": long_audio, "infer_frames": 480}))
    engine.wait(_steps(job))
    ranks = _ranks(engine, job)
    ranks[0].suspend()
    row = engine.row(job, "interrupted")
    assert row.error is not None
    assert "rank 0 has not been heard of" in row.error
    assert gone(ranks)
    # Rank 0 cannot tell where it stands; rank 1, which waits for it, can.
    folder = engine.places.incidents / f"job-{job:06d}-1"
    assert "most recent call first" in (folder / "stacks-rank1.txt").read_text()
    incident = json.loads((folder / "incident.json").read_text())
    assert incident["stacks_of"] == [1]
    assert incident["ranks"]["0"]["result"] == "stopped"
    (finding,) = [e for e in engine.seen if isinstance(e, FindingRaised) and e.job == job]
    assert (finding.finding, finding.rank) == ("hang_no_progress", 0)
    assert str(folder) in finding.evidence[0]
    assert any("rank 1: File" in line for line in finding.evidence)
    told = [e.text for e in engine.seen if isinstance(e, LogLine) and e.job == job]
    assert any(str(folder) in text for text in told)


def test_cancelling_before_anything_is_committed_leaves_nothing(
    engine: Driven, inputs: Path, long_audio: Path
) -> None:
    flags = job_flags(inputs, **{**LONG, "audio": long_audio, "infer_frames": 480})
    job = engine.submit(flags)
    engine.wait(_steps(job))
    ranks = _ranks(engine, job)
    assert engine.ask(Cancel(job=job, reason="wrong portrait")).ok
    row = engine.row(job, "cancelled")
    assert row.error == "wrong portrait"
    assert row.clip == 0
    assert gone(ranks)
    assert not engine.places.job(job).folder.exists()
    again = engine.ask(Cancel(job=job))
    assert not again.ok
    assert "cancelled" in again.message


def test_jobs_wait_their_turn_and_a_waiting_one_can_be_cancelled(
    engine: Driven, inputs: Path, long_audio: Path
) -> None:
    # Long enough that its end does not come before the others are there, however slow that is.
    long = {"mode": "single", "num_clip": 50, "audio": long_audio}
    first = engine.submit(job_flags(inputs, **long))
    second, third = (
        engine.submit(job_flags(inputs, mode="single", num_clip=1, base_seed=seed))
        for seed in (2, 3)
    )
    assert engine.ask(Cancel(job=second)).state == "cancelled"
    engine.wait(lambda e: isinstance(e, ClipCommitted) and e.job == first)
    assert engine.ask(Finish(job=first)).ok
    assert engine.row(first, "done", "failed", "interrupted").state == "done"
    began = [e.job for e in engine.seen if isinstance(e, BlockDone) and e.job >= first]
    assert set(began) == {first}
    assert engine.row(third, "done", "failed", "interrupted").state == "done"


def test_an_engine_that_stops_after_the_clip_keeps_what_is_made(
    tmp_path: Path, inputs: Path, long_audio: Path
) -> None:
    with engine_under(tmp_path) as engine:
        job = engine.submit(job_flags(inputs, **{**LONG, "audio": long_audio}))
        engine.wait(_steps(job))
        assert engine.ask(StopEngine(after_clip=True)).ok
        row = engine.row(job, "interrupted")
        assert engine.client.engine.join(PATIENCE)
    assert 1 <= row.clip < row.clips
    assert row.manifest is not None
    assert Path(row.manifest).exists()


def test_killing_the_command_leaves_no_rank(tmp_path: Path, inputs: Path, long_audio: Path) -> None:
    flags = job_flags(inputs, **{**LONG, "audio": long_audio})
    command = start_cli(["run", *argv(flags)], tmp_path)
    try:
        ranks = until(lambda: len(found := ranks_of(command.pid)) == 2 and found)
        below = psutil.Process(command.pid).children(recursive=True)
        command.kill()
        command.wait(PATIENCE)
        promptly(lambda: gone([*ranks, *below]), seconds=2.0)
    finally:
        command.kill()
        command.communicate()
    with engine_under(tmp_path) as engine:  # the next engine says what became of it
        snapshot = engine.client.snapshot().result(PATIENCE)
    (row,) = snapshot.jobs
    assert row.state == "interrupted"
    assert row.error is not None
    assert f"pid {command.pid}" in row.error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_leaves_in_order(
    tmp_path: Path, inputs: Path, long_audio: Path, number: signal.Signals
) -> None:
    flags = job_flags(inputs, **{**LONG, "audio": long_audio})
    command = start_cli(["run", "--json", *argv(flags)], tmp_path)
    try:
        ranks = until(lambda: len(found := ranks_of(command.pid)) == 2 and found)
        os.kill(command.pid, signal.SIGHUP)  # a hang-up changes nothing
        os.kill(command.pid, number)
        out, err = command.communicate(timeout=PATIENCE)
    finally:
        command.kill()
    assert command.returncode == 130, err
    assert "Traceback" not in err
    assert f"interrupted by {number.name}" in err
    assert '"state": "cancelled"' in out
    assert gone(ranks)
    with sqlite3.connect(tmp_path / "state" / "jobs.sqlite3") as store:
        assert store.execute("SELECT state FROM jobs").fetchall() == [("cancelled",)]

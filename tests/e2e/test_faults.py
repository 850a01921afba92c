"""Does a job survive a fault by itself, and stop in time where going on would harm?"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine.guard.limits import Limits
from engine.messages import (
    BlockDone,
    Cancel,
    CheckpointChanged,
    ClipCommitted,
    Event,
    FindingRaised,
    JobChanged,
    LogLine,
    PlanChanged,
    RankChanged,
    StepDone,
)
from tests.bad_inputs import voice, write_wav
from tests.e2e.harness import Driven, gone, job_flags
from tests.tiny import tiny_ckpt

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("e2e")]


@pytest.fixture(scope="module")
def long_audio(inputs: Path) -> Path:
    path = inputs / "faults.wav"
    write_wav(path, voice(60.0, 16_000), 16_000)
    return path


def _of(kind: type[Event], job: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and getattr(event, "job", None) == job


def _ranks(engine: Driven, job: int) -> list[psutil.Process]:
    born = [e for e in engine.seen if isinstance(e, RankChanged) and e.job == job]
    return [psutil.Process(pid) for pid in sorted({e.pid for e in born if e.pid})]


def _states(engine: Driven, job: int) -> list[str]:
    told = [e.job.state for e in engine.seen if isinstance(e, JobChanged) and e.job.id == job]
    return [s for n, s in enumerate(told) if n == 0 or told[n - 1] != s]


def test_a_killed_rank_s_job_goes_on_by_itself_and_tells_what_happened(
    engine: Driven, inputs: Path
) -> None:
    job = engine.submit(job_flags(inputs, mode="fsdp", retries=1))
    engine.wait(_of(StepDone, job))
    ranks = _ranks(engine, job)
    ranks[1].send_signal(signal.SIGKILL)
    row = engine.row(job, "done", "failed", "interrupted")
    assert (row.state, row.attempt, row.clip) == ("done", 2, 2)
    assert row.error is None
    assert gone(ranks)
    states = _states(engine, job)
    assert "interrupted" not in states  # it had not ended: nobody needs to look
    assert states.count("loading") == 2
    retold = [e for e in engine.seen if isinstance(e, PlanChanged) and e.job == job]
    assert retold[0].reason == "relaunch"
    assert "SIGKILL" in retold[0].change
    audit = [a for a in engine.services.store.audits() if a.action == "retry"]
    assert audit[0].detail["job"] == job
    told = [e.text for e in engine.seen if isinstance(e, LogLine) and e.job == job]
    assert any(text.startswith("attempt 2 of 2: a rank was ended by SIGKILL") for text in told)


def test_a_job_that_makes_no_block_in_time_is_ended_with_every_rank_s_stacks_kept(
    engine: Driven, inputs: Path, long_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = Limits(block_floor=0.01, block_factor=0.0)
    monkeypatch.setattr(engine.services, "limits", hasty)
    job = engine.submit(job_flags(inputs, mode="fsdp", num_clip=50, audio=long_audio))
    row = engine.row(job, "interrupted", "failed", "done")
    assert (row.state, row.attempt) == ("interrupted", 1)
    assert row.error is not None
    assert "no block for" in row.error
    folder = engine.places.incidents / f"job-{job:06d}-1"
    stacks = [(folder / f"stacks-rank{rank}.txt").read_text() for rank in (0, 1)]
    assert all("most recent call first" in text for text in stacks)
    hangs = [e for e in engine.seen if isinstance(e, FindingRaised) and e.job == job]
    assert "hang_no_progress" in {e.finding for e in hangs}
    told = [e.text for e in engine.seen if isinstance(e, LogLine) and e.job == job]
    assert "not tried again: retries are off (--retries 0)" in told


def test_a_disk_that_is_nearly_full_stops_the_job_before_a_clip_is_torn(
    engine: Driven, inputs: Path, long_audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = engine.submit(job_flags(inputs, mode="single", num_clip=50, audio=long_audio))
    engine.wait(_of(ClipCommitted, job))
    night = engine.services.night
    monkeypatch.setattr(night, "usage", lambda path: SimpleNamespace(free=5_000_000))
    row = engine.row(job, "interrupted", "failed", "done")
    assert row.state == "interrupted"
    assert row.error is not None
    assert "(5000000 bytes)" in row.error
    assert row.clip >= 1
    found = [e for e in engine.seen if isinstance(e, FindingRaised) and e.job == job]
    full = next(e for e in found if e.finding == "disk_full")
    assert "free_disk" in {r.action for r in full.remedies}


def test_a_checkpoint_that_changes_under_a_job_is_told_and_the_job_pauses(
    engine: Driven, inputs: Path, long_audio: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ckpt"
    shutil.copytree(tiny_ckpt(), folder)
    flags = {"mode": "single", "num_clip": 50, "audio": long_audio, "ckpt_dir": folder}
    job = engine.submit(job_flags(inputs, **flags))
    engine.wait(_of(BlockDone, job))
    engine.wait(lambda e: job in engine.services.night.watched)
    (shard, *_) = sorted(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes())
    changed = engine.wait(lambda e: isinstance(e, CheckpointChanged))
    assert isinstance(changed, CheckpointChanged)
    assert (changed.folder, changed.files, changed.jobs) == (str(folder), (shard.name,), (job,))
    row = engine.row(job, "paused", "interrupted", "failed", "done")
    assert row.state == "paused"
    assert row.error is not None
    assert f"{shard.name} of {folder} changed on disk" in row.error
    assert engine.ask(Cancel(job=job)).ok

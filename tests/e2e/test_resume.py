"""Does a job go on to the same bytes after deaths, pauses and switches, and is it told?"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import runner
from engine.jobs.kept import ENVIRONMENT
from engine.jobs.store import JobStore
from engine.messages import (
    ClipCommitted,
    Finish,
    LogLine,
    Mirror,
    Pause,
    PlanChanged,
    RankChanged,
    Resume,
    Switch,
)
from engine.outcome import read_result
from tests.bad_inputs import voice, write_wav
from tests.e2e.gone_on import Whole, changed, digests, made, same, undisturbed
from tests.e2e.harness import PATIENCE, Driven, argv, engine_under, job_flags, start_cli, until

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.xdist_group("e2e"),
]

#: Clips of one block: there is always a boundary soon.
CLIPS = 16


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    folder = tmp_path_factory.mktemp("resume")
    patch = pytest.MonkeyPatch()
    patch.setenv(ENVIRONMENT, str(folder / "mirrors"))
    with engine_under(folder) as engine:
        yield engine
    patch.undo()


@pytest.fixture(scope="module")
def flags(inputs: Path) -> dict[str, str]:
    audio = inputs / "minute.wav"
    write_wav(audio, voice(CLIPS * 0.48 + 1, 16_000), 16_000)
    return job_flags(inputs, audio=audio, infer_frames=12, num_clip=CLIPS, retries=0)


@pytest.fixture(scope="module")
def whole(driven: Driven, flags: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(driven, flags, tmp_path_factory.mktemp("whole"))


def test_a_group_killed_whole_goes_on_under_its_number(
    driven: Driven, flags: dict[str, str], whole: Whole
) -> None:
    job = driven.submit({**flags, "mode": "tpp", "num_gpus_dit": "2"})
    driven.wait(made(job, 4))
    born = {e.pid for e in driven.seen if isinstance(e, RankChanged) and e.job == job}
    for process in [psutil.Process(pid) for pid in born if psutil.pid_exists(pid)]:
        process.kill()
    row = driven.row(job, "interrupted", "failed", "done")
    assert (row.state, row.resumable) == ("interrupted", "mirror")
    assert driven.ask(Resume(job=job)).ok
    told = driven.wait(changed(job))
    assert isinstance(told, PlanChanged)
    assert told.reason == "resume"
    row = same(driven, job, whole)
    assert row.attempt == 2
    assert row.resumable is None


def test_a_paused_job_leaves_the_host_and_goes_on(
    driven: Driven, flags: dict[str, str], whole: Whole
) -> None:
    job = driven.submit({**flags, "mode": "fsdp", "num_gpus_dit": "2", "mirror": "off"})
    driven.wait(made(job, 1))
    assert driven.ask(Mirror(job=job)).state == "refused"
    assert driven.ask(Pause(job=job)).ok
    row = driven.row(job, "paused", "failed", "done")
    assert (row.state, row.resumable) == ("paused", "mirror")
    assert not driven.ask(Resume(job=job, how="sideways")).ok
    refused = driven.ask(Switch(job=job, changes={"mode": "single", "dtype": "bf16"}))
    assert "alter the output" in refused.message
    told = driven.ask(Switch(job=job, changes={"mode": "single"}))
    assert (told.ok, told.state) == (True, "paused"), told.message
    assert driven.ask(Resume(job=job)).ok
    driven.wait(changed(job))
    row = same(driven, job, whole)
    assert (row.attempt, row.mode) == (1, "single")


def test_a_rank_that_dies_while_its_job_is_to_pause_leaves_it_paused(
    driven: Driven, flags: dict[str, str], whole: Whole
) -> None:
    job = driven.submit({**flags, "retries": "2"})
    driven.wait(made(job, 2))
    pid = next(e.pid for e in driven.seen if isinstance(e, RankChanged) and e.job == job and e.pid)
    os.kill(pid, signal.SIGSTOP)  # no boundary comes any more
    assert driven.ask(Pause(job=job)).ok
    os.kill(pid, signal.SIGKILL)
    row = driven.row(job, "paused", "interrupted", "done")
    assert (row.state, row.attempt, row.resumable) == ("paused", 1, "mirror")
    assert "SIGKILL" in str(row.error)
    assert not list(Path(os.environ[ENVIRONMENT]).iterdir())
    assert driven.ask(Resume(job=job)).ok
    same(driven, job, whole)


def test_state_is_copied_to_disk_and_other_weights_never_go_on_from_it(
    driven: Driven, flags: dict[str, str], whole: Whole, tmp_path: Path
) -> None:
    ckpt = Path(shutil.copytree(flags["ckpt_dir"], tmp_path / "ckpt"))
    job = driven.submit({**flags, "ckpt_dir": str(ckpt)})
    driven.wait(made(job, 2))
    reply = driven.ask(Mirror(job=job))
    assert reply.ok, reply.message
    assert reply.data["bytes"] > 0
    assert driven.ask(Pause(job=job)).ok
    driven.row(job, "paused")
    assert not list(Path(os.environ[ENVIRONMENT]).iterdir())
    shard = next(ckpt.glob("diffusion_*.safetensors"))
    kept = shard.read_bytes()
    shard.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))  # no header tells
    for how in ("auto", "mirror", "replay"):
        refused = driven.ask(Resume(job=job, how=how))
        assert (refused.ok, refused.state) == (False, "refused")
        assert "files have changed" in refused.message
    shard.write_bytes(kept)
    assert driven.ask(Resume(job=job, how="mirror")).ok
    same(driven, job, whole)


def test_a_seam_is_announced(driven: Driven, flags: dict[str, str]) -> None:
    job = driven.submit({**flags, "mirror": "off"})
    driven.wait(lambda e: isinstance(e, ClipCommitted) and e.job == job and e.clip == 3)
    pids = [e.pid for e in driven.seen if isinstance(e, RankChanged) and e.job == job]
    os.kill(pids[-1], signal.SIGKILL)
    row = driven.row(job, "interrupted", "done")
    assert row.resumable == "replay"
    reply = driven.ask(Resume(job=job, how="mirror"))
    assert not reply.ok
    assert "nothing was kept" in reply.message
    before = digests(driven, job)
    assert driven.ask(Resume(job=job, how="seam")).ok
    row = driven.row(job, "done", "failed", "interrupted")
    assert row.state == "done", row.error
    manifest = json.loads((driven.places.job(job).segments / "manifest.json").read_text())
    assert [seam["clip"] for seam in manifest["seams"]] == [len(before)]
    assert digests(driven, job)[: len(before)] == before
    assert len(digests(driven, job)) == CLIPS


def test_what_is_committed_can_be_joined_before_its_time_also_unmirrored(
    driven: Driven, flags: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "a-file"))
    (tmp_path / "a-file").write_text("no folder can be made here")
    job = driven.submit({**flags, "mirror": "on"})
    told = driven.wait(lambda e: isinstance(e, LogLine) and "are not mirrored" in e.text)
    assert isinstance(told, LogLine)
    assert "a-file" in told.text
    driven.wait(lambda e: isinstance(e, ClipCommitted) and e.job == job and e.clip == 2)
    driven.ask(Pause(job=job))  # what is asked for last holds
    assert driven.ask(Finish(job=job)).ok
    row = driven.row(job, "done", "failed", "interrupted")
    assert row.state == "done", row.error
    assert row.clip >= 3
    assert Path(str(row.output)).stat().st_size > 0
    assert read_result(driven.places.job(job), row)["frames"] == 12 * row.clip - 3


def test_a_switch_that_fails_leaves_the_job_in_its_old_mode(
    driven: Driven,
    flags: dict[str, str],
    whole: Whole,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs = runner.rank_specs

    def broken(job: int, prepared: Any, *rest: Any) -> Any:
        every = specs(job, prepared, *rest)
        for spec in every if prepared.plan.mode == "fsdp" else ():
            spec.layout["vae"] = "/nowhere/vae.pth"
        return every

    monkeypatch.setattr(runner, "rank_specs", broken)
    job = driven.submit({**flags, "mode": "single"})
    driven.wait(made(job, 1))
    refused = driven.ask(Switch(job=job, changes={"mode": "tpp", "dtype": "bf16"}))
    assert not refused.ok
    assert "alter the output" in refused.message
    assert driven.ask(Switch(job=job, changes={"mode": "fsdp", "num_gpus_dit": 2})).ok
    told = driven.wait(lambda e: isinstance(e, LogLine) and "the switch to fsdp failed" in e.text)
    assert isinstance(told, LogLine)
    assert "goes on in mode single" in told.text
    assert same(driven, job, whole).mode == "single"


def test_an_engine_killed_with_its_ranks_leaves_a_job_that_goes_on(
    tmp_path: Path, inputs: Path, flags: dict[str, str], whole: Whole
) -> None:
    run = start_cli(["run", "--json", *argv(flags)], tmp_path)
    segments = tmp_path / "state" / "jobs" / "000001" / "segments"
    until(lambda: (segments / "clip_0002.mp4").exists() or run.poll() is not None)
    run.kill()
    run.wait(PATIENCE)

    def ask(*args: str) -> Any:
        process = start_cli([*args, "--json"], tmp_path)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        return json.loads(out)

    assert ask("switch", "1", "--mode", "offload")["state"] == "interrupted"
    assert ask("resume", "1")["state"] == "queued"
    over = ("done", "failed")
    with closing(JobStore(tmp_path / "state" / "jobs.sqlite3")) as store:  # no process per question
        until(lambda: store.get(1).state in over)
    (row,) = ask("jobs")["jobs"]
    assert (row["state"], row["mode"]) == ("done", "offload"), row["error"]
    result = json.loads((tmp_path / "state" / "jobs" / "000001" / "result.json").read_text())
    assert result["latents_sha256"] == whole.latents(CLIPS)
    assert not list((tmp_path / "mirrors").iterdir())

"""Does `avatop run --command` go the way of every job: queue, rows, result, exit code?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.media.join import join
from engine.resources import sample_data
from tests.media import makers

PROGRAMS = Path(__file__).with_name("programs.py")


def avatop(folder: Path, what: str, *flags: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "console", "run", "--json", "--gpus", "cpu"]
    command = f"{sys.executable} {PROGRAMS} {what}"
    env = os.environ | {
        "AVATOP_STATE_DIR": str(folder / "state"),
        "GOOD_VIDEO": str(folder / "good.mp4"),
    }
    return subprocess.run(
        [*words, "--command", command, "--output", str(folder / "out.mp4"), *flags],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clip = makers.segment(tmp_path / "clip.mp4", makers.numbered(0, 25))
    join([clip], sample_data() / "speech" / "english.wav", tmp_path / "good.mp4")
    return tmp_path


def test_B7_a_good_command_is_a_done_job_and_its_video_is_handed_on(folder: Path) -> None:
    done = avatop(folder, "good", "--post-command", "cp {output} {output}.{name}-{job}.copy")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["post_error"] is None
    assert (folder / "out.mp4.out-1.copy").read_bytes() == (folder / "out.mp4").read_bytes()
    assert (told["state"], told["kind"], told["mode"]) == ("done", "command", "command")
    assert (folder / "out.mp4").exists()
    jobs = subprocess.run(
        [sys.executable, "-m", "console", "jobs", "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"AVATOP_STATE_DIR": str(folder / "state")},
        check=True,
    )
    assert json.loads(jobs.stdout)["jobs"][0]["state"] == "done"


def test_a_failing_command_is_retried_by_its_cause_and_exits_1(folder: Path) -> None:
    failed = avatop(folder, "oom", "--retries", "1")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["state"] == "failed"
    assert "memory" in failed.stderr
    passing = avatop(folder, "taken_port", "--retries", "1")
    assert passing.returncode == 0, passing.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--profile", "dokcer"), "Did you mean docker"),
        (("--image", "missing.png"), "does not exist"),
    ],
)
def test_bad_usage_is_told_before_anything_starts(
    folder: Path, flags: tuple[str, ...], says: str
) -> None:
    words = [sys.executable, "-m", "console", "run", "--gpus", "cpu"]
    if "--profile" not in flags:
        words += ["--command", "true"]
    done = subprocess.run(
        [*words, *flags],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"AVATOP_STATE_DIR": str(folder / "state")},
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr


def test_B7_a_post_command_that_fails_is_told_and_the_video_stays(folder: Path) -> None:
    done = avatop(folder, "good", "--post-command", "ls {sha256}/nowhere")
    assert done.returncode == 1
    assert "nowhere" in json.loads(done.stdout)["post_error"]
    assert "the video is kept" in done.stderr
    assert (folder / "out.mp4").exists()
    wrong = avatop(folder, "good", "--post-command", "cp {output} {nothing}")
    assert wrong.returncode == 2
    assert "no placeholder" in wrong.stderr

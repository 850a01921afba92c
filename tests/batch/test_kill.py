"""Killed at any step and started again: is nothing done twice, and nothing left half?"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.batch.keys import file_digest
from engine.batch.publish import WORK, sidecar_of
from engine.batch.rows import BatchRow, ItemRow
from engine.batch.store import BatchStore
from engine.jobs.store import JobStore
from tests.batch.bench import make_pair
from tests.e2e.harness import ROOT, environment

#: Steps of the protocol, and how often an item is rendered in all when its engine dies there.
STEPS = {
    "frozen": 1,
    "claimed": 1,  # before it was submitted
    "submitted": 2,
    "rendered": 2,
    "verified": 2,
    "synced": 2,
    "noted": 2,
    "sidecar": 2,  # the sidecar has its name, the video has not
    "linked": 1,  # both have: adopted
    "published": 1,
    "done": 1,
    "posted": 1,  # the post-command ran, and that is not kept yet
    "post": 1,
}
KILLED = -signal.SIGKILL


class Runs:
    """The process that forks a run for each line."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.batch.child"],
            cwd=ROOT,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder: Path, step: str = "", name: str = "") -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder}\t{step}\t{name}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    found = Runs(tmp_path_factory.mktemp("runs"))
    yield found
    found.process.communicate(timeout=30)


def _kept(folder: Path) -> tuple[BatchRow, dict[str, ItemRow]]:
    jobs = JobStore(folder / "state" / "jobs.sqlite3")
    store = BatchStore(jobs)
    (row,) = store.batches()
    items = {item.name: item for item in store.items(row.id)}
    jobs.close()
    return row, items


@pytest.mark.parametrize("step", STEPS)
def test_B1_a_batch_killed_at_any_step_ends_with_every_video_once(
    step: str, runs: Runs, tmp_path: Path
) -> None:
    for name in ("other", "victim"):
        make_pair(tmp_path, name)
    assert runs(tmp_path, step, "" if step == "frozen" else "victim") == KILLED
    assert runs(tmp_path) == 0

    row, items = _kept(tmp_path)
    assert row.state == "done"
    out = tmp_path / "out"
    assert not (out / WORK).exists()
    for name, item in items.items():
        video = out / f"{name}.mp4"
        facts = json.loads(sidecar_of(video).read_text())
        assert facts["key"] == item.key
        assert facts["sha256"] == item.sha256 == file_digest(video)
        assert (item.state, item.attempts) == ("done", 1)  # a dead engine is no try of theirs
    renders = Counter((tmp_path / "renders").read_text().split())
    assert renders["victim"] == STEPS[step]
    assert renders["other"] in (1, 2)  # it may have been under way in the other pool
    posted = Counter((out / "posted").read_text().split())
    assert posted["other"] >= 1
    assert posted["victim"] == (2 if step == "posted" else 1)
    assert len(list(out.glob("*.mp4"))) == 2


def test_B1_an_item_under_which_two_engines_died_is_set_apart(runs: Runs, tmp_path: Path) -> None:
    make_pair(tmp_path, "murder")
    assert runs(tmp_path, "submitted", "murder") == KILLED
    make_pair(tmp_path, "too late")  # the manifest is frozen: this one is not in it
    assert runs(tmp_path, "submitted", "murder") == KILLED
    assert runs(tmp_path) == 0
    row, items = _kept(tmp_path)
    assert row.state == "failed"
    assert list(items) == ["murder"]
    assert (items["murder"].state, items["murder"].crashes) == ("quarantined", 2)
    assert "died 2 times" in str(items["murder"].error)

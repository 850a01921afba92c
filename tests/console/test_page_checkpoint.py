"""What are the weights made of, are they whole, and did somebody change them?"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.screens.checkpoint import CheckpointPage
from console.screens.working import Working
from engine.messages import CheckpointChanged, FindingRaised, JobChanged, Remedy
from tests.console.conftest import Console, Opener
from tests.console.fake_client import T0, Stage, job

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "ckpt"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The sample's DiT alone: nothing in it needs a child process."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in (*SAMPLE.glob("diffusion*"), SAMPLE / "config.json"):
        shutil.copy(file, folder)
    return folder


async def waited(console: Console, ready: Callable[[], bool]) -> None:
    """Until a thread's answer has arrived."""
    for _ in range(1000):
        await console.pilot.pause(0.01)
        if ready():
            break
    assert ready()
    await console.pilot.pause()


async def on_page(console: Console, weights: Path) -> CheckpointPage:
    """The page over a running job's checkpoint."""
    now = console.app.clock()
    row = job(17, request={"ckpt_dir": str(weights)}, started=now)
    await console.play([JobChanged(job=row, t=T0 + 20)])
    await console.press("6")
    page = console.app.page
    assert isinstance(page, CheckpointPage)
    await waited(console, lambda: page.details.weights is not None and not page.busy)
    return page


async def test_components_shards_and_tensors_of_the_jobs_checkpoint(
    opened: Opener, weights: Path
) -> None:
    async with opened(Stage(gpus=1), size=(120, 60)) as console:
        page = await on_page(console, weights)
        found = page.details.weights
        assert found is not None
        assert found.inspection is not None
        assert found.place.folder == str(weights)
        assert [c.name for c in found.inspection.components] == ["dit"]
        assert len(found.tensors) == found.inspection.components[0].tensors
        text = console.text()
        assert "audio injector" in text
        assert "Missing" in text
        assert "2 shards" in text


async def test_tensors_are_searched_by_name_and_size(opened: Opener, weights: Path) -> None:
    async with opened(Stage(gpus=1)) as console:
        page = await on_page(console, weights)
        await console.press("slash", *"head", "enter")
        names = [row.name for row in page.table.shown()]
        assert names
        assert all("head" in name for name in names)
        page.table.words = "size>100kib"
        page.table.update()
        assert {row.bytes > 100 * 1024 for row in page.table.shown()} == {True}


async def test_a_verification_names_what_is_wrong_and_the_remedy(
    opened: Opener, weights: Path
) -> None:
    (weights / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    async with opened(Stage(gpus=1), size=(80, 24)) as console:
        page = await on_page(console, weights)
        await console.press("v")
        await waited(console, lambda: page.details.verdict is not None)
        assert "missing shard" in console.text()  # seen without scrolling
        verdict, deep, _when = page.details.verdict or pytest.fail("no verdict")
        assert not verdict.ok
        assert not deep
        problems = [finding.problem for finding in verdict.findings]
        assert "missing shard" in problems
        assert any("unusable" in notice.text for notice in console.app.notices.said)


async def test_reading_every_value_can_be_cancelled(
    opened: Opener, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_layout: object, *, deep: bool, told: Callable[[float, str], None]) -> Any:
        assert deep
        pace = threading.Event()
        while True:
            told(0.5, "a shard")
            pace.wait(0.01)

    monkeypatch.setattr("console.screens.checkpoint.verify", slow)
    async with opened(Stage(gpus=1)) as console:
        page = await on_page(console, weights)
        await console.press("V")
        work = console.app.screen
        assert isinstance(work, Working)
        await waited(console, lambda: work.report.part == 0.5)
        await console.press("escape")
        await waited(console, lambda: console.app.screen is page)
        assert page.details.verdict is None
        assert "Cancelled" in console.text()


async def test_what_changed_on_disk_is_told_whoever_noticed(opened: Opener, weights: Path) -> None:
    async with opened(Stage(gpus=1)) as console:
        page = await on_page(console, weights)
        config = weights / "config.json"
        event = CheckpointChanged(
            folder=str(weights), files=("config.json",), jobs=(17,), t=T0 + 25
        )
        os.utime(config, (T0 + 30, T0 + 30))
        await console.play([event])
        await waited(console, lambda: page.details.since_read == [config.resolve()])
        assert "after it was loaded; jobs: 17" in console.text()
        await console.press("r")
        await waited(console, lambda: not page.busy and not page.details.since_read)


async def test_a_remedy_of_an_incident_verifies_that_jobs_checkpoint(
    opened: Opener, weights: Path
) -> None:
    async with opened(Stage(gpus=1)) as console:
        page = await on_page(console, weights)
        finding = FindingRaised(
            id="job17-bad_checkpoint", finding="bad_checkpoint", severity="error", job=17,
            cause="A shard is damaged.", t=T0 + 20,
            remedies=(Remedy("verify", "Verify the checkpoint.", "verify"),),
        )  # fmt: skip
        await console.play([finding])
        await console.press("7", "r")
        await waited(console, lambda: page.details.verdict is not None)
        assert console.app.page is page


async def test_a_folder_that_is_none_is_told_with_what_to_do(
    opened: Opener, tmp_path: Path, weights: Path
) -> None:
    async with opened(Stage(gpus=1), size=(240, 40)) as console:
        page = await on_page(console, weights)
        page.choose(str(tmp_path / "nothing"))
        await waited(console, lambda: page.details.weights is not None and not page.busy)
        assert "does not exist" in console.text()
        assert "Press c to choose a checkpoint." in console.text()

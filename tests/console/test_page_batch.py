"""Can a person start a batch, see how it goes, stop it, mend it and read its report by keys?"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from textual.widgets import Input

from console.screens.batch import BatchPage
from console.screens.batch_form import BatchForm
from console.screens.dialog import Dialog
from console.screens.help import Scrolled
from console.widgets.batches import over, part_done
from console.widgets.jobs import Jobs
from engine.batch.rows import BatchRow, ItemRow
from engine.batch.store import BatchStore
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import BatchCommand, Reply
from tests.console.conftest import Console, Opener
from tests.console.fake_client import Stage
from tests.console.production_events import NIGHT, a_night, batch, item

SIZES = [(80, 24), (200, 50)]


def orders(console: Console) -> list[tuple[str, str]]:
    """What was asked of batches so far."""
    sent = console.client.sent
    return [(order.do, order.batch) for order in sent if isinstance(order, BatchCommand)]


async def at_batches(console: Console, *keys: str) -> BatchPage:
    await console.play(a_night())
    await console.press("9", *keys)
    page = console.app.page
    assert isinstance(page, BatchPage)
    return page


async def until(console: Console, kind: type) -> None:
    """What a thread of the page brings."""
    for _ in range(5000):
        if isinstance(console.app.screen, kind):
            break
        await asyncio.sleep(0.01)
        await console.settle()
    assert isinstance(console.app.screen, kind)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_one_sees_how_far_it_is_and_what_went_wrong(
    opened: Opener, size: tuple[int, int]
) -> None:
    async with opened(Stage(gpus=1, jobs=1), size=size, seconds=2) as console:
        page = await at_batches(console, "tab", "down", "down", "down", "down")
        chosen = page.items.item
        assert chosen is not None
        assert chosen.state == "failed"
        text = console.text()
        assert "13/24" in text
        assert "2:00:13 left" in text  # two seconds after it was told
        assert "at block 7" in " ".join(text.split())  # the error whole, in the details
        assert "✗ 1 failed" in text
        assert page.batches.item is not None
        part = part_done(page.batches.item, console.app.model.jobs)
        assert part == pytest.approx((13 + 1 + (12 + 15 + 18) / 25) / 24)
        assert all(len(line) <= size[0] for line in console.lines())


async def test_items_follow_the_batch_under_the_cursor(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        page = await at_batches(console)
        assert len(page.items.shown()) == 24
        await console.press("down")
        assert [i.state for i in page.items.shown()] == ["done"] * 8
        await console.play([batch((item(9, "failed", error="its sound is empty"),),
                                  batch="20261119-220000-cd34", name="evening talks")])  # fmt: skip
        assert len(page.items.shown()) == 9
        assert "its sound is empty" in console.text()


async def test_the_keys_steer_the_batch_under_the_cursor(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await at_batches(console, "p", "r", "t")
        assert orders(console) == [("pause", NIGHT), ("resume", NIGHT), ("retry", NIGHT)]
        await console.press("down", "t")  # nothing failed there
        assert len(orders(console)) == 3
        assert "No item of this batch has failed." in console.text()


async def test_stopping_asks_and_the_safe_choice_has_the_focus(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await at_batches(console, "x")
        assert isinstance(console.app.screen, Dialog)
        assert "4 items are on devices" in console.text()
        await console.press("enter")
        assert console.client.sent == []
        await console.press("x", "down", "enter")
        assert orders(console) == [("pause", NIGHT)]
        await console.press("x", "down", "down", "enter")
        assert orders(console)[1:] == [("stop", NIGHT)]
        await console.press("down", "x")
        assert "it is not at work" in console.text()


async def test_an_item_leads_to_its_job(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await at_batches(console)
        await console.press("enter", "down", "enter")
        await console.settle()
        tables = list(console.app.page.query(Jobs))
        assert tables
        assert tables[0].job is not None
        assert tables[0].job.id == 115


async def test_a_batch_is_begun_by_what_the_command_line_takes(
    opened: Opener, tmp_path: Path
) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await console.press("9")
        assert "Press s to make videos" in console.text()
        await console.press("s", "enter")
        form = console.app.screen
        assert isinstance(form, BatchForm)
        assert "sounds is required." in console.text()
        values = {
            "audio": tmp_path, "image": tmp_path, "output": tmp_path / "out", "ckpt": tmp_path,
            "flags": "--retries 1 --base_seed x",
        }  # fmt: skip
        for name, value in values.items():
            form.query_one(f"#{name}", Input).value = str(value)
        await console.press("enter")
        assert "base_seed" in console.text()
        assert console.app.screen is form
        form.flags.value = "--retries 1 --base_seed 7 --item-timeout 60"
        form.watch_folders.action_turn(1)
        console.client.reply = Reply(True, "batch 1: 3 items", data={"remarks": [{}, {}]})
        await console.press("enter")
        await console.settle()
        (sent,) = console.client.sent
        assert isinstance(sent, BatchCommand)
        assert sent.do == "start"
        spec = sent.spec
        assert (spec["audio_dir"], spec["out_dir"]) == (str(tmp_path), str(tmp_path / "out"))
        assert (spec["retries"], spec["item_timeout"], spec["watch"]) == (1, 60.0, True)
        assert spec["request"]["base_seed"] == 7
        said = [notice.text for notice in console.app.notices.said]
        assert said[-2:] == ["batch 1: 3 items", "2 files are no part of it; the report says why."]


async def test_the_report_is_that_of_the_store(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path))
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await at_batches(console, "v")
        for _ in range(5000):
            if "does not know the batch" in console.text():
                break
            await asyncio.sleep(0.01)
        assert "does not know the batch" in console.text()
        jobs = JobStore(Places.of().database)
        spec = {"audio_dir": "/a", "image_dir": "/i", "out_dir": "/o"}
        row = BatchRow(NIGHT, "night", "running", spec, "d", time.time())
        made = [
            ItemRow(NIGHT, f"k{n}", n, f"clip-{n}", "a", "i", {}, state="done", attempts=1,
                    seconds=60.0 + n, fps=40.0, peak_bytes=2**30) for n in range(3)
        ]  # fmt: skip
        BatchStore(jobs).create(row, made, [])
        jobs.close()
        await console.press("v")
        await until(console, Scrolled)
        text = console.text()
        assert "Batch night: running" in text
        assert "clip-2" in text
        await console.press("escape")
        assert isinstance(console.app.screen, BatchPage)


async def test_who_may_only_look_changes_nothing(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        console.client.read_only = True  # type: ignore[attr-defined]
        await at_batches(console, "p", "r", "t", "x", "s")
        assert console.client.sent == []
        assert isinstance(console.app.screen, BatchPage)
        assert "Read-only" in console.text()


async def test_a_twin_is_over_with_its_output() -> None:
    from console.production import Production

    kept = Production()
    kept.take(batch((item(1, "done"), item(2, "alias"))))
    assert over(kept.batches[NIGHT]) == 1
    kept.take(
        batch((item(2, "alias", output="/o/2.mp4"),), total=2, counts={"done": 1, "alias": 1})
    )
    assert over(kept.batches[NIGHT]) == 2

"""Can a person see what is live, judge the candidate's gates, go on, and take it back by keys?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.widgets import Input

from console.screens.dialog import Dialog
from console.screens.release import ReleasePage
from console.screens.release_form import ReleaseForm
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import Audited, JobChanged, ReleaseCommand, Reply
from engine.release.store import ReleaseStore
from tests.console.conftest import Console, Opener
from tests.console.fake_client import Stage, job
from tests.console.production_events import a_rollout, release
from tests.release.test_killed import NEW, STEPS

SIZES = [(80, 24), (200, 50)]


@pytest.fixture(autouse=True)
def no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a host of its own."""
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_RELEASES_FILE", str(tmp_path / "none.toml"))


async def at_releases(console: Console, *keys: str, state: str = "rolling") -> ReleasePage:
    await console.play(a_rollout(state))
    await console.press("0")
    page = console.app.page
    assert isinstance(page, ReleasePage)
    await read(console, page)
    await console.press(*keys)
    return page


async def read(console: Console, page: ReleasePage) -> None:
    """Until the store's side is there."""
    for _ in range(1000):
        if not page._reading:
            break
        await asyncio.sleep(0.005)
        await console.pilot.pause()
    assert not page._reading
    await console.settle()


def orders(console: Console) -> list[tuple[str, str, dict[str, object]]]:
    sent = console.client.sent
    return [(o.do, o.version, o.options) for o in sent if isinstance(o, ReleaseCommand)]


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_one_sees_what_is_live_and_which_gate_fails(
    opened: Opener, size: tuple[int, int]
) -> None:
    async with opened(Stage(gpus=1, jobs=1), size=size, seconds=2) as console:
        page = await at_releases(console, "tab", "down")
        assert [r.version for r in page.releases.shown()] == ["1.1", "1.0", "0.9", "0.8"]
        text = console.text()
        assert "stable 1.0 75 %" in text
        assert "25 % candidate 1.1" in text
        assert "✓ single → ✓ multi → ✓ 5 % → ● 25 % → ○ 50 % → ○ 100 %" in text
        assert "✗ FAIL" in text
        assert "+8.1 %" in text
        assert "+7.9 % … +8.3 %" in text  # the interval of the gate under the cursor
        assert "1 gate does not hold." in text
        assert all(len(line) <= size[0] for line in console.lines())
        await console.press("down", "down", "down")
        assert "Not armed" in console.text()


async def test_a_rollback_says_what_becomes_of_running_and_waiting_work(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await at_releases(console, "b")
        assert isinstance(console.app.screen, Dialog)
        text = console.text()
        assert "New jobs go to 1.0 at once. 1.1 is withdrawn" in text
        assert "Jobs 40, 41 run by it" in text
        assert "1 job of it waits and runs by 1.0 instead." in text
        await console.press("enter")  # the safe choice has the focus
        assert orders(console) == []
        await console.press("b", "up", "enter")
        assert orders(console) == [("rollback", "", {"running": "requeue"})]


async def test_the_keys_move_the_rollout(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        page = await at_releases(console, "p", "r", "v", state="paused")
        assert "Paused: r begins the stage anew" in console.text()
        await console.press("s")  # it is the candidate already
        await console.press("down", "down", "s", "down", "enter")
        assert orders(console) == [
            ("pause", "", {}), ("resume", "", {}), ("validate", "1.1", {}),
            ("start", "0.9", {"by_hand": False}),
        ]  # fmt: skip
        await console.press("m", "down", "enter")
        assert orders(console)[4:] == [("promote", "1.1", {})]
        await read(console, page)


async def test_what_the_engine_refuses_can_be_forced_after_asking(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        page = await at_releases(console)
        refusal = "stage 25 % has not ended with every gate held; --force goes on all the same"
        console.client.reply = Reply(False, refusal, state="refused")
        await console.press("n")
        await console.settle()
        assert isinstance(console.app.screen, Dialog)
        assert "every gate held" in " ".join(console.text().split())
        await console.press("enter")
        assert len(orders(console)) == 1
        await console.press("n")
        await console.settle()
        await console.press("down", "enter")
        assert orders(console)[2:] == [("advance", "", {"force": True})]
        await read(console, page)
        assert console.app.screen is page  # a refusal of force is told, not asked again


async def test_without_a_candidate_the_keys_say_so(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await console.press("0")
        assert "No release yet. Press a to keep a version" in console.text()
        await console.play([release("1.0", "known")])
        assert "No version is stable yet" in console.text()
        assert "No rollout is under way." in console.text()
        assert "are stable's" not in console.text()  # there is none
        assert "a add version" in console.lines()[-1]
        await console.press("n", "p", "b")
        assert orders(console) == []
        await console.press("m", "down", "enter")  # the first stable version
        assert orders(console) == [("promote", "1.0", {})]


async def test_a_version_is_kept_by_what_the_command_line_takes(
    opened: Opener, tmp_path: Path
) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        page = await at_releases(console, "a", "enter")
        form = console.app.screen
        assert isinstance(form, ReleaseForm)
        assert "version is required." in console.text()
        lora = tmp_path / "new.safetensors"
        lora.touch()
        values = {"version": "no/name", "ckpt": tmp_path, "lora": lora, "cap": "22GiB",
                  "note": "softer lips", "flags": "--sample_steps x"}  # fmt: skip
        for name, value in values.items():
            form.query_one(f"#{name}", Input).value = str(value)
        for wrong, right in (("sample_steps", ""), ("no/name", "1.2")):
            await console.press("enter")
            assert wrong in " ".join(console.text().split())
            assert console.app.screen is form
            field = form.flags if wrong == "sample_steps" else form.version
            field.value = right
        digest = page.releases.shown()[-1].release
        console.client.reply = Reply(True, "release 1.2 is known", data={"digest": digest})
        await console.press("enter")
        await read(console, page)
        ((do, version, options),) = orders(console)
        assert (do, version, options["note"]) == ("add", "1.2", "softer lips")
        model, parameters = options["model"], options["parameters"]
        assert isinstance(model, dict)
        assert (model["ckpt_dir"], model["lora_path_dmd"]) == (str(tmp_path), str(lora))
        assert model["load_lora"] is True
        assert options["memory_cap"] == 22 * 2**30
        assert isinstance(parameters, dict)
        assert "sample_steps" not in parameters  # only what was said
        assert page.releases.item is page.releases.shown()[-1]  # the new one


async def test_who_may_only_look_adds_no_version(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        console.client.read_only = True  # type: ignore[attr-defined]
        await console.press("0")
        assert "No release yet." in console.text()
        assert "Press a" not in console.text()
        page = await at_releases(console, "a")
        page.action_add()  # the method refuses as well
        assert console.app.screen is page
        assert "Read-only" in console.text()
        assert orders(console) == []


async def test_history_and_work_left_over_come_from_the_store(opened: Opener) -> None:
    before, step = STEPS["rollback"]
    path = Places.of().database
    path.parent.mkdir(parents=True)
    jobs = JobStore(path)
    store = ReleaseStore(jobs)
    before(store)
    step(store)
    jobs.close()
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        await console.play([release("1.1", "withdrawn", release=NEW.digest, state="rolled_back")])
        await console.press("0")
        page = console.app.page
        assert isinstance(page, ReleasePage)
        await read(console, page)
        assert page.kept.back_to == "1.0"
        assert [e.kind for e in page.kept.history][-1] == "added"
        text = " ".join(console.text().split())
        assert "Unfinished work of 1.1" in text
        assert "Job 1 is" in text
        assert "breach" in text


async def test_an_audit_is_told_where_no_store_is(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1), seconds=2) as console:
        page = await at_releases(console)
        await console.play([
            Audited(action="rollback", by="policy", target="0.8", result="out of memory in job 9"),
            JobChanged(job=job(40, "done", version="1.1")),
        ])  # fmt: skip
        await read(console, page)
        assert "out of memory in job 9" in console.text()

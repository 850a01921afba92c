"""Can I open what was recorded from the running console, and come back to the present?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from console.format import clock
from console.screens.recordings import FileForm, RecordingsPage
from engine.messages import Cancel, JobChanged
from tests.console.conftest import COLOURS, Console, Opener
from tests.console.fake_client import T0, Stage, job
from tests.e2e.harness import until
from tests.telemetry.recordings import record

SECONDS = 40


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which an engine recorded a host of two GPUs, and job 5."""
    folder = tmp_path_factory.mktemp("state")
    stage = Stage(gpus=2, job_id=5, started=T0 - 5000)
    record(folder / "recordings", stage, SECONDS, until, segment_seconds=60.0)
    return folder


async def waited(console: Console, ready: Callable[[], bool]) -> None:
    """Until a thread's answer has arrived."""
    for _ in range(4000):
        await console.pilot.pause(0.01)
        if ready():
            break
    assert ready(), console.text()
    await console.pilot.pause()


async def on_page(console: Console) -> RecordingsPage:
    await console.press("8")
    page = console.app.page
    assert isinstance(page, RecordingsPage)
    await waited(console, lambda: not page.busy)
    return page


async def typed(console: Console, path: Path) -> None:
    await console.press("f")
    form = console.app.screen
    assert isinstance(form, FileForm)
    form.path.value = str(path)
    await console.press("enter")


def environ(state: Path) -> dict[str, str]:
    return {**COLOURS, "AVATOP_STATE_DIR": str(state)}


async def test_what_this_host_kept_is_listed_with_its_marks(opened: Opener, state: Path) -> None:
    async with opened(Stage(gpus=4), environ=environ(state)) as console:
        page = await on_page(console)
        kinds = [tape.kind for tape in page.table.rows()]
        assert kinds[:2] == ["host", "segment"]
        whole = page.table.rows()[0]
        assert whole.jobs == (5, 6, 7)
        assert len(page.marks.rows()) == whole.counts["spike"] > 0
        assert "gathered: layer 7" in console.text()


async def test_marks_are_those_of_the_row_that_a_filter_leaves(opened: Opener, state: Path) -> None:
    async with opened(environ=environ(state)) as console:
        await on_page(console)
        await console.press("slash", *"oom", "enter")
        await console.settle()
        assert "1 of " in console.text()
        assert "OutOfMemoryError" in console.text()


async def test_every_page_shows_the_recorded_moment_until_one_returns(
    opened: Opener, state: Path
) -> None:
    async with opened(Stage(gpus=4), environ=environ(state)) as console:
        app = console.app
        page = await on_page(console)
        await console.press("enter")
        await waited(console, lambda: not app.seeking)
        assert app.replay is not None
        assert app.model.now == app.replay.recording.end
        assert 5 in app.model.jobs
        assert 17 not in app.model.jobs
        assert console.lines()[0].startswith(" RECORDING ")
        await console.press("1")
        assert console.lines()[0].startswith(" RECORDING ")
        assert len(app.model.gpus()) == 2

        # The engine goes on meanwhile; nothing of it is shown, nothing reaches it.
        await console.play([JobChanged(job=job(99), t=T0 + 60)])
        assert 99 not in app.model.jobs
        app.command(Cancel(job=5), "")
        assert console.client.sent == []

        # What was said then has the person's own time, and which moment was on the screen.
        await console.press("f2")
        stamps = f"{clock(app.own_time())}  recording {clock(app.replay.recording.end)}  This is a"
        assert stamps in console.text()
        await console.press("escape", "L")
        assert not app.visiting
        assert {17, 99} <= set(app.model.jobs)
        assert 5 not in app.model.jobs
        assert len(app.model.gpus()) == 4
        assert "RECORDING" not in console.text()
        app.action_go("recordings")
        await console.settle()
        assert "RECORDING" not in console.lines()[0]
        assert page.banner is None


async def test_a_mark_opens_the_recording_just_before_it_and_q_leads_back(
    opened: Opener, state: Path
) -> None:
    async with opened(Stage(gpus=4), environ=environ(state)) as console:
        app = console.app
        page = await on_page(console)
        mark = page.marks.rows()[1]
        await console.press("tab", "down", "enter")
        await waited(console, lambda: app.replay is not None and not app.seeking)
        assert app.model.now == mark.at - 3
        await console.press("right_square_bracket")
        assert app.replay is not None
        assert 0 < app.replay.cursor - mark.at < 0.1
        await console.press("q")
        assert not app.visiting
        assert app.is_running
        assert app.client is console.client


async def test_a_file_is_opened_by_its_path_and_what_is_none_is_told(
    opened: Opener, state: Path, tmp_path: Path
) -> None:
    async with opened(Stage(gpus=4), environ=environ(tmp_path)) as console:
        await on_page(console)
        assert "f opens a file" in console.text() or "shipped" in console.text()
        wrong = tmp_path / "notes.txt"
        wrong.write_text("nothing")
        await typed(console, wrong)
        await waited(console, lambda: "no recording here" in console.text())
        await typed(console, state / "recordings")
        await waited(console, lambda: console.app.visiting and not console.app.seeking)
        assert 5 in console.app.model.jobs

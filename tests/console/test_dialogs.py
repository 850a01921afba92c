"""What is asked before something is lost, and what is sent when one agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import theme
from console.leave import Leave
from console.screens.submit import SubmitForm
from engine.messages import (
    Cancel,
    EngineStopped,
    JobChanged,
    Reply,
    SetSpikeThreshold,
    StopEngine,
    Submit,
)
from engine.params import Request
from engine.resources import sample_data
from tests.console.conftest import COLOURS, Opener, until
from tests.console.fake_client import GIB, Stage, job


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, str]:
    """Files that exist; what is in them is the engine's to judge."""
    (tmp_path / "ckpt").mkdir()
    for name in ("face.png", "voice.wav"):
        (tmp_path / name).write_bytes(b"x")
    return {
        **COLOURS,
        "MODEL_CKPT_DIR": str(tmp_path / "ckpt"),
        "IMAGE_PATH": str(tmp_path / "face.png"),
        "AUDIO_PATH": str(tmp_path / "voice.wav"),
    }


async def test_submit_from_a_preset_sends_the_request(
    opened: Opener, inputs: dict[str, str]
) -> None:
    async with opened(environ=inputs) as console:
        await console.press("s")
        assert "see at once how inputs work out" in console.text()
        await console.press("right")
        assert "a presentable video" in console.text()
        form = console.app.screen
        form.query_one("#clips").value = "7"  # type: ignore[attr-defined]
        await console.pilot.pause()
        assert "333 frames, 13.3 s" in console.text()
        await console.press("enter")
        (sent,) = console.client.sent
        assert isinstance(sent, Submit)
        request = Request.from_dict(sent.request)
        assert (request.size, request.num_clip, request.sample_steps) == ("688*368", 7, 4)
        assert request.image == inputs["IMAGE_PATH"]
        assert console.app.screen is console.app.overview


async def test_the_form_says_what_a_job_would_cost(
    opened: Opener, inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))  # nothing was measured
    environ = {
        **inputs,
        "MODEL_CKPT_DIR": str(sample_data() / "ckpt"),
        "IMAGE_PATH": str(sample_data() / "portraits" / "flat.png"),
        "AVATOP_GPUS": "cpu",
        "AVATOP_HOST_MEMORY": "1200MiB",
    }
    async with opened(environ=environ) as console:
        await console.press("s")
        form = console.app.screen
        assert isinstance(form, SubmitForm)
        await until(console, lambda: bool(form.foreseen.lines))
        text = " ".join(console.text().split())
        assert "✓ fits on CPU ranks, no GPU does the work: single," in text
        assert "Its time is n/a" in text
        form.query_one("#size").value = "704*384"  # type: ignore[attr-defined]
        await console.pilot.pause()
        assert form.foreseen.lines == ()
        await until(console, lambda: bool(form.foreseen.lines))
        assert "✗ does not fit: " in console.text()


async def test_problems_stand_in_the_form_as_sentences(
    opened: Opener, inputs: dict[str, str]
) -> None:
    async with opened(environ={**inputs, "IMAGE_PATH": ""}) as console:
        await console.press("s")
        console.app.screen.query_one("#size").value = "gigantic"  # type: ignore[attr-defined]
        await console.press("enter")
        text = console.text()
        assert "size: " in text
        assert "image is required." in text
        assert "frames, " in text
        assert console.client.sent == []
        await console.pilot.resize_terminal(80, 24)  # no room for both: what is wrong stays
        await console.press("enter")
        text = console.text()
        assert "image is required." in text
        assert "Enter submits" in text
        assert "If the sound lasts" not in text
        await console.press("escape")
        assert console.app.screen is console.app.overview


async def test_a_refused_submission_is_told(opened: Opener, inputs: dict[str, str]) -> None:
    async with opened(environ=inputs) as console:
        console.client.reply = Reply(ok=False, message="The queue is closed.")
        await console.press("s", "enter")
        await console.settle()
        assert "The queue is closed." in console.text()


async def test_cancel_asks_with_the_safe_choice_focused(opened: Opener) -> None:
    async with opened() as console:
        await console.press("c")
        text = console.text()
        assert "Cancel job 17?" in text
        assert "▌ Keep it running" in text
        await console.press("enter")
        assert console.client.sent == []
        await console.press("c", "escape", "c", "down", "enter")
        (sent,) = console.client.sent
        assert isinstance(sent, Cancel)
        assert sent.job == 17


async def test_cancel_takes_the_job_under_the_cursor_though_rows_move(opened: Opener) -> None:
    async with opened() as console:
        console.app.overview.jobs.focus()
        await console.press("down")
        await console.press("c")
        await console.play([JobChanged(job=job(17, "done")), JobChanged(job=job(20, "running"))])
        assert "Cancel job 18?" in console.text()
        await console.press("down", "enter")
        assert [command.job for command in console.client.sent] == [18]  # type: ignore[attr-defined]


async def test_the_cursor_stands_on_what_lives_until_it_is_moved(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1)) as console:
        await console.play([JobChanged(job=job(17, "done")), JobChanged(job=job(18, "running"))])
        await console.press("c")
        assert "Cancel job 18?" in console.text()


async def test_an_ended_job_cannot_be_cancelled(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=1)) as console:
        await console.play([JobChanged(job=job(17, "failed", error="out of memory"))])
        await console.press("c")
        assert "Job 17 has already ended: failed." in console.text()
        assert console.app.screen is console.app.overview


async def test_quit_without_work_leaves_at_once(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=0, job_id=1)) as console:
        await console.play([JobChanged(job=job(1, "done"))])
        await console.press("q")
        assert console.app.return_value == Leave("quit")


async def test_quit_with_work_asks_and_can_stay(opened: Opener) -> None:
    async with opened() as console:
        await console.press("q")
        assert "Stay here" in console.text()
        await console.press("escape")
        assert console.app.return_value is None
        assert console.app.screen is console.app.overview
        assert console.client.sent == []


async def test_quit_with_work_detaches_unless_told_otherwise(opened: Opener) -> None:
    async with opened() as console:
        await console.press("q")
        assert "▌ Detach: the engine works on" in console.text()
        await console.press("enter")
        assert console.app.return_value == Leave("detached")
        assert console.client.sent == []


async def test_a_read_only_console_leaves_without_a_question(opened: Opener) -> None:
    async with opened() as console:
        console.client.read_only = True  # type: ignore[attr-defined]
        await console.press("q")
        assert console.app.return_value == Leave("detached")


async def test_quit_after_the_clip(opened: Opener) -> None:
    async with opened() as console:
        await console.press("q", "down", "enter")
        (sent,) = console.client.sent
        assert isinstance(sent, StopEngine)
        assert sent.after_clip
        assert console.app.return_value is None
        console.client.play([EngineStopped(reason="stopped after clip 13")])
        await console.settle()
        assert console.app.return_value == Leave("after_clip")


async def test_once_the_engine_has_ended_the_console_says_what_is_left_to_do(
    opened: Opener,
) -> None:
    async with opened(size=(80, 24)) as console:
        console.client.play([EngineStopped(reason="its process is gone")])
        await console.settle()
        assert "⚠ engine ended  q leaves, avatop starts another" in console.text()
        await console.press("s")
        assert console.app.screen is console.app.overview
        assert console.app.notices.said[-1].text == (
            "The engine has ended: q leaves, and avatop starts another."
        )
        await console.press("q")
        assert console.app.return_value == Leave("quit")


async def test_quit_and_cancel_all(opened: Opener) -> None:
    async with opened() as console:
        await console.press("ctrl+c", "up", "enter")
        assert {command.job for command in console.client.sent} == {17, 18, 19}  # type: ignore[attr-defined]
        assert console.app.return_value == Leave("cancelled")


async def test_spike_threshold(opened: Opener) -> None:
    async with opened() as console:
        await console.press("t", "x", "enter")
        assert "'x' is not a number of GiB above 0" in console.text()
        await console.press("backspace", "1", "full_stop", "5", "enter")
        await console.press("t", "enter")
        assert [(c.job, c.bytes) for c in console.client.sent] == [  # type: ignore[attr-defined]
            (17, int(1.5 * GIB)), (17, None)]  # fmt: skip
        assert isinstance(console.client.sent[0], SetSpikeThreshold)


async def test_theme_switch(opened: Opener) -> None:
    async with opened() as console:
        for _ in theme.names():
            await console.press("f3")
            assert "Theme: " in console.text()
        assert console.app.look.name == "signature"


async def test_the_engine_is_started_after_the_first_picture() -> None:
    from console.app import AvatopApp
    from tests.console.fake_client import FakeClient

    client = FakeClient()
    app = AvatopApp(lambda: client, environ=COLOURS, own_fds=False)
    async with app.run_test(size=(80, 24)) as pilot:
        assert "starting the engine" in "".join(s.text for s in app.overview.head._lines[0])
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert client.prewarmed == 1
        assert len(client.listeners) == 1
    assert client.listeners == []


async def test_an_engine_that_cannot_start_ends_the_console_with_the_reason() -> None:
    from console.app import AvatopApp
    from tests.console.fake_client import FakeClient

    def broken() -> FakeClient:
        raise OSError("the state directory is read-only")

    app = AvatopApp(broken, environ=COLOURS, own_fds=False)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
    assert app.return_value is not None
    assert app.return_value.reason == "failed"
    assert "read-only" in app.return_value.message


async def test_in_a_tiny_terminal_choices_and_the_field_with_the_focus_stay_in_sight(
    opened: Opener,
) -> None:
    async with opened(Stage(gpus=4), size=(40, 10)) as console:
        await console.press("q")
        for choice in ("Quit while", "Detach", "Quit once", "Stay here", "Cancel all"):
            assert choice in console.text()
        await console.press("escape", "9", "s", *["tab"] * 6)
        assert "inbox" in console.text()
        assert "sounds" not in console.text()

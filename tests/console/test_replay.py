"""Does a recording show what the screen showed, at any moment one goes to?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from console.leave import Leave
from console.screens.replay import ReplayApp
from console.state import Model
from engine.messages import Cancel, EngineStarted, EngineStopped, Event
from engine.telemetry.recording import Recording, open_recording
from engine.telemetry.replay import ReplayClient
from tests.console.conftest import COLOURS
from tests.console.fake_client import Stage
from tests.e2e.harness import until
from tests.telemetry.recordings import record

SECONDS = 60


@pytest.fixture(scope="module")
def taped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, list[Event], Stage]:
    folder, stage = tmp_path_factory.mktemp("recording"), Stage(gpus=2)
    told = record(folder, stage, SECONDS, until, segment_seconds=25.0, preview_seconds=0.0)
    return open_recording(folder), told, stage


class Replay:
    def __init__(self, app: ReplayApp, pilot: Pilot[Leave]) -> None:
        self.app, self.pilot = app, pilot
        self.passed = 0.0

    async def settle(self) -> None:
        for _ in range(2):
            # One watches a person's files for as long as the console is open.
            if ending := [w for w in self.app.workers if w.group != "own files"]:
                await self.app.workers.wait_for_complete(ending)
            await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def let_pass(self, seconds: float) -> None:
        self.passed += seconds
        self.app.tick()
        await self.pilot.pause()

    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(s.text for s in strip).rstrip() for strip in strips)


@asynccontextmanager
async def shown(recording: Recording, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Replay]:
    holder: list[Replay] = []
    app = ReplayApp(
        ReplayClient(recording), theme="signature", environ=COLOURS, own_fds=False,
        viewer=lambda: holder[0].passed if holder else 0.0,
    )  # fmt: skip
    async with app.run_test(size=size) as pilot:
        holder.append(Replay(app, pilot))
        await holder[0].settle()
        yield holder[0]


def live_at(told: list[Event], moment: float) -> Model:
    """What a console knew that had been there from the start."""
    model = Model()
    for event in told:
        if event.t <= moment:
            model.apply(event)
    model.now = moment
    return model


def assert_same(model: Model, live: Model) -> None:
    assert model.jobs == live.jobs
    assert model.job_rows() == live.job_rows()
    assert json.dumps(model.plans) == json.dumps(live.plans)  # tuples are lists in JSON
    assert [(e.t, e.level, e.text) for e in model.logs] == [
        (e.t, e.level, e.text) for e in live.logs]  # fmt: skip
    mine, theirs = model.panels(), live.panels()
    assert [(p.key, p.used, p.role, p.phase) for p in mine] == [
        (p.key, p.used, p.role, p.phase) for p in theirs]  # fmt: skip
    for one, other in zip(mine, theirs, strict=True):
        assert one.memory.columns(model.now, 240, 0.25) == other.memory.columns(live.now, 240, 0.25)
        assert list(one.spikes) == list(other.spikes)
    assert model.preview == live.preview


async def test_plots_jobs_and_log_at_a_cursor_are_those_of_the_moment(
    taped: tuple[Recording, list[Event], Stage],
) -> None:
    recording, told, stage = taped
    async with shown(recording) as replay:
        for second in (40, 12, 57, 30):  # there and back, across segments
            replay.app.go_to(stage.started + second)
            await replay.settle()
            assert replay.app.replay.cursor == stage.started + second
            assert_same(replay.app.model, live_at(told, stage.started + second))


async def test_playing_arrives_where_jumping_does(
    taped: tuple[Recording, list[Event], Stage],
) -> None:
    recording, told, stage = taped
    async with shown(recording) as replay:
        await replay.press("space")
        await replay.let_pass(3.0)
        assert replay.app.replay.cursor == stage.started + 3
        await replay.press("plus", "plus", "plus")
        await replay.let_pass(2.0)
        assert replay.app.replay.cursor == stage.started + 23
        assert_same(replay.app.model, live_at(told, stage.started + 23))
        await replay.press("space")
        await replay.let_pass(5.0)
        assert replay.app.replay.cursor == stage.started + 23
        await replay.press("space")
        await replay.let_pass(100.0)
        assert replay.app.replay.cursor == recording.end
        assert not replay.app.replay.playing


async def test_transport_keys(taped: tuple[Recording, list[Event], Stage]) -> None:
    recording, _, stage = taped
    spikes = [mark.at for mark in recording.marks if mark.kind == "spike"]
    async with shown(recording) as replay:
        client = replay.app.replay
        await replay.press("right", "right", "left")
        assert client.cursor == stage.started + 5
        await replay.press("right_square_bracket")
        assert 0 < client.cursor - spikes[0] < 0.1
        assert "spike: " in replay.text()
        await replay.press("right_square_bracket")
        assert 0 < client.cursor - spikes[1] < 0.1
        await replay.press("left_square_bracket")
        assert 0 < client.cursor - spikes[0] < 0.1
        await replay.press("left_square_bracket")
        assert "No spike, alert or error before" in replay.text()
        await replay.press("end")
        assert client.cursor == recording.end
        await replay.press("home")
        assert client.cursor == recording.start
        for _ in range(9):
            await replay.press("plus")
        assert client.speed == 60.0


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_the_screen_says_that_it_is_a_recording(
    taped: tuple[Recording, list[Event], Stage], size: tuple[int, int]
) -> None:
    recording, _, stage = taped
    async with shown(recording, size) as replay:
        replay.app.go_to(stage.started + 30)
        await replay.settle()
        text = replay.text()
        assert text.splitlines()[0].startswith(" RECORDING ")
        assert "2023-11-14 22:13:50" in text.splitlines()[0]
        assert "gpu-srv-07" in text
        assert "Space play" in text.splitlines()[-1]
        assert len(text.splitlines()) == size[1]


def test_a_recording_of_one_engine_after_another_shows_the_second_alive() -> None:
    model = Model()
    first = EngineStarted(host="a", pid=1, version="1", device_source="host")
    for event in (first, EngineStopped(reason="stopped"), first):
        model.apply(event)
    assert model.stopped is None


async def test_nothing_can_be_changed_in_a_recording(
    taped: tuple[Recording, list[Event], Stage],
) -> None:
    recording, _, _ = taped
    async with shown(recording) as replay:
        for key in ("s", "c", "t"):
            await replay.press(key)
            assert "nothing in it can be changed" in replay.text()
        reply = replay.app.replay.send(Cancel(job=17)).result()
        assert not reply.ok
        assert "recording" in reply.message


async def test_a_search_in_the_log_gets_its_blanks_and_dialogs_their_keys(
    taped: tuple[Recording, list[Event], Stage],
) -> None:
    recording, _, _ = taped
    async with shown(recording) as replay:
        replay.app.overview.logs.focus()
        await replay.press("end", "slash", "o", "n", "space", "d")
        assert replay.app.overview.logs.prompt.text == "on d"
        assert not replay.app.replay.playing
        await replay.press("escape", "question_mark", "end", "escape")
        assert replay.app.screen is replay.app.overview


async def test_history_of_a_device_opens_over_a_recording(
    taped: tuple[Recording, list[Event], Stage],
) -> None:
    recording, _, _ = taped
    async with shown(recording) as replay:
        await replay.press("end", "z")
        assert "GPU 0: memory, GiB" in replay.text()
        await replay.press("escape", "q")
    assert replay.app.return_value == Leave("quit")

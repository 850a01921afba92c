"""Does a person see what values cost before paying, take what fits, try it, keep and submit it?"""

from __future__ import annotations

import math
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from console.screens.dialog import Dialog
from console.screens.modes import ModesScreen
from console.screens.tune import TunePage
from console.tuning import TUNED, planned, read_ground, turned, ways_of
from engine.media.compare import CompareError, likeness, middle_frame
from engine.messages import Cancel, JobChanged, Reply, Submit
from engine.parameters.presets import own_presets, presets, save_preset
from engine.params import BY_NAME, BadValueError, ParamError, find_preset
from tests.console.conftest import COLOURS, Console, Opener, until, updating
from tests.console.fake_client import GIB, Stage, frame, job

SNAPSHOTS = Path(__file__).parent / "snapshots"
#: Four cards of 24 GB and the articles' model, wherever this runs.
SUPPOSED = {"plan_devices": 4, "plan_memory": int(22.15 * GIB), "plan_shape": "14b"}
TPP = {**SUPPOSED, "mode": "tpp", "num_gpus_dit": 4}
Paged = Callable[..., AbstractAsyncContextManager[tuple[Console, TunePage]]]


@pytest.fixture(autouse=True)
def own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are not corrected by what this host has measured."""
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def paged(opened: Opener, tmp_path: Path) -> Paged:
    """The tune page for four cards of 24 GB."""

    @asynccontextmanager
    async def go(
        size: tuple[int, int] = (120, 40), values: dict[str, Any] | None = None
    ) -> AsyncIterator[tuple[Console, TunePage]]:
        environ = {**COLOURS, "AVATOP_PRESETS_FILE": str(tmp_path / "presets.toml")}
        async with opened(Stage(gpus=1), size=size, seconds=3, environ=environ) as console:
            await console.press("3")
            await console.settle()
            page = console.app.page
            assert isinstance(page, TunePage)
            page.take(TPP if values is None else values)
            await until(console, lambda: bool(page.present.problem) or _thought(page))
            yield console, page

    return go


def _thought(page: TunePage) -> bool:
    return page.present.ways is not None and page.present.planned is not None


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_page_looks_as_it_did(paged: Paged, size: tuple[int, int]) -> None:
    async with paged(size) as (console, _page):
        text = console.text() + "\n"
    path = SNAPSHOTS / f"tune-{size[0]}x{size[1]}.txt"
    if updating():
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


async def test_it_is_tuned_until_it_fits_24_gb(paged: Paged) -> None:
    async with paged() as (console, page):
        assert "does not fit" in console.text()
        assert "22.15 GiB can be used" in console.text()
        ways = page.present.ways
        assert ways is not None
        assert ways[0].alters_output == ()
        await console.press("f")
        found = page.present.planned
        assert found is not None
        assert found.plan.fits
        assert page.present.values["variant"] == "ring"
        assert "fits" in console.text()


async def test_a_key_plans_anew_at_once(paged: Paged) -> None:
    async with paged() as (console, page):
        before = page.present.planned
        page.table.choose("sample_steps")
        await console.press("right")
        after = page.present.planned
        assert before is not None
        assert after is not None
        assert after is not before
        assert page.present.values["sample_steps"] == 5
        assert after.plan.devices[0].by_owner["kv"] != before.plan.devices[0].by_owner["kv"]
        await until(console, lambda: bool(page.present.around))
        assert set(page.present.around) == {"4", "6"}
        await console.press("backspace")
        assert "sample_steps" not in page.present.values
        await console.press("slash", *"mode", "enter", "left")
        assert page.present.values["mode"] == "offload"
        await console.press("right", "right", "right")  # next to the default, that is no "None"
        assert page.present.values.get("mode") == "auto"
        await until(console, lambda: "" in page.present.around)
        assert "default → " in console.text()
        page.take({"plan_memory": None})
        await until(console, lambda: "may fit: how much it may hold is not known" in console.text())
        await console.press("slash", "escape")
        page.table.choose("num_gpus_dit")  # its meaning speaks of steps too
        await console.press("slash", *"steps", "enter")
        assert page.table.item is BY_NAME["sample_steps"]


async def test_a_value_is_typed_and_a_wrong_one_is_a_sentence(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose("infer_frames")
        await console.press("enter", "5", "0", "enter")
        assert "must be a multiple of 12" in console.text()
        await console.press("backspace", "backspace", "6", "0", "enter")
        assert page.present.values["infer_frames"] == 60
        page.table.choose("prompt")
        await console.press("right")
        assert "is typed" in console.text()
        page.take({"mode": "single"})
        assert "cannot be planned" in console.text()  # single, and four ranks


async def test_values_that_contradict_each_other_have_a_way_out_too(paged: Paged) -> None:
    async with paged(values={**SUPPOSED, "plan_devices": 1, "mode": "fsdp"}) as (console, page):
        assert "needs 2 or more GPUs" in console.text()
        await console.press("f")  # before it is found: taken as soon as it is
        await until(console, lambda: page.present.planned is not None)
        found = page.present.planned
        assert found is not None
        assert found.plan.fits
        assert page.present.values["mode"] == "auto"
        assert "does not fit" not in console.text()
        page.take({"mode": "single", "num_gpus_dit": 4})
        await until(console, lambda: bool(page.present.ways))
        assert "offload" in console.text()
        assert "nothing to mend" not in console.text()


async def test_variants_stand_side_by_side(paged: Paged) -> None:
    async with paged((200, 50)) as (console, page):
        await console.press("v", "f", "v")
        page.table.choose("size")
        await console.press("left", "v", "v")
        assert len(page.variants) == 4
        assert "4 variants at most" in console.text()
        await console.press("V")
        text = console.text()
        assert "A tpp on 4 devices" in text
        assert "B tpp ring on 4 devices" in text
        assert "C tpp ring on 4 devices" in text
        await console.press("left_square_bracket")
        assert page.at == 1
    async with paged((80, 24)) as (console, page):
        await console.press("v", "f")
        assert "A ✗ 43.9 / 22.1 GiB" in console.text()
        await console.pilot.pause()


async def test_a_mode_is_taken_over(paged: Paged) -> None:
    async with paged() as (console, page):
        await console.press("m")
        screen = console.app.screen
        assert isinstance(screen, ModesScreen)
        await until(console, lambda: screen.body.ways is not None)
        ways = screen.body.ways or []
        screen.body.at = next(n for n, way in enumerate(ways) if way.plan.mode == "offload")
        await console.press("enter")
        assert page.present.values["mode"] == "offload"
        assert "num_gpus_dit" not in page.present.values


async def test_presets_and_earlier_jobs_are_starts(paged: Paged) -> None:
    async with paged() as (console, page):
        await console.press("p", "down", "enter")
        assert page.present.values["size"] == "384*256"
        await console.play([JobChanged(job=job(40, "done", request={"num_clip": 7}))])
        await console.press("h")
        assert isinstance(console.app.screen, Dialog)
        await console.press("down", "enter")
        assert page.present.values == {**SUPPOSED, "num_clip": 7}


async def test_values_are_kept_as_a_preset(paged: Paged, tmp_path: Path) -> None:
    async with paged() as (console, page):
        page.take({"size": "384*256", "audio": "/private.wav"})
        await console.press("w", *"mine", "enter")
        assert "Preset mine is saved." in console.text()
        await console.press("w", *"quick", "enter")
        assert "is a shipped preset" in console.text()
    found, problems = own_presets(tmp_path / "presets.toml")
    assert problems == []
    assert found[0].values["num_gpus_dit"] == 4
    assert "audio" not in found[0].values


def test_presets_of_one_s_own_are_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "presets.toml"
    monkeypatch.setenv("AVATOP_PRESETS_FILE", str(file))
    save_preset("Lecture", 'an "hour"\n人', {"num_clip": 1800, "enable_online_decode": True}, file)
    save_preset("other", "", {"sample_shift": 2.5}, file)
    lecture = find_preset("lecture")
    assert (lecture.purpose, lecture.values["num_clip"]) == ('an "hour" 人', 1800)
    assert [preset.name for preset in presets()][-2:] == ["lecture", "other"]
    with pytest.raises(ParamError, match="Did you mean lecture"):
        find_preset("lectur")
    with pytest.raises(ParamError, match="no name of a preset"):
        save_preset("a b", "", {}, file)
    file.write_text(file.read_text() + '\n[bad]\nsize = "1"\nsteps = 3\n[worse]\n[quick]\n')
    found, problems = own_presets(file)
    assert [preset.name for preset in found] == ["lecture", "other", "worse"]
    assert len(problems) == 2
    file.write_text("[")
    assert own_presets(file)[0] == []


async def test_what_is_missing_is_said_before_a_job_is_sent(paged: Paged) -> None:
    async with paged() as (console, _page):
        await console.press("s")
        assert console.client.sent == []
        assert "--image" in console.text()


def video(path: Path, shade: int, size: tuple[int, int] = (64, 48)) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = size
        for _ in range(4):
            pixels = np.full((size[1], size[0], 3), shade, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_how_alike_videos_are(tmp_path: Path) -> None:
    one, two = video(tmp_path / "a.mp4", 100), video(tmp_path / "b.mp4", 110)
    assert likeness(one, one).psnr == math.inf
    found = likeness(one, two)
    assert found.frames == 4
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / 100), abs=1.5)
    assert middle_frame(one, 32)[:2] == (32, 24)
    with pytest.raises(CompareError, match="have no PSNR"):
        likeness(one, video(tmp_path / "c.mp4", 100, (32, 32)))
    with pytest.raises(CompareError):
        middle_frame(tmp_path / "none.mp4", 32)


async def test_short_runs_are_watched_and_compared(
    paged: Paged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []

    def checked(page: TunePage, **changes: Any) -> dict[str, Any]:
        sent.append(changes)
        return {**page.present.values, **changes}

    monkeypatch.setattr("console.screens.tune_deeds._checked", checked)
    async with paged((200, 50)) as (console, page):
        console.client.reply = Reply(ok=True, job=50)
        await console.press("r")
        assert isinstance(console.client.sent[-1], Submit)
        assert sent[-1] == {"num_clip": 2}
        await console.press("v")
        page.take({"sample_shift": 2.0})
        console.client.reply = Reply(ok=True, job=51)
        await console.press("r")
        assert [variant.job for variant in page.variants] == [50, 51]
        await console.play([JobChanged(job=job(50, "running")), frame(50, 0, 1, 1.0)])
        assert page.variants[0].frame is not None
        await console.press("left_square_bracket", "c", "down", "enter")
        assert isinstance(console.client.sent[-1], Cancel)
        assert "c cancels" in console.text()
        await console.press("right_square_bracket")
        done = [
            job(
                50, "done", fps=12.5, peak_bytes=9 * GIB, output=str(video(tmp_path / "a.mp4", 90))
            ),
            job(
                51, "done", fps=11.5, peak_bytes=8 * GIB, output=str(video(tmp_path / "b.mp4", 99))
            ),
        ]
        await console.play([JobChanged(job=row) for row in done])
        await until(console, lambda: page.variants[1].psnr is not None)
        text = console.text()
        assert "dB" in text
        assert "12.5 fps" in text
        assert page.variants[1].frame is not None
        # The first is tried again, and is done after the other: both are compared anew.
        other = page.variants[1]
        before = other.psnr or 0.0
        await console.press("left_square_bracket")
        console.client.reply = Reply(ok=True, job=52)
        await console.press("r")
        again = job(52, "done", output=str(video(tmp_path / "c.mp4", 96)))
        await console.play([JobChanged(job=again)])
        await until(console, lambda: other.compared == (51, 52) and other.psnr is not None)
        assert (other.psnr or 0.0) > before
        assert page.variants[0].psnr_said == "the reference"


async def test_what_cannot_run_is_said_whole_and_mended(paged: Paged) -> None:
    values = {**SUPPOSED, "plan_devices": 8, "mode": "tpp", "num_gpus_dit": 4, "ulysses_size": 2}
    async with paged(values=values) as (console, page):
        text = " ".join(console.text().split())
        assert "✗ cannot run" in text
        assert "does not fit" not in text
        assert "by cutting through steps" in text  # the end of the reason
        await console.press("f")
        found = page.present.planned
        assert found is not None
        assert found.plan.fits
        assert found.plan.world_size == 8
        assert "ulysses_size" not in page.present.values


async def test_a_preset_says_what_it_would_cost_before_it_is_taken(paged: Paged) -> None:
    async with paged() as (console, _page):
        await console.press("p", "down", "down", "down")
        text = console.text()
        assert "lectures and courses; 32:00 of video; tpp on 4 devices" in text
        rows = [line for line in console.lines() if "1,000 clips" in line]
        assert "✗" in rows[0]
        assert "/ 22.1 GiB" in rows[0]


def test_the_video_is_as_long_as_the_voice(tmp_path: Path) -> None:
    sound = tmp_path / "voice.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000 * 7))
    found = planned(read_ground(values := {**TPP, "audio": str(sound)}), values)
    assert (found.question.clips, found.frames, found.cut_short) == (4, 189, True)
    asked = {**values, "num_clip": 3}
    assert not planned(read_ground(asked), asked).cut_short
    gone = {**values, "audio": str(tmp_path / "none.wav")}  # its launch is refused
    assert planned(read_ground(gone), gone).question.clips == 50


def test_every_parameter_can_be_tuned() -> None:
    names = {parameter.name for parameter in TUNED}
    assert {name for name, p in BY_NAME.items() if not p.no_effect} <= names
    assert turned(BY_NAME["mode"], None, 1) == "single"
    assert turned(BY_NAME["t5_cpu"], False, 1) is True
    assert turned(BY_NAME["gpu_memory_cap"], None, 1) == 2 * GIB
    assert turned(BY_NAME["size"], "704*384", -1) == "688*368"
    assert turned(BY_NAME["num_clip"], 50, 1) == 60
    with pytest.raises(BadValueError):
        turned(BY_NAME["sample_steps"], 1, -1)
    with pytest.raises(BadValueError):
        turned(BY_NAME["image"], None, 1)


def test_times_are_unknown_until_they_were_measured() -> None:
    ground = read_ground(TPP)
    found = planned(ground, TPP)
    assert (found.clip, found.total) == (None, None)
    assert found.frames == 48 * 50 - 3
    assert ways_of(found)

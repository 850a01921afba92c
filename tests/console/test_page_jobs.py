"""Can a person look into a job, steer it, and take a video away, from the jobs page?"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from console.app import AvatopApp
from console.kept import NOTHING, kept_of
from console.planning import Hardware, answer_of, question_of
from console.replanning import Way, mode_ways, relaunches_of
from console.screens import jobs_deeds
from console.screens.dialog import Dialog
from console.screens.jobs import JobsPage
from console.screens.modes import ModesBody, ModesScreen
from console.screens.submit import SubmitForm
from console.screens.working import Working
from console.widgets.joblog import tail_of
from engine.messages import (
    Cancel,
    ClipCommitted,
    Drain,
    Event,
    FindingRaised,
    Finish,
    JobChanged,
    LogLine,
    Pause,
    PlanChanged,
    PlanMade,
    Relaunch,
    Reorder,
    Resume,
    Submit,
    Switch,
    SwitchQueue,
)
from engine.params import Request
from tests.console.conftest import Console, Opener, updating
from tests.console.fake_client import GIB, T0, Stage, job

SNAPSHOTS = Path(__file__).parent / "snapshots"
REQUEST = Request(mode="tpp", num_gpus_dit=4, base_seed=7, audio="/data/lecture.wav")
Paged = Callable[..., AbstractAsyncContextManager[tuple[Console, JobsPage]]]


def question(memory: float = 141) -> Any:
    return question_of(REQUEST, "14b", Hardware(4, int(memory * GIB)))


def story() -> list[Event]:
    """A job that runs by a plan and was switched, and others in every state that asks for keys."""
    plan = answer_of(question()).plan.to_dict()
    events: list[Event] = [
        PlanMade(job=17, plan=plan, t=T0 + 1),
        JobChanged(job=job(17, clip=24, request=REQUEST.to_dict(), output="/out/a b.mp4",
                           manifest="/state/jobs/000017/segments/manifest.json")),
        PlanChanged(job=17, reason="switch", mode="tpp", seconds=1.9, t=T0 + 8.5,
                    change="mode tpp in place of offload"),
        *(ClipCommitted(job=17, clip=clip, frames=48, seconds=1.0, path="x", t=T0 + clip / 2,
                        fps=30.0 if clip == 20 else 48.0) for clip in range(10, 24)),
        LogLine(level="INFO", source="engine", text="of seventeen", job=17, t=T0 + 2),
        LogLine(level="INFO", source="engine", text="of another", job=18, t=T0 + 3),
        JobChanged(job=job(10, "failed", mode="single", ranks=1, request=REQUEST.to_dict(),
                           error="rank 0 ran out of memory (oom): 40.1 GiB asked", ended=T0)),
        JobChanged(job=job(11, "done", output="/out/done.mp4", ended=T0)),
        JobChanged(job=job(12, "paused", resumable="mirror")),
        JobChanged(job=job(9, "running", kind="command", mode="command", ranks=1, size="",
                           request={"command": "python gen.py"})),
        JobChanged(job=job(18, "queued", clip=0, position=0)),
        JobChanged(job=job(19, "queued", clip=0, position=1)),
    ]  # fmt: skip
    return events


@pytest.fixture
def paged(opened: Opener) -> Paged:
    """The jobs page, with jobs in it."""

    @asynccontextmanager
    async def go(
        size: tuple[int, int] = (120, 40), lang: str = "en"
    ) -> AsyncIterator[tuple[Console, JobsPage]]:
        async with opened(Stage(gpus=4), size=size, seconds=12, lang=lang) as console:
            await console.play(story())
            await console.press("2")
            await console.settle()
            page = console.app.page
            assert isinstance(page, JobsPage)
            yield console, page

    return go


@pytest.fixture(autouse=True)
def own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are not corrected by what this host has measured."""
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))


def sent(console: Console) -> list[Any]:
    """What the engine was sent, without the moments."""
    return [dataclasses.replace(command, t=0.0) for command in console.client.sent]


async def until(console: Console, true: Callable[[], bool]) -> None:
    """Let threads come back, for at most ten seconds."""
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        await console.pilot.pause(0.01)
    assert true()
    await console.pilot.pause()


async def compared(console: Console) -> ModesBody:
    """The comparison of modes, once it is made."""
    screen = console.app.screen
    assert isinstance(screen, ModesScreen)
    body = screen.body
    await until(console, lambda: body.ways is not None)
    return body


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_page_looks_as_it_did(paged: Paged, size: tuple[int, int]) -> None:
    async with paged(size) as (console, page):
        page.table.choose(17)
        await console.settle()
        text = console.text() + "\n"
    path = SNAPSHOTS / f"jobs-{size[0]}x{size[1]}.txt"
    if updating():
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


async def test_one_job_in_full(paged: Paged) -> None:
    async with paged((160, 100)) as (console, page):
        page.table.choose(17)
        await console.settle()
        text = console.text()
        for said in ("Plan against measured peak", "conditioning", "24/50 committed",
                     "1 slow clip", "slowest: clip 21, 30.0 fps", "in place of offload",
                     "/out/a b.mp4", "base_seed"):  # fmt: skip
            assert said in text
        page.table.choose(9)
        await console.settle()
        assert "Another program does its work: it has no plan." in console.text()
        page.table.choose(10)
        await console.settle()
        assert "x offers the nearest plans that fit" in console.text()


async def test_a_plan_is_not_judged_before_the_first_clip(paged: Paged) -> None:
    """Half of the weights are loaded: the plan is not off by that."""
    async with paged((160, 100)) as (console, page):
        page.table.choose(17)
        await console.settle()
        before = console.app.model.jobs[17]
        rows = [row for row in console.text().splitlines() if "cuda:" in row and " / " in row]
        assert rows
        assert all("%" in row for row in rows)
        await console.play([JobChanged(job=dataclasses.replace(before, clip=0))])
        await console.settle()
        rows = [row for row in console.text().splitlines() if "cuda:" in row and " / " in row]
        assert rows
        assert not any("%" in row for row in rows)


async def test_the_log_is_that_of_the_job(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(17)
        await console.settle()
        assert "of seventeen" in console.text()
        assert "of another" not in console.text()
    async with paged((80, 24)) as (console, page):
        page.table.choose(17)
        await console.press("l")
        assert page.log_pane.has_focus
        assert "of seventeen" in console.text()
        await console.press("escape")
        assert page.table.has_focus
        await console.press("l")
        assert page.details.display


async def test_the_log_of_a_job_that_left_no_folder(
    paged: Paged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "engine.log"
    file.write_text("[ERROR] 2026-01-02 03:04:06 job.py:4 - job 10: it never made a clip\n")
    monkeypatch.setattr(AvatopApp, "engine_log", file)
    async with paged() as (console, page):
        page.table.choose(10)
        await console.press("l")
        assert "it never made a clip" in console.text()


def test_the_log_of_a_job_that_ended_long_ago(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    file.write_text(
        "cut off\n"
        "[INFO] 2026-01-02 03:04:05 job.py:3 - job 7 rank 2 stdout: hello\n"
        "[ERROR] 2026-01-02 03:04:06 job.py:4 - job 7: bad\n"
        "[INFO] 2026-01-02 03:04:07 job.py:4 - job 71: other\n"
    )
    lines = tail_of(file, 7)
    assert [(line.source, line.level, line.text) for line in lines] == [
        ("rank 2", "INFO", "hello"), ("engine", "ERROR", "bad")]  # fmt: skip
    assert tail_of(tmp_path / "none", 7) == []


async def test_a_job_that_ended_long_ago_is_told_by_its_result(
    paged: Paged, tmp_path: Path
) -> None:
    folder = tmp_path / "jobs" / "000011"
    manifest = str(folder / "segments" / "manifest.json")
    owners = {"weights": 15 * GIB, "kv": 9 * GIB}
    ranks = [{"rank": n, "peak_bytes": (20 + n) * GIB, "by_owner": owners} for n in range(4)]
    clips = [{"clip": n, "frames": 48, "seconds": 1.0, "fps": 47.5} for n in range(3)]
    plan = answer_of(question()).plan.to_dict()
    body = {"job": 11, "ranks": ranks, "plan": plan, "clips": clips}
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(body))
    ended = job(11, "done", clip=3, clips=3, manifest=manifest, ended=T0)
    async with paged(size=(200, 50)) as (console, page):
        await console.play([JobChanged(job=ended)])
        page.table.choose(11)
        page.on_table_moved()
        await console.settle()
        for told in ("20.0 / ", "23.0 / ", "9.00 GiB", "47.5 fps usually", "each owner's own peak"):
            assert told.casefold() in console.text().casefold()
        why = "stopped after the clip in progress; 3 clips are kept"
        cause = FindingRaised(id="f", finding="interrupted", severity="error", job=11,
                              cause=f"{why[0].upper()}{why[1:]}.")  # fmt: skip
        await console.play([JobChanged(job=dataclasses.replace(ended, error=why)), cause])
        details = page.details.sections(100)[0].lines
        assert [
            line.text for line in details if "3 clips are kept" in getattr(line, "text", "")
        ] == [why]
    assert kept_of(dataclasses.replace(ended, id=12)) == NOTHING  # the file is another job's


async def test_keys_become_commands(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(17)
        await console.press("p")
        assert sent(console)[-1] == Pause(job=17, t=0.0)
        await console.press("f", "down", "enter")
        assert sent(console)[-1] == Finish(job=17, t=0.0)
        page.table.choose(19)
        await console.press("less_than_sign")
        assert sent(console)[-1] == Reorder(job=19, position=0, t=0.0)
        await console.press("greater_than_sign")
        assert sent(console)[-1] == Reorder(job=19, position=0, t=0.0)
        assert "last of the queue" in console.text()
        await console.press("n")
        assert sent(console)[-1] == Reorder(job=19, position=0, t=0.0)
        page.table.choose(12)
        await console.press("r", "down", "down", "enter")
        assert sent(console)[-1] == Resume(job=12, how="replay", t=0.0)
        await console.press("d", "down", "down", "enter")
        assert sent(console)[-1] == Drain(device="GPU-0001", on=True, t=0.0)
        await console.press("D", "down", "enter")
        assert sent(console)[-1] == Drain(device="GPU-0000", on=False, t=0.0)


async def test_waiting_jobs_stand_in_the_order_they_will_run_in(paged: Paged) -> None:
    async with paged() as (console, page):

        def waiting() -> list[int]:
            return [row.id for row in page.table.shown() if row.state == "queued"]

        assert waiting() == [18, 19]
        await console.play([JobChanged(job=job(19, "queued", clip=0, position=-1))])
        assert waiting() == [19, 18]


async def test_the_variant_of_a_mode_is_told_and_a_switch_to_it_changes_the_row(
    paged: Paged,
) -> None:
    async with paged() as (console, page):
        page.table.choose(17)
        plan = {**answer_of(question()).plan.to_dict(), "variant": "balanced"}
        await console.play([PlanMade(job=17, plan=plan)])
        assert "tpp bal.×4" in console.text()
        assert "tpp balanced×4" in console.text()


async def test_a_filter_keeps_a_job_that_pauses(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(17)
        await console.press("/", *"lecture", "enter")
        assert 17 in [row.id for row in page.table.shown()]
        resting = job(17, "paused", clip=24, request=REQUEST.to_dict(), output=None)
        await console.play([JobChanged(job=resting)])
        assert 17 in [row.id for row in page.table.shown()]


async def test_several_are_marked_and_cancelled_with_one_question(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(18)
        await console.press("space", "space", "c")
        assert isinstance(console.app.screen, Dialog)
        assert "Cancel 2 jobs?" in console.text()
        await console.press("enter")
        assert console.client.sent == []
        await console.press("c", "down", "enter")
        assert sent(console) == [Cancel(job=18, t=0.0), Cancel(job=19, t=0.0)]
        assert page.table.marked == set()  # the next key is about the row under the cursor again


async def test_a_clone_is_the_job_with_a_change(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(17)
        await console.press("e")
        form = console.app.screen
        assert isinstance(form, SubmitForm)
        assert form.inputs["audio"].value == "/data/lecture.wav"
        assert form.inputs["ranks"].value == "4"
        assert form.values()["base_seed"] == 7
        assert "output" not in form.values()
        await console.settle()
        assert "Clone job 17" in console.text()
        assert "preset" not in console.text()
        form.inputs["size"].value = ""
        await console.settle()
        assert "704*384, the default" in console.text()


async def test_the_path_and_the_scp_line_are_copied(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(17)
        await console.press("y")
        assert console.app.clipboard == "/out/a b.mp4"
        await console.settle()
        assert "Job 17 is not done: its video is not there yet. Sent to" in console.text()
        page.table.choose(11)
        await console.press("y")
        await console.settle()
        assert "Sent to your terminal. /out/done.mp4" in console.text()
        console.app.environ = {**console.app.environ, "TMUX": "/tmp/tmux-0/default,1,0"}
        await console.press("y")
        await console.settle()
        assert "tmux passes it on with: set -g set-clipboard on" in console.text()
        page.table.choose(17)
        await console.press("Y")
        assert console.app.clipboard.startswith("scp ")
        assert "gpu-srv-07" in console.app.clipboard
    line = jobs_deeds.scp_line("host", "me", ["/a b.mp4"])
    assert line == "scp 'me@host:'\"'\"'/a b.mp4'\"'\"'' ."


async def test_after_out_of_memory_unchanged_output_is_offered_first(
    paged: Paged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.replanning.question_of", lambda _request: question(22.15))
    ways = relaunches_of(REQUEST.to_dict(), None, {0: 40 * GIB})
    assert ways
    assert [bool(way.alters_output) for way in ways] == sorted(
        bool(way.alters_output) for way in ways
    )
    async with paged() as (console, page):
        page.table.choose(10)
        await console.press("x")
        await until(console, lambda: isinstance(console.app.screen, Dialog))
        assert "output unchanged" in console.text()
        await console.press("enter")
        command = console.client.sent[-1]
        assert isinstance(command, Relaunch)
        assert command.job == 10
        assert command.changes


async def test_where_no_plan_can_be_made_the_engine_looks(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.choose(10)  # its checkpoint is not named: nothing can be read
        await console.press("x")
        await until(console, lambda: not isinstance(console.app.screen, Working))
        assert "No plan could be looked for here" in console.text()
        await console.press("enter")
        command = console.client.sent[-1]
        assert isinstance(command, Relaunch)
        assert (command.job, command.changes) == (10, {"plan": "next_fitting"})


async def test_every_mode_beside_the_others_and_one_is_taken(
    paged: Paged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_request: Any, plan: Any, _held: Any) -> list[Way]:
        return mode_ways(question(24), plan)

    monkeypatch.setattr("console.replanning.modes_of", look)
    async with paged() as (console, page):
        page.table.choose(17)
        await console.press("m")
        body = await compared(console)
        ways = body.ways
        assert ways is not None
        text = console.text()
        assert {way.plan.mode for way in ways} == {"single", "offload", "tpp", "fsdp"}
        assert "does not fit" in text
        assert "now" in text
        assert body.now == "tpp on 4 devices"
        (row,) = (
            line for line in text.splitlines() if "now" in line and "tpp on 4 devices" in line
        )
        assert " fps" in row  # as this job does it: nothing alike was measured before
        body.at = next(n for n, way in enumerate(ways) if not way.usable)
        await console.press("enter")
        assert isinstance(console.app.screen, ModesScreen)  # what does not fit is not taken
        at = next(n for n, way in enumerate(ways) if way.usable and way.plan.variant == "ring")
        body.at = at
        await console.press("enter")
        command = console.client.sent[-1]
        assert isinstance(command, Switch)
        assert (command.job, command.changes["variant"]) == (17, "ring")
        await console.press("m")
        body = await compared(console)
        body.at = at
        await console.press("tab", "enter")
        assert isinstance(console.client.sent[-1], SwitchQueue)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_each_mode_s_memory_and_speed_stand_side_by_side(
    paged: Paged, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    def look(_request: Any, plan: Any, _held: Any) -> list[Way]:
        """As on a host that has measured pipelines, and nothing else."""
        pace = {"tpp": 0.26, "fsdp": 0.34}
        return [
            dataclasses.replace(way, plan=dataclasses.replace(
                way.plan, seconds_per_block=pace.get(way.plan.mode)))
            for way in mode_ways(question(80), plan)
        ]  # fmt: skip

    monkeypatch.setattr("console.replanning.modes_of", look)
    async with paged(size) as (console, page):
        page.table.choose(17)
        await console.press("m")
        body = await compared(console)
        text = console.text() + "\n"
        for way in body.ways or ():
            (row,) = (line for line in text.splitlines()
                      if f" {way.title}  " in line and "/ 80.0 GiB" in line)  # fmt: skip
            speed = {"tpp": "46.2 fps", "fsdp": "35.3 fps"}.get(way.plan.mode, "n/a")
            assert speed in row.partition("80.0 GiB")[2]
    path = SNAPSHOTS / f"modes-{size[0]}x{size[1]}.txt"
    if updating():
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


async def test_without_a_job_the_page_says_what_to_do(opened: Opener) -> None:
    async with opened(Stage(gpus=1, jobs=0, cpu_ranks=0), size=(80, 24), seconds=0) as console:
        console.app.model.book.jobs.clear()
        console.app.model.book._rows = None
        console.app.action_go("jobs")
        await console.settle()
        assert "Press s to submit one" in console.text()
        for key in ("p", "r", "f", "c", "x", "n", "less_than_sign", "m", "e", "y", "Y"):
            await console.press(key)
        assert console.client.sent == []


async def test_a_reader_may_look_and_copy_alone(paged: Paged) -> None:
    async with paged() as (console, page):
        console.client.read_only = True  # type: ignore[attr-defined]
        page.table.choose(17)
        for key in ("s", "e", "p", "f", "c", "d", "n"):
            await console.press(key)
        assert console.client.sent == []
        assert not any(isinstance(command, Submit) for command in console.client.sent)
        await console.press("y")
        assert console.app.clipboard == "/out/a b.mp4"

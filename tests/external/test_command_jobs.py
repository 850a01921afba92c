"""Is another program under our roof as safe as a rank group: devices, port, tree, memory, video?"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.bus import Bus
from engine.external.prepare import prepare_command
from engine.external.run import CommandRun
from engine.guard.limits import Limits
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.media.join import join
from engine.messages import DeviceReading, DevicesSampled, Event, JobRow, LogLine, ProcessReading
from engine.parameters.request import Request
from engine.preflight import Machine
from engine.resources import sample_data
from engine.warm import WarmGroups
from tests.media import makers

PROGRAMS = Path(__file__).with_name("programs.py")
MIB = 2**20
GPU = DeviceReading(0, "NVIDIA H200", "GPU-1", "nvml", memory_total=100, memory_used=7)


class Host:
    """What an engine is to a command."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.places = Places(folder / "state", folder / "cache")
        self.bus = Bus()
        self.store = JobStore(self.places.database)
        self.limits = Limits()
        self.warm = WarmGroups(self.bus, 0.0)
        self._machine = machine
        self.events: list[Event] = []
        self.bus.subscribe(self.events.append)

    async def machine(self) -> Machine:
        return self._machine

    def said(self) -> str:
        return "\n".join(e.text for e in self.events if isinstance(e, LogLine))


@pytest.fixture(scope="session")
def good_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    clip = makers.segment(folder / "clip.mp4", makers.numbered(0, 25))
    voice = sample_data() / "speech" / "english.wav"
    join([clip], voice, folder / "good.mp4")
    return folder / "good.mp4"


@pytest.fixture
def make(tmp_path: Path, good_video: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """(run, host) of one command; ``machine`` is what the host has."""
    monkeypatch.setenv("GOOD_VIDEO", str(good_video))
    monkeypatch.setenv("AVATOP_LEASE_DIR", str(tmp_path / "locks"))
    hosts: list[Host] = []

    def start(what: str, machine: Machine | None = None, **more: Any) -> tuple[CommandRun, Host]:
        words = [sys.executable, str(PROGRAMS), *shlex.split(what)]
        request = Request.from_dict(
            {"command": shlex.join(words), "workdir": str(tmp_path), "gpus": "cpu", **more}
        )
        machine = machine or Machine()
        prepared = prepare_command(request, machine)
        host = Host(tmp_path, machine)
        hosts.append(host)
        row = host.store.create(request.to_dict(), **prepared.fields())
        row = host.store.update(row.id, output=str(tmp_path / "out.mp4"))
        return CommandRun(host, row, prepared), host

    yield start
    for host in hosts:
        host.store.close()


async def until(found: Callable[[], bool]) -> None:
    """Bounded by the test's own time limit."""
    while not found():  # noqa: ASYNC110 - what is waited for happens in other processes
        await asyncio.sleep(0.01)


def result_of(host: Host, row: JobRow) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((host.places.job(row.id).folder / "result.json").read_text())
    return body


async def test_it_hands_on_a_whole_video_and_shows_the_bar(make: Any, tmp_path: Path) -> None:
    run, host = make("good")
    assert await run.drive() is None
    assert (run.row.state, run.row.clip, run.row.clips) == ("done", 4, 4)
    assert (tmp_path / "out.mp4").stat().st_size > 0
    told = result_of(host, run.row)
    assert (told["state"], told["exit_code"], told["frames"], told["leftover"]) == (
        "done", 0, 25, [],
    )  # fmt: skip
    assert host.said().count("|##|") < 4  # of a bar one state in some seconds


async def test_B3_parameters_reach_it_without_a_shell(make: Any, tmp_path: Path) -> None:
    odd = 'a "face"; $(touch pwned) && `id` {not} \\'
    run, host = make(
        "environment {prompt} {size} '{fp8?--fp8}' '{retries?--retries={retries}}'",
        prompt=odd,
        size="384*256",
        num_clip=3,
        sample_steps=5,
    )
    await run.drive()
    said = host.said()
    assert f"PROMPT=<{odd}>" in said
    assert "RESOLUTION=<384*256>" in said
    assert "CLIP_COUNT=<3>" in said
    assert "SAMPLE_STEPS=<5>" in said
    retries = run.row.request["retries"]
    assert f"ARGS={[odd, '384*256', f'--retries={retries}']}" in said
    assert not (tmp_path / "pwned").exists()


async def test_its_words_say_why_it_failed_and_memory_is_not_tried_again(make: Any) -> None:
    run, host = make("oom", retries=2)
    await run.drive()
    assert run.row.state == "failed"
    assert run.again is None
    assert "memory" in run.row.error
    assert "exit code 1" in run.row.error
    assert "not tried again: out of memory" in host.said()


async def test_B2_a_taken_port_is_another_port_at_the_next_attempt(make: Any) -> None:
    run, host = make("taken_port", retries=1)
    await run.drive()
    assert (run.row.state, run.again.attempt) == ("queued", 2)
    prepared = prepare_command(run.again.request, Machine())
    again = CommandRun(host, run.row, prepared)
    await again.drive()
    assert again.row.state == "done"
    words = host.said().split("first ")[1].split()
    assert words[0].rstrip(",") != words[2]


async def test_cancelling_ends_the_whole_tree_and_what_ignores_sigterm(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.external.run._CANCEL_GRACE", 0.3)
    run, host = make("hang")
    driving = asyncio.create_task(run.drive())
    await until(lambda: "all ranks are up" in host.said())
    tree = run._command.pids()
    assert len(tree) == 3
    assert run.cancel("enough")
    await driving
    assert run.row.state == "cancelled"
    assert [pid for pid in tree if psutil.pid_exists(pid)] == []


async def test_what_a_program_leaves_behind_is_ended_and_told(make: Any) -> None:
    run, host = make("orphan")
    await run.drive()
    orphan = int((host.places.job(run.row.id).folder / "orphan").read_text())
    assert run.row.state == "done"
    assert not psutil.pid_exists(orphan)
    assert result_of(host, run.row)["leftover"] == [orphan]
    assert f"left processes {orphan} behind" in host.said()


async def test_nothing_survives_the_engine(make: Any) -> None:
    run, host = make("hang")
    driving = asyncio.create_task(run.drive())
    await until(lambda: "all ranks are up" in host.said())
    tree = run._command.pids()
    run._command._control.shutdown(socket.SHUT_RDWR)  # as the kernel does when the engine dies
    await until(lambda: not any(psutil.pid_exists(pid) for pid in tree))
    await driving


async def test_R2_a_cap_is_watched_and_told_as_watched(make: Any) -> None:
    run, host = make("hang", Machine((GPU,)), gpus="0", gpu_memory_cap=50 * MIB)
    driving = asyncio.create_task(run.drive())
    await until(lambda: "all ranks are up" in host.said())
    pid = run._command.pid
    for held in (40 * MIB, 60 * MIB):
        own = ProcessReading(pid, 0.0, memory={"GPU-1": held})
        reading = dataclasses.replace(GPU, memory_used=7 + held, processes=(own,))
        host.bus.publish(DevicesSampled(devices=(reading,)))
        if held == 40 * MIB:
            assert run._stop is None
    assert run.row.peak_bytes == 60 * MIB
    run._command.stop(0.1)
    await driving
    assert run.row.state == "failed"
    assert "over its memory cap" in run.row.error
    assert "not enforced" in run.row.error


async def test_a_container_that_hides_its_processes_is_measured_by_the_device(make: Any) -> None:
    run, host = make("hang", Machine((GPU,)), gpus="0")
    driving = asyncio.create_task(run.drive())
    await until(lambda: "all ranks are up" in host.said())
    host.bus.publish(DevicesSampled(devices=(dataclasses.replace(GPU, memory_used=37),)))
    assert run.row.peak_bytes == 30
    run.cancel("enough")
    run._command.stop(0.1)
    await driving
    assert result_of(host, run.row)["watched"] == {"peak_bytes": 30, "estimated": True}


async def test_B2_the_wall_clock_ends_it(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.external.run.GRACE", 0.2)
    run, host = make("hang")
    host.limits = Limits(wall_floor=0.5)
    await run.drive()
    assert run.row.state == "interrupted"
    assert "allowed in all" in run.row.error


async def test_its_words_are_text_whatever_they_are(make: Any) -> None:
    run, host = make("noisy")
    await run.drive()
    assert run.row.state == "done"
    longest = max(len(e.text) for e in host.events if isinstance(e, LogLine))
    assert longest < 9000
    assert "[bold]markup[/bold]" in host.said()


async def test_a_program_that_made_nothing_has_failed(make: Any) -> None:
    run, _ = make("no_video")
    await run.drive()
    assert (run.row.state, run.row.output) == ("failed", None)
    assert "left no video" in run.row.error


async def test_a_program_that_is_not_there_is_told(make: Any) -> None:
    run, _ = make("good")
    run._prepared = dataclasses.replace(
        run._prepared,
        request=run._prepared.request.replace(command="no-such-program --x"),
    )
    await run.drive()
    assert run.row.state == "failed"
    assert "no-such-program" in run.row.error


async def test_a_stopped_container_is_ended_by_its_profile(make: Any, tmp_path: Path) -> None:
    run, host = make("hang")
    marker = tmp_path / "stopped-{job}"
    profile = dataclasses.replace(run._prepared.profile, stop=("touch", str(marker)))
    file = tmp_path / "mine.toml"
    file.write_text(
        f"argv = {json.dumps(list(profile.argv))}\nstop = {json.dumps(list(profile.stop))}\n"
    )
    request = run._prepared.request.replace(command=None, profile=str(file))
    run._prepared = dataclasses.replace(run._prepared, request=request, profile=profile)
    driving = asyncio.create_task(run.drive())
    await until(lambda: "all ranks are up" in host.said())
    run.cancel("enough")
    run._command.stop(0.1)
    await driving
    assert (tmp_path / f"stopped-{run.row.id}").exists()

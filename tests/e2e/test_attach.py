"""Does work outlive the console that began it, and does the next console find all of it?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pexpect
import psutil
import pytest

from engine.jobs.paths import Places
from engine.messages import BlockDone, Event, JobChanged, LedgerUpdated, LogLine, StopEngine
from engine.remote.client import SocketClient, attach
from tests.bad_inputs import voice, write_wav
from tests.e2e.harness import (
    PATIENCE,
    argv,
    environment,
    gone,
    job_flags,
    python_in_a_terminal,
    ranks_of,
    start_cli,
    until,
)
from tests.e2e.person import at_the_console

pytestmark = [pytest.mark.pty, pytest.mark.ranks, pytest.mark.xdist_group("e2e")]


@pytest.fixture(scope="module")
def endless(inputs: Path) -> dict[str, str]:
    """A job that no test sees the end of."""
    path = inputs / "long.wav"
    write_wav(path, voice(60.0, 16_000), 16_000)
    return job_flags(inputs, mode="single", num_clip=50, audio=path)


@contextmanager
def _cleaned(folder: Path) -> Iterator[Places]:
    """Whatever a test leaves running under ``folder`` is ended."""
    places = Places(folder / "state", folder / "cache")
    try:
        yield places
    finally:
        client = attach(places)
        if client is not None:
            with closing(client):
                host = psutil.Process(client.engine_pid)
                client.send(StopEngine()).result(PATIENCE)
            until(lambda: gone([host]))


@contextmanager
def _console(folder: Path, *args: str) -> Iterator[pexpect.spawn[bytes]]:
    with python_in_a_terminal(folder, "-m", "console", *args) as child:
        yield child


def _avatop(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console", *args],
        env=environment(folder), cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _json(folder: Path, *args: str) -> dict[str, Any]:
    done = _avatop(folder, *args, "--json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert isinstance(body, dict)
    return body


def _read_along(child: pexpect.spawn[bytes]) -> bool:
    with suppress(pexpect.TIMEOUT):
        child.read_nonblocking(1 << 16, timeout=0)
    return True


def _attached(places: Places) -> SocketClient:
    client = until(lambda: attach(places))
    assert isinstance(client, SocketClient)
    return client


def test_a_job_goes_on_without_its_consoles_and_the_next_one_sees_its_past(
    tmp_path: Path, endless: dict[str, str]
) -> None:
    with _cleaned(tmp_path) as places:
        with _console(tmp_path, "demo", *argv(endless)) as first:
            ranks = until(lambda: _read_along(first) and ranks_of(first.pid))
            with closing(_attached(places)) as client:
                blocks: list[Event] = []
                client.subscribe(blocks.append)
                until(lambda: _read_along(first) and any(isinstance(e, BlockDone) for e in blocks))
                with at_the_console(tmp_path) as second:  # two at once are fine

                    def consoles(count: int) -> bool:
                        found: int = client.status().result(PATIENCE)["consoles"]
                        return found == count

                    second.waits_for(lambda: _read_along(first) and consoles(2))
                    os.kill(first.pid, signal.SIGKILL)
                    second.waits_for(lambda: consoles(1))
                    assert not gone(ranks)
                    second.sees("1 running")
                    second.press("q")
                    second.sees("Detach")
                    second.press("Enter")
                    second.sees("the engine works on")
                    assert second.leaves() == 0
                before = len(blocks)
                until(lambda: any(isinstance(e, BlockDone) for e in blocks[before:]))
        assert not gone(ranks)

        with closing(_attached(places)) as late:
            past: list[Event] = []
            late.subscribe(past.append)
            picture = late.snapshot().result(PATIENCE)
            (row,) = picture.jobs
            assert row.state == "running"
            assert picture.plans.keys() == {row.id}
            assert {rank.pid for rank in picture.ranks} == {p.pid for p in ranks}
            host = psutil.Process(late.engine_pid)
            texts = [line.text for line in picture.logs]
            assert any("is attached" in text for text in texts)
            # Readings from before it came: its plots have no gap.
            began = min(e.t for e in past if isinstance(e, LedgerUpdated))
            assert row.started is not None
            assert began < min(e.t for e in picture.logs if "is attached" in e.text) + 60
            assert began >= row.started

        assert _json(tmp_path, "cancel", str(row.id))["job"] == row.id
        again = _avatop(tmp_path, "cancel", "99")
        assert again.returncode == 2
        assert "99" in again.stderr
        until(lambda: gone(ranks))
        until(lambda: gone([host]))  # nobody is there, nothing waits: it ends


def test_a_fault_in_the_console_ends_the_console_alone(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from console.app import AvatopApp\n"
        "from console.commands.console import open_console\n"
        "AvatopApp.action_help = lambda self: 1 // 0\n"
        "sys.exit(open_console())\n"
    )
    with _cleaned(tmp_path) as places, python_in_a_terminal(tmp_path, "-c", code) as child:
        with closing(_attached(places)) as client:
            until(lambda: _read_along(child) and client.status().result(PATIENCE)["consoles"])
            child.send("?")
            child.expect("the console failed; the engine works on")
            child.expect("ZeroDivisionError: .* its traceback is in ")
            child.expect(pexpect.EOF)
            child.wait()
            assert child.exitstatus == 1
            assert "in <lambda>" in places.faults.read_text()
            assert client.snapshot().result(PATIENCE).logs
            host = psutil.Process(client.engine_pid)
            assert not gone([host])
        until(lambda: gone([host]))


def test_run_gives_its_job_to_the_engine_of_another_process(
    tmp_path: Path, inputs: Path, endless: dict[str, str]
) -> None:
    short = job_flags(inputs, mode="single", num_clip=1)
    with _cleaned(tmp_path) as places:
        host = start_cli(["run", "--json", *argv(endless)], tmp_path)
        try:
            with closing(_attached(places)) as client:
                assert client.engine_pid == host.pid
                until(lambda: len(client.snapshot().result(PATIENCE).jobs) == 1)
                following = start_cli(["run", "--json", *argv(short)], tmp_path)
                until(lambda: len(client.snapshot().result(PATIENCE).jobs) == 2)
                queued = _json(tmp_path, "submit", *argv({**short, "base_seed": "7"}))
                assert queued["state"] == "queued"
                assert _json(tmp_path, "cancel", "1")["job"] == 1
                assert _avatop(tmp_path, "detach", "--json").returncode == 0
                out, err = following.communicate(timeout=PATIENCE)
                assert following.returncode == 0, err
                body = json.loads(out)
                assert (body["job"], body["state"]) == (2, "done")
                assert Path(body["output"]).exists()
                # The command that hosts has lost its own job; the third one still gets made.
                out, err = host.communicate(timeout=PATIENCE)
                assert host.returncode == 130, err
                assert json.loads(out)["state"] == "cancelled"
            (third, *_) = _json(tmp_path, "jobs")["jobs"]
            assert (third["id"], third["state"]) == (queued["job"], "done")
        finally:
            host.kill()
            host.communicate()


def test_without_an_engine_the_verbs_say_so_and_stop_ends_one(
    tmp_path: Path, endless: dict[str, str]
) -> None:
    with _cleaned(tmp_path) as places:
        for verb in ("attach", "detach"):
            told = _avatop(tmp_path, verb)
            assert told.returncode == 1
            assert "no engine is running" in told.stderr
        assert _json(tmp_path, "stop") == {"engine": None, "state": "none"}
        job = _json(tmp_path, "submit", *argv(endless))["job"]
        with closing(_attached(places)) as client:
            host = psutil.Process(client.engine_pid)
            heard: list[Event] = []
            client.subscribe(heard.append)
            until(lambda: any(isinstance(e, BlockDone) for e in heard))
            assert _json(tmp_path, "stop")["state"] == "stopping"
            client.when_idle().result(PATIENCE)
            rows = [e.job for e in heard if isinstance(e, JobChanged) and e.job.id == job]
            assert rows[-1].state == "interrupted"
            assert rows[-1].clip >= 1
            assert not [e for e in heard if isinstance(e, LogLine) and e.level == "CRITICAL"]
        until(lambda: gone([host]))

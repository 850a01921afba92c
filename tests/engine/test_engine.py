"""Can a user interface rely on the engine's start, answers and end?"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.engine import Engine, start_engine
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import (
    Acknowledge,
    Cancel,
    DevicesSampled,
    Drain,
    EngineStarted,
    EngineStopped,
    Event,
    Reap,
    Relaunch,
    StopEngine,
    Submit,
)

WAIT = 30


def _places(folder: Path) -> Places:
    return Places(folder / "state", folder / "cache")


def test_it_tells_its_start_its_devices_and_its_end(tmp_path: Path) -> None:
    engine, events, sampled = Engine(_places(tmp_path), "1.2.3"), list[Event](), threading.Event()

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, DevicesSampled):
            sampled.set()

    engine.bus.subscribe(listen)
    client = engine.start()
    assert sampled.wait(WAIT)
    picture = client.snapshot().result(WAIT)
    assert picture.devices
    assert client.when_idle().result(WAIT) is None
    client.close()
    client.close()
    started = [e for e in events if isinstance(e, EngineStarted)]
    assert [e.version for e in started] == ["1.2.3"]
    assert started[0].device_source == picture.device_source
    assert isinstance(events[-1], EngineStopped)


def test_commands_sent_before_it_is_open_and_after_its_end_are_answered(tmp_path: Path) -> None:
    client = start_engine(_places(tmp_path))
    early = client.send(Cancel(job=7))  # the engine has hardly begun
    assert "no job 7" in early.result(WAIT).message
    bad = client.send(Submit(request={"size": "9"})).result(WAIT)
    assert (bad.ok, bad.state) == (False, "bad_input")
    nobody = client.send(Reap(targets=((2**22 + 7, 1.0),), confirmed=True)).result(WAIT)
    assert "no such process" in nobody.message
    assert "no alert" in client.send(Acknowledge(alert="x")).result(WAIT).message
    assert "no job 7" in client.send(Relaunch(job=7)).result(WAIT).message
    assert "UUID" in client.send(Drain(device="GPU-x")).result(WAIT).message
    assert client.send(StopEngine()).result(WAIT).ok
    assert client.engine.join(WAIT)
    late = client.send(Cancel(job=7)).result(WAIT)
    assert (late.ok, late.message) == (False, "the engine has ended")
    assert client.snapshot().result(WAIT).jobs == ()
    assert client.when_idle().result(WAIT) is None


def test_a_state_folder_that_cannot_be_made_is_said_and_nothing_hangs(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    client = start_engine(_places(tmp_path))
    reply = client.send(Cancel(job=1)).result(WAIT)
    assert not reply.ok
    assert str(tmp_path / "state") in reply.message
    client.close()
    assert client.engine.join(0)


def test_jobs_of_an_engine_that_died_are_interrupted_and_shown(tmp_path: Path) -> None:
    places = _places(tmp_path)
    code = (
        "import sys; from pathlib import Path; from engine.jobs.store import JobStore\n"
        "store = JobStore(Path(sys.argv[1]))\n"
        "row = store.create({}, mode='single', size='64*64', clips=3)\n"
        "store.update(row.id, state='preflight')\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(places.database)],
        check=True,
        timeout=WAIT,
        cwd=Path(__file__).parents[2],
    )
    client = start_engine(places)
    (row,) = client.snapshot().result(WAIT).jobs
    client.close()
    assert row.state == "interrupted"
    assert row.error is not None
    assert "ended while it was preflight" in row.error


def test_a_job_of_a_living_engine_is_left_alone(tmp_path: Path) -> None:
    places = _places(tmp_path)
    store = JobStore(places.database)
    row = store.create({}, mode="single", size="64*64", clips=3)
    client = start_engine(places)
    assert [r.state for r in client.snapshot().result(WAIT).jobs] == ["queued"]
    client.close()
    assert store.get(row.id).state == "queued"
    store.close()


@pytest.mark.parametrize("module", ["engine.engine", "console.cli"])
def test_importing_it_is_light(module: str) -> None:
    heavy = ["torch", "transformers", "numpy", "av", "textual", "psutil", "sqlite3", "PIL"]
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"

"""Does a picture of a running engine come while it tells something all the time?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
from click.testing import CliRunner

from console.cli import avatop
from engine.jobs.paths import Places
from engine.remote.host import Hosting


@pytest.fixture
def chatter(hosting: Hosting) -> Iterator[None]:
    """The engine writes a line every few milliseconds."""
    done = threading.Event()

    def talk() -> None:
        number = 0
        while not done.wait(0.01):
            number += 1
            hosting.engine.call(partial(hosting.engine.bus.log, "INFO", f"line {number}"))

    thread = threading.Thread(target=talk)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.mark.timeout(25)  # less than what is waited for an engine that tells nothing
@pytest.mark.usefixtures("chatter")
def test_it_does_not_wait_for_silence(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(places.state))
    done = CliRunner().invoke(avatop, ["shot", "--size", "80x24", "--wait", "0.3"])
    assert done.exit_code == 0, done.output
    assert "line " in done.stdout

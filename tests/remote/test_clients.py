"""Is an engine the same over its socket as in one's own process?"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine.engine import InProcessClient
from engine.jobs.paths import Places
from engine.messages import (
    Cancel,
    Command,
    DevicesSampled,
    EngineStarted,
    EngineStopped,
    Event,
    LogLine,
    StopEngine,
    Submit,
)
from engine.plain import late_dataclass
from engine.remote.client import SocketClient, attach
from engine.remote.host import Hosting

WAIT = 30
Client = InProcessClient | SocketClient


@pytest.fixture(params=["in process", "socket"])
def client(request: pytest.FixtureRequest, hosting: Hosting, places: Places) -> Iterator[Client]:
    if request.param == "in process":
        yield hosting.client
        return
    found = attach(places)
    assert found is not None
    yield found
    found.close()


@late_dataclass(frozen=True, kw_only=True)
class Unheard(Command):
    """A command that no engine knows."""


class Heard:
    """Events, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._new = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._new:
            self.events.append(event)
            self._new.notify_all()

    def wait(self, kind: type[Event]) -> bool:
        with self._new:
            return self._new.wait_for(lambda: any(isinstance(e, kind) for e in self.events), WAIT)


def test_commands_are_answered(client: Client) -> None:
    early = client.send(Cancel(job=7))
    assert "no job 7" in early.result(WAIT).message
    bad = client.send(Submit(request={"size": "9"})).result(WAIT)
    assert (bad.ok, bad.state) == (False, "bad_input")
    assert not client.send(Unheard()).result(WAIT).ok
    assert client.when_idle().result(WAIT) is None


def test_events_come_and_the_snapshot_has_the_history(client: Client, hosting: Hosting) -> None:
    heard = Heard()
    end = client.subscribe(heard)
    assert heard.wait(DevicesSampled)
    engine = hosting.engine
    engine.call(lambda: engine.bus.log("INFO", "ein Wort: \u4f60\u597d \x1b[31m"))
    assert heard.wait(LogLine)
    picture = client.snapshot().result(WAIT)
    assert picture.devices
    assert picture.device_source == hosting.client.snapshot().result(WAIT).device_source
    assert any("\u4f60\u597d \x1b[31m" in line.text for line in picture.logs)
    end()
    end()


def test_the_end_is_told_and_later_calls_are_answered(client: Client, hosting: Hosting) -> None:
    heard = Heard()
    client.subscribe(heard)
    assert client.send(StopEngine()).result(WAIT).ok
    assert hosting.engine.join(WAIT)
    hosting.ended()
    assert heard.wait(EngineStopped)
    assert len([e for e in heard.events if isinstance(e, EngineStopped)]) == 1
    late = client.send(Cancel(job=7)).result(WAIT)
    assert (late.ok, late.message) == (False, "the engine has ended")
    assert client.snapshot().result(WAIT).jobs == ()
    assert client.when_idle().result(WAIT) is None


def test_a_late_client_hears_how_the_engine_started(hosting: Hosting, places: Places) -> None:
    before = Heard()
    hosting.client.subscribe(before)
    assert before.wait(DevicesSampled)
    client = attach(places)
    assert client is not None
    heard = Heard()
    client.subscribe(heard)
    assert heard.wait(EngineStarted)
    assert heard.wait(DevicesSampled)
    client.close()
    client.close()
    assert client.send(Cancel(job=1)).result(WAIT).ok is False
    assert not hosting.engine.join(0)  # letting go ends nothing

"""Who may call the engine, and what can a client that misbehaves do to it and to others?"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.paths import Places
from engine.messages import Cancel, Event, JobChanged, JobRow, LogLine, StepDone
from engine.remote import client as client_module
from engine.remote.address import EngineTaken, NotOurs, Peer, Place, dial, socket_path
from engine.remote.client import RefusedByEngine, attach
from engine.remote.host import Hosting
from engine.remote.outbox import CROWDED, Outbox
from engine.remote.server import MOST_CLIENTS
from engine.remote.spawn import attach_or_host

WAIT = 30


def test_only_the_user_may_open_the_socket_and_one_process_may_host(
    hosting: Hosting, places: Places
) -> None:
    path = socket_path(places)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(EngineTaken):
        Hosting(places, "second")
    other = attach_or_host(places)
    assert not isinstance(other, Hosting)
    assert (other.engine_pid, other.engine_version) == (os.getpid(), "1.2.3")
    other.close()
    hosting.close()
    assert not path.exists()


def test_what_a_killed_engine_left_is_nobody_and_makes_room(places: Places) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from engine.jobs.paths import Places; from engine.remote.address import Place\n"
        "Place(Places(Path(sys.argv[1]), Path(sys.argv[2]))).listen()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(places.state), str(places.cache)],
        timeout=WAIT, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert socket_path(places).exists()
    assert attach(places) is None
    hosting = Hosting(places, "next")
    try:
        client = attach(places)
        assert client is not None
        client.close()
    finally:
        hosting.close()


def test_a_long_state_folder_is_no_hindrance(tmp_path: Path) -> None:
    deep = Places(tmp_path / ("x" * 100) / "state", tmp_path)
    place = Place(deep)
    listening = place.listen()
    try:
        sock = dial(deep)
        assert sock is not None
        sock.close()
    finally:
        listening.close()
        place.release()


def test_another_user_is_refused_and_told_why(places: Places) -> None:
    hosting = Hosting(places, "1")
    hosting.server.peer = lambda _: Peer(4242, os.getuid() + 1, 0)
    try:
        with pytest.raises(
            RefusedByEngine, match=f"process 4242 belongs to user {os.getuid() + 1}"
        ):
            attach(places)
    finally:
        hosting.close()


def test_an_engine_of_another_user_is_not_trusted(
    hosting: Hosting, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.remote.address.peer_of", lambda _: Peer(1, os.getuid() + 1, 0))
    with pytest.raises(NotOurs):
        attach(places)
    socket_path(places).unlink()
    socket_path(places).write_text("not a socket")
    with pytest.raises(NotOurs):
        dial(places)


def test_a_read_only_client_looks_and_changes_nothing(hosting: Hosting, places: Places) -> None:
    client = attach(places, kind="console", read_only=True)
    assert client is not None
    reply = client.send(Cancel(job=1)).result(WAIT)
    assert (reply.ok, reply.state) == (False, "refused")
    assert "read-only" in reply.message
    assert client.snapshot().result(WAIT).logs
    assert client.detach_consoles().result(WAIT) == {"consoles": 0}
    client.close()


@pytest.mark.parametrize(
    "sent",
    [b"\xff\x00\n", b"[1]\n", b'{"do":"snapshot"}\n', b'{"do":"hello"}\n' + b"x" * (2 << 20)],
)
def test_nonsense_ends_the_connection_and_nothing_else(
    hosting: Hosting, places: Places, sent: bytes
) -> None:
    sock = dial(places)
    assert sock is not None
    sock.settimeout(WAIT)
    try:
        sock.sendall(sent)
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    finally:
        sock.close()
    client = attach(places)
    assert client is not None
    client.close()


def test_what_is_not_a_command_is_answered(hosting: Hosting, places: Places) -> None:
    sock = dial(places)
    assert sock is not None
    requests: list[dict[str, Any]] = [
        {"id": 0, "do": "hello"}, {"id": 1, "do": "dance"},
        {"id": 2, "do": "command", "command": {"type": "NoSuch"}},
        {"id": 3, "do": "command", "command": {"type": "EngineStopped", "reason": "me"}},
    ]  # fmt: skip
    with sock, sock.makefile("rwb") as stream:
        sock.settimeout(WAIT)
        stream.write(b"".join(json.dumps(r).encode() + b"\n" for r in requests))
        stream.flush()
        answers = {a["id"]: a["answer"] for a in (json.loads(stream.readline()) for _ in requests)}
    assert "dance" in answers[1]["error"]
    assert (answers[2]["ok"], answers[3]["ok"]) == (False, False)


def test_too_many_clients_are_turned_away(hosting: Hosting, places: Places) -> None:
    clients = [attach(places) for _ in range(MOST_CLIENTS)]
    with pytest.raises(RefusedByEngine, match="attached already"):
        attach(places)
    for client in clients:
        assert client is not None
        client.close()


def _burst(hosting: Hosting, count: int) -> None:
    """Log lines, published on the engine's thread; returns when the engine has done it."""
    engine, done = hosting.engine, threading.Event()

    def publish() -> None:
        for number in range(count):
            engine.bus.log("INFO", f"line {number} {'.' * 200}")
        done.set()

    engine.call(publish)
    assert done.wait(WAIT)


def test_a_client_that_does_not_read_delays_nobody_and_attaches_again(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosting = Hosting(places, "1")
    hosting.server.most = 500
    held, first = threading.Event(), threading.Event()
    seen: list[Event] = []
    again = threading.Event()

    def stalled(event: Event) -> None:
        first.set()
        held.wait(WAIT)
        seen.append(event)
        if isinstance(event, LogLine) and event.text == "the last one":
            again.set()

    try:
        slow, quick = attach(places), attach(places)
        assert slow is not None
        assert quick is not None
        heard, all_there = list[str](), threading.Event()

        def listen(event: Event) -> None:
            if isinstance(event, LogLine):
                heard.append(event.text)
                if event.text.startswith("line 199"):
                    all_there.set()

        slow.subscribe(stalled)
        quick.subscribe(listen)
        assert first.wait(WAIT)
        for _ in range(20):  # more than the kernel and the outbox hold for one that stands still
            all_there.clear()
            _burst(hosting, 200)
            assert all_there.wait(WAIT)
        assert len([t for t in heard if t.startswith("line")]) == 4000
        held.set()
        engine = hosting.engine
        engine.call(lambda: engine.bus.log("INFO", "the last one"))
        assert again.wait(WAIT)
        lines = [e.text for e in seen if isinstance(e, LogLine) and e.text.startswith("line")]
        assert lines[-1].startswith("line 199 ")
        times = [e.t for e in seen if isinstance(e, LogLine)]
        assert times == sorted(times)  # nothing is told twice
        assert slow.snapshot().result(WAIT).logs
        slow.close()
        quick.close()
    finally:
        held.set()
        hosting.close()


def test_readings_give_way_and_what_happened_does_not() -> None:
    box = Outbox(most=1000)
    for number in range(5000):
        box.event(StepDone(job=1, rank=number % 2, step=0, block=number, seconds=0.1))
        if number % 10 == 0:
            row = JobRow(id=number, state="queued", mode="single", size="64*64", clip=0, clips=1)
            box.event(JobChanged(job=row))
    assert not box.overrun
    assert len(box) < CROWDED + 500 + 10
    box.close()
    told = []
    while (line := box.take()) is not None:
        told.append(json.loads(line)["event"])
    assert [e["job"]["id"] for e in told if e["type"] == "JobChanged"] == list(range(0, 5000, 10))
    steps = [e["block"] for e in told if e["type"] == "StepDone"]
    assert steps[-2:] == [4998, 4999]
    assert box.dropped > 4000


def test_two_versions_that_cannot_talk_say_so(
    hosting: Hosting, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "VERSION", 99)
    with pytest.raises(RefusedByEngine, match="another protocol"):
        attach(places)


def test_a_server_that_is_closed_is_no_engine(places: Places) -> None:
    hosting = Hosting(places, "1")
    assert hosting.server.retire(hosting.server.accepted)
    assert attach(places) is None  # hung up: just ending
    hosting.close()
    assert dial(places) is None

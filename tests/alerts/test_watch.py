"""Does a running engine's watch judge, keep, tell and obey, and stay out of the engine's way?"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from engine.alerts.attach import watch_engine
from engine.alerts.book import Book
from engine.alerts.courier import Courier
from engine.alerts.deliver import DeliveryError
from engine.alerts.evaluate import Order
from engine.alerts.notify import Notify, Target
from engine.alerts.watch import AlertWatch
from engine.bus import Bus
from engine.messages import AlertChanged, DevicesSampled, Event, LogLine, from_json
from tests.alerts.helpers import device, rule

HOT = rule("temperature_c > 85")
SLOW = rule("temperature_c > 85", **{"for": "1m"})


def hot(t: float, temperature: float = 90.0) -> DevicesSampled:
    return DevicesSampled(t=t, devices=(device(temperature_c=temperature),))


class Clock:
    def __init__(self) -> None:
        self.t = 1_000_000.0

    def __call__(self) -> float:
        return self.t


def watch(state: Path, clock: Clock, given: Any = HOT, **more: Any) -> tuple[Any, list[Event]]:
    published: list[Event] = []
    made = AlertWatch(state, published.append, rules=(given,), notify=Notify(), clock=clock, **more)
    made.open()
    return made, published


def changes(published: list[Event]) -> list[AlertChanged]:
    return [e for e in published if isinstance(e, AlertChanged)]


def test_what_fires_is_published_kept_and_taken_up_by_the_next_engine(tmp_path: Path) -> None:
    clock = Clock()
    first, published = watch(tmp_path, clock, SLOW)
    for _ in range(40):
        first.turn([hot(clock.t)])
        clock.t += 1
    assert [c.state for c in changes(published)] == ["pending"]
    first.close()
    second, published = watch(tmp_path, clock, SLOW)
    for _ in range(22):
        second.turn([hot(clock.t)])
        clock.t += 1
    shown, fired = changes(published)
    assert (shown.previous, shown.state) == ("pending", "pending")  # for who looks on; no news
    assert fired.state == "firing"
    assert from_json(fired.to_json()) == fired
    second.close()
    assert [a.state for a in Book(tmp_path).load()[0]] == ["firing"]


def test_a_kill_loses_no_more_than_the_last_seconds_of_waiting(tmp_path: Path) -> None:
    clock = Clock()
    killed, _ = watch(tmp_path, clock)
    killed.turn([hot(clock.t)])
    killed.book.release()  # as the kernel does; nothing else runs
    after, published = watch(tmp_path, clock)
    after.turn([hot(clock.t)])
    assert [c.previous for c in changes(published)] == ["firing"]  # it fires already: no news
    after.close()


def test_orders_of_another_process_are_obeyed_and_survive(tmp_path: Path) -> None:
    clock = Clock()
    made, published = watch(tmp_path, clock)
    made.turn([hot(clock.t)])
    other = Book(tmp_path)
    other.ask(Order("silence", "r", "ann", clock.t, clock.t + 100))
    assert [a.state for a in other.look(clock.t)] == ["silenced"]  # shown at once
    made.turn([])
    assert changes(published)[-1].state == "silenced"
    made.close()
    again, published = watch(tmp_path, clock)
    clock.t += 101
    again.turn([hot(clock.t)])
    assert changes(published)[-1].state == "firing"
    again.close()


def test_one_process_judges_at_a_time(tmp_path: Path) -> None:
    clock = Clock()
    one, heard_one = watch(tmp_path, clock)
    two, heard_two = watch(tmp_path, clock)
    assert Book(tmp_path).watched()
    for made in (one, two):
        made.turn([hot(clock.t)])
    assert (len(changes(heard_one)), len(changes(heard_two))) == (1, 0)
    two.close()
    one.close()
    assert not Book(tmp_path).watched()


def test_a_damaged_book_is_set_aside_and_told(tmp_path: Path) -> None:
    (tmp_path / "alerts.sqlite3").write_bytes(b"not a database at all" * 100)
    made, published = watch(tmp_path, Clock())
    assert any(isinstance(e, LogLine) and "file was damaged" in e.text for e in published)
    made.turn([hot(1.0)])
    assert len(changes(published)) == 1
    made.close()


def test_a_broken_rules_file_is_told_and_the_shipped_rules_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("[[rule]]\nid = 'a'\nwhen = 'throtle'\n")
    monkeypatch.setenv("AVATOP_ALERTS_FILE", str(file))
    published: list[Event] = []
    made = AlertWatch(tmp_path, published.append, clock=Clock())
    made.open()
    said = [e.text for e in published if isinstance(e, LogLine)]
    assert any("did you mean throttle" in text for text in said)
    made.close()


def test_strays_are_counted_for_the_rule(tmp_path: Path) -> None:
    clock = Clock()
    made, published = watch(tmp_path, clock, rule("strays > 3"), zombies=lambda: (7, 4))
    made.turn([])
    assert changes(published) == []  # not looked at yet: unknown
    clock.t += 5
    made.turn([])
    assert changes(published)[0].value == 4.0
    made.close()


def test_a_fault_of_ours_is_told_and_the_watch_goes_on(tmp_path: Path) -> None:
    clock, counts = Clock(), iter((None, (7, 4)))

    def zombies() -> tuple[int, int] | None:
        if (found := next(counts)) is None:
            raise RuntimeError("a surprise")
        return found

    made, published = watch(tmp_path, clock, rule("strays > 3"), zombies=zombies)
    for _ in range(2):
        clock.t += 40
        made._safe_turn([])
    assert any(isinstance(e, LogLine) and "a surprise" in e.text for e in published)
    assert [c.state for c in changes(published)] == ["firing"]
    made.close()


def test_on_a_real_bus_an_alert_comes_back_as_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATOP_ALERTS_FILE", str(tmp_path / "alerts.toml"))
    (tmp_path / "alerts.toml").write_text(
        "[[rule]]\nid = 'temperature-high'\nfor = '0s'\n[[rule]]\nid = 'zombies'\nenabled = false\n"
    )
    bus, lock, fired = Bus(), threading.Lock(), threading.Event()

    def heard(event: Event) -> None:
        if isinstance(event, AlertChanged) and event.rule == "temperature-high":
            fired.set()

    def call(function: Any) -> bool:
        with lock:  # one thread at a time, as an engine's loop is
            function()
        return True

    bus.subscribe(heard)
    stop = watch_engine(tmp_path, bus, call)
    call(lambda: bus.publish(hot(1.0)))
    assert fired.wait(20)
    stop()
    assert [a.rule for a in Book(tmp_path).load()[0]] == ["temperature-high"]


def test_the_courier_tries_again_and_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_URL", "wecombot://hunter2secret")
    clock, said, sent = Clock(), list[str](), list[str]()
    answers: list[Exception | None] = [
        DeliveryError("no route"),
        RuntimeError("wecombot://hunter2secret broke"),
        None,
    ]

    def send(_secret: object, title: str, _body: str, _severity: str) -> None:
        sent.append(title)
        if (error := answers[len(sent) - 1]) is not None:
            raise error

    ops = Target("ops", url_env="OPS_URL")
    courier = Courier(
        Notify((ops,), group_wait=0.0),
        "h",
        lambda level, text: said.append(f"{level} {text}"),
        send=send,
        clock=clock,
    )
    courier.add(AlertChanged(id="a", rule="r", severity="warning", state="firing"))
    for _ in range(3):
        courier.turn()
        clock.t += 10
    assert sent == ["avatop h: 1 firing (warning)"] * 3
    assert said == [
        "WARNING could not tell ops: no route; again in 5 s",
        "WARNING could not tell ops: RuntimeError: *** broke; again in 10 s",
        "INFO told ops of 1 change of alerts",
    ]
    monkeypatch.delenv("OPS_URL")
    courier.add(AlertChanged(id="b", rule="r", severity="warning", state="firing"))
    courier.turn()
    assert "OPS_URL is not set" in said[-1]

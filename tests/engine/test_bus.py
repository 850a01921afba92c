"""Do listeners hear everything, and can a bad one harm the engine or the others?"""

from __future__ import annotations

import threading
import time

from engine import bus as module
from engine.bus import Bus
from engine.messages import (
    Event,
    JobChanged,
    JobRow,
    LedgerUpdated,
    LogLine,
    PlanMade,
    RankChanged,
)


def _line(text: str) -> LogLine:
    return LogLine(level="INFO", source="engine", text=text)


def _row(number: int, state: str = "queued") -> JobRow:
    return JobRow(id=number, state=state, mode="single", size="64*64", clip=0, clips=1)


def test_every_listener_hears_every_event_in_order() -> None:
    bus, one, two = Bus(), list[Event](), list[Event]()
    bus.subscribe(one.append)
    end = bus.subscribe(two.append)
    lines = [_line(str(n)) for n in range(5)]
    for line in lines[:3]:
        bus.publish(line)
    end()
    end()
    for line in lines[3:]:
        bus.publish(line)
    assert one == lines
    assert two == lines[:3]


def test_a_listener_that_raises_is_told_of_and_dropped_and_the_others_go_on() -> None:
    bus, heard, calls = Bus(), list[Event](), list[Event]()

    def broken(event: Event) -> None:
        calls.append(event)
        raise RuntimeError("the screen is gone")

    bus.subscribe(broken)
    bus.subscribe(heard.append)
    for n in range(10):
        bus.publish(_line(str(n)))
    assert len(calls) == module.MAX_FAILURES
    texts = [event.text for event in heard if isinstance(event, LogLine)]
    assert [t for t in texts if t.isdecimal()] == [str(n) for n in range(10)]
    told = [t for t in texts if "the screen is gone" in t]
    assert len(told) == module.MAX_FAILURES
    assert "gets no more events" in told[-1]


def test_a_listener_that_stands_still_does_not_hold_the_engine() -> None:
    bus, heard = Bus(), list[Event]()
    entered, go = threading.Event(), threading.Event()

    def slow(event: Event) -> None:
        heard.append(event)
        entered.set()
        if len(heard) == 1:
            time.sleep(2 * module.SLOW_SECONDS)  # the slowness itself is what is tested
        else:
            go.wait(30)

    bus.subscribe(slow)
    bus.publish(_line("first"))  # from here on it has a thread of its own
    assert any("held the engine" in line.text for line in bus.snapshot().logs)
    for n in range(module.MAILBOX_EVENTS + 100):  # more than it will ever be given
        bus.publish(_line(str(n)))
    go.set()
    assert entered.is_set()


def test_the_first_picture_holds_the_latest_of_everything_and_stays_bounded() -> None:
    bus = Bus()
    for number in range(1, 300):
        bus.publish(JobChanged(job=_row(number)))
        bus.publish(JobChanged(job=_row(number, "done")))
        bus.publish(PlanMade(job=number, plan={"mode": "single", "n": number}))
        bus.publish(
            RankChanged(job=number, rank=0, pid=1, device="cpu", device_uuid=None, phase="running")
        )
        bus.publish(
            LedgerUpdated(
                job=number, rank=0, device="cpu", by_owner={}, peak_by_owner={}, total=1, peak=1
            )
        )
        for n in range(20):
            bus.publish(_line(f"{number} {n}"))
    picture = bus.snapshot()
    assert [row.id for row in picture.jobs] == list(range(300 - module.KEPT_JOBS, 300))
    assert {row.state for row in picture.jobs} == {"done"}
    assert len(picture.logs) == module.KEPT_LOGS
    assert picture.logs[-1].text == "299 19"
    assert list(picture.plans) == list(range(300 - module.KEPT_DETAILS, 300))
    assert {r.job for r in picture.ranks} <= set(picture.plans) | {299}
    assert {r.job for r in picture.ledgers} <= set(picture.plans) | {299}


def test_a_running_job_keeps_its_plan_and_ranks_however_many_wait_behind_it() -> None:
    bus = Bus()
    waiting = range(2, 2 + module.KEPT_JOBS)
    for number in (1, *waiting):
        bus.publish(JobChanged(job=_row(number, "running" if number == 1 else "queued")))
        bus.publish(PlanMade(job=number, plan={"mode": "single"}))
    bus.publish(RankChanged(job=1, rank=0, pid=1, device="cpu", device_uuid=None, phase="running"))
    bus.publish(PlanMade(job=500, plan={"mode": "single"}))
    picture = bus.snapshot()
    assert [row.id for row in picture.jobs] == [1, *waiting]
    assert set(picture.plans) == {1, *waiting, 500}
    assert [rank.job for rank in picture.ranks] == [1]


def test_the_engine_s_own_lines_name_where_they_come_from() -> None:
    bus = Bus()
    bus.log("WARNING", "something", job=3)
    (line,) = bus.snapshot().logs
    assert line.where is not None
    assert line.where.startswith("test_bus.py:")
    assert (line.level, line.job) == ("WARNING", 3)

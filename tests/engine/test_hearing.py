"""When a job's ranks go down, which of them does the screen call dead, and why?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine.bus import Bus
from engine.hearing import Hearing
from engine.jobs.paths import Places
from engine.messages import ClipCommitted, Event, FindingRaised, LogLine, RankChanged
from engine.ranks.outcome import RankExit
from engine.ranks.protocol import Report
from engine.report_events import Clip, Progress
from tests.engine.plans import plan, row


class Heard:
    """What hearing tells others of; it keeps nothing and writes nothing here."""

    def touch(self, now: bool = False) -> None:
        pass

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        bus = Bus()
        bus.subscribe(self.events.append)
        places = Places(folder / "state", folder / "cache").job(1)
        other: Any = self
        self.hearing = Hearing(bus, places, Progress(row(), plan(3), blocks=8), other, other)

    def exit(self, rank: int, **fields: Any) -> tuple[str, str | None]:
        known = RankExit(rank, 70 + rank, None, 15, 1.0, False, False)
        self.hearing.exit(dataclasses.replace(known, **fields))
        told = [event for event in self.events if isinstance(event, RankChanged)][-1]
        return told.phase, told.reason

    def failed(self, rank: int, kind: str, message: str) -> None:
        data = {"kind": kind, "message": message, "traceback": "Traceback\n  here\nOutOf: all"}
        self.hearing.report(Report("failed", rank, 1.0, data))

    def lines(self) -> list[tuple[str, str]]:
        return [(e.level, e.text) for e in self.events if isinstance(e, LogLine)]


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path)


def test_ranks_of_a_cancelled_job_are_not_dead(heard: Heard) -> None:
    asked = "cancelled by the operator"
    heard.failed(1, "comm", "Connection closed by peer")  # of a peer that went a moment earlier
    for rank in range(3):
        assert heard.exit(rank, because=asked) == ("ended", f"ended: {asked}")


def test_the_rank_that_failed_is_dead_and_those_that_went_with_it_say_whose_fault_it_was(
    heard: Heard,
) -> None:
    heard.failed(2, "oom", "OutOfMemoryError: CUDA out of memory")
    why = "failed (oom): OutOfMemoryError: CUDA out of memory"
    assert heard.exit(2, code=1, signal=None, before_signal=True) == ("died", why)
    assert heard.exit(0) == ("ended", "ended: rank 2 had failed")
    heard.failed(1, "comm", "Connection closed by peer")
    told = heard.exit(1, code=1, signal=None, before_signal=True)
    assert told == ("ended", "ended: rank 2 had failed")


def test_clips_are_counted_from_one_in_words_and_from_zero_in_data(heard: Heard) -> None:
    check = ({"level": "error", "kind": "black", "text": "frames 3-40 are black"},)
    heard.hearing.committed(Clip(0, 45, 3.0, "x", "0" * 64, check), Path("/x/clip_0000.mp4"))
    assert heard.lines() == [
        ("INFO", "clip 1 committed: 45 frames at 15 fps"),
        ("ERROR", "clip 1: frames 3-40 are black"),
    ]
    assert [e.clip for e in heard.events if isinstance(e, ClipCommitted)] == [0]
    assert [e.cause for e in heard.events if isinstance(e, FindingRaised)] == [
        "clip 1: frames 3-40 are black."
    ]


def test_a_killed_rank_is_dead_and_who_lost_it_is_not(heard: Heard) -> None:
    phase, why = heard.exit(1, signal=9, before_signal=True)
    assert phase == "died"
    assert "SIGKILL" in str(why)
    assert heard.exit(0) == ("ended", "ended: rank 1 had failed")
    assert heard.exit(2, code=0, signal=None, finished=True) == ("ended", None)
    assert [level for level, _ in heard.lines()] == ["ERROR"]

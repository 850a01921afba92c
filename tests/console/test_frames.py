"""Is what matters drawn at once, and what comes in streams only twice a second?"""

from __future__ import annotations

import pytest

from console.frames import CALM, FRAME, Frames
from console.mailbox import Mailbox
from engine.messages import AlertChanged, JobChanged, JobRow, LogLine, StepDone

STEP = StepDone(job=1, rank=0, step=0, block=0, seconds=0.2)


def _job(state: str, clip: int) -> JobChanged:
    return JobChanged(job=JobRow(1, state, "tpp", "512*512", clip, 9))


def test_the_first_after_a_silence_is_drawn_at_once() -> None:
    frames = Frames()
    frames.drawn(10.0)
    assert frames.wait(False, 10.0 + CALM) == 0
    assert frames.wait(True, 20.0) is None  # not drawn yet: that picture will have it


def test_a_stream_waits_longer_than_news_and_news_do_not_wait_for_it() -> None:
    frames = Frames()
    frames.drawn(10.0)
    assert frames.wait(False, 10.02) == pytest.approx(CALM - 0.02)
    assert frames.wait(False, 10.03) is None
    assert frames.wait(True, 10.04) == pytest.approx(FRAME - 0.04)
    assert not frames.due(10.05)
    assert frames.due(10.0 + FRAME)
    frames.drawn(10.0 + FRAME)
    assert not frames.due(10.0 + CALM)  # the stream's own timer comes too late


def test_only_what_is_new_presses() -> None:
    woken: list[bool] = []
    box = Mailbox()
    box.wake = lambda: woken.append(box.pressing)
    for event in (STEP, STEP, LogLine(level="INFO", source="rank", text="loaded")):
        box.put(event)
    assert woken == [False]
    box.put(_job("running", 1))
    box.put(_job("running", 1))
    assert woken == [False, True]
    box.drain()
    box.put(_job("running", 2))  # a clip more, the same state
    box.put(LogLine(level="ERROR", source="rank", text="lost"))
    assert woken[2:] == [False, True]
    box.drain()
    box.put(AlertChanged(id="a", rule="spike", severity="warning", state="firing"))
    assert woken[4:] == [True]

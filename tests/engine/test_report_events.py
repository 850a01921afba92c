"""What do a rank's words become on the screen and in the job's row?"""

from __future__ import annotations

from typing import Any

import pytest

from engine.messages import (
    BlockDone,
    Event,
    LedgerUpdated,
    LogLine,
    RankChanged,
    Spike,
    StepDone,
    Unshards,
)
from engine.ranks.protocol import Report
from engine.report_events import Progress
from tests.engine.plans import plan, row


@pytest.fixture
def progress() -> Progress:
    return Progress(row(), plan(), blocks=8)


def _say(
    progress: Progress, what: str, rank: int = 0, /, t: float = 1.0, **data: Any
) -> list[Event]:
    return progress.apply(Report(what, rank, t, data))


def _only(events: list[Event]) -> Any:
    (event,) = events
    return event


def test_a_rank_is_named_with_its_device_phase_and_role(progress: Progress) -> None:
    born = _only(_say(progress, "hello", pid=77, device_name="H200", device_uuid="GPU-x"))
    assert isinstance(born, RankChanged)
    assert (born.pid, born.phase, born.device_uuid) == (77, "spawned", "GPU-x")
    later = _only(_say(progress, "phase", phase="running", role="step 1 of 4"))
    assert (later.pid, later.phase, later.role) == (77, "running", "step 1 of 4")


def test_a_rank_s_books_say_what_it_may_take_where_that_is_less_than_its_device_has() -> None:
    books = {"total": 5, "peak": 6, "by_owner": {}, "peak_by_owner": {}}
    for fields, cap in (
        ({}, None),
        ({"request": {"gpu_memory_cap": 900}}, 900),
        ({"request": {"gpu_memory_cap": 900}, "environment": {"AVATOP_DRILL_CAP": "700"}}, 700),
    ):
        told = _only(_say(Progress(row(**fields), plan(), blocks=8), "ledger", **books))
        assert isinstance(told, LedgerUpdated)
        assert told.cap == cap


def test_the_job_moves_forward_with_its_ranks_and_never_back(progress: Progress) -> None:
    _say(progress, "phase", 0, phase="encoding")
    assert progress.row.state == "loading"
    _say(progress, "phase", 1, phase="running")
    assert progress.row.state == "running"
    _say(progress, "phase", 0, phase="loading")
    assert progress.row.state == "running"
    _say(progress, "phase", 0, phase="idle")
    _say(progress, "phase", 1, phase="decoding")
    assert progress.row.state == "running"  # blocks are still to come
    for block in range(8):
        _say(progress, "block", 1, clip=block // 4, block=block, seconds=1.0)
    _say(progress, "phase", 1, phase="decoding")
    assert progress.row.state == "decoding"


def test_an_ended_job_is_not_revived_by_a_late_report(progress: Progress) -> None:
    progress.change(state="cancelled")
    _say(progress, "phase", 1, phase="running")
    _say(progress, "step", 1, step=0, block=0, seconds=0.1)
    assert progress.row.state == "cancelled"


def test_memory_keeps_the_highest_of_each_owner_and_of_the_sum(progress: Progress) -> None:
    first: dict[str, Any] = {"by_owner": {"kv": 5}, "total": 5}
    event = _only(_say(progress, "ledger", 0, **first, peak_by_owner={"kv": 50}, peak=90))
    assert isinstance(event, LedgerUpdated)
    assert (event.total, event.peak, event.predicted, event.capacity) == (5, 90, 1000, 1 << 30)
    _say(progress, "ledger", 0, **first, peak_by_owner={"kv": 20, "vae": 3}, peak=40)
    _say(progress, "ledger", 1, **first, peak_by_owner={"kv": 1}, peak=70)
    assert progress.ranks[0].by_owner == {"kv": 50, "vae": 3}
    assert progress.row.peak_bytes == 90


def test_unshards_and_spikes_are_events_and_are_counted(progress: Progress) -> None:
    records = [
        {"unit": "root", "bytes": 9, "transient_bytes": None, "started": 1.0, "seconds": 0.1},
        {"unit": "layer 1", "bytes": 4, "transient_bytes": 8, "started": 1.1, "seconds": 0.1},
    ]
    event = _only(_say(progress, "unshards", 1, records=records))
    assert isinstance(event, Unshards)
    assert [r.unit for r in event.records] == ["root", "layer 1"]
    assert (progress.ranks[1].unshard_count, progress.ranks[1].unshard_largest) == (2, 9)
    spike = {"owner": "gathered: layer 1", "bytes": 3, "level": 1, "peak": 4, "threshold": 2}
    event = _only(_say(progress, "spike", 1, **spike, seconds=0.5))
    assert isinstance(event, Spike)
    assert (event.rank, event.device, event.owner) == (1, "cpu", "gathered: layer 1")
    assert progress.row.spikes == 1


def test_what_a_rank_counted_itself_wins_over_what_was_heard(progress: Progress) -> None:
    _say(progress, "unshards", 0, records=[])
    _say(progress, "result", 0, unshard={"events": 12, "max_bytes": 99}, peak_bytes=7)
    assert (progress.ranks[0].unshard_count, progress.ranks[0].unshard_largest) == (12, 99)
    assert progress.row.peak_bytes == 7


def test_time_left_follows_the_pace_of_blocks(progress: Progress) -> None:
    event = _only(_say(progress, "block", 1, t=10.0, clip=0, block=0, seconds=2.0,
                       decode_seconds=0.3))  # fmt: skip
    assert isinstance(event, BlockDone)
    assert (event.rank, event.decode_seconds) == (1, 0.3)
    assert progress.row.eta_seconds is None  # one block is no pace
    _say(progress, "block", 1, t=12.0, clip=0, block=1, seconds=2.0)
    assert progress.row.eta_seconds == pytest.approx(6 * 2.0)
    _say(progress, "block", 1, t=-3600.0, clip=0, block=2, seconds=2.0)  # the clock was set back
    assert progress.row.eta_seconds is None


def test_a_committed_clip_gives_count_and_speed(progress: Progress) -> None:
    data = {"clip": 0, "frames": 45, "seconds": 3.0, "path": "x.part", "sha256": "0" * 64}
    clip = Progress.clip_of(Report("clip", 1, 1.0, {**data, "check": [{"text": "black"}]}))
    progress.committed(clip)
    assert (progress.row.clip, progress.row.fps) == (1, 15.0)
    assert clip.check == ({"text": "black"},)


def test_logs_and_failures_are_told_line_by_line(progress: Progress) -> None:
    line = _only(_say(progress, "log", 1, level="WARNING", text="odd", where="x.py:3"))
    assert isinstance(line, LogLine)
    assert (line.level, line.source, line.rank, line.where) == ("WARNING", "rank", 1, "x.py:3")
    lines = _say(progress, "failed", 1, kind="oom", message="no memory", traceback="a\n  b\n")
    assert [(e.level, e.text) for e in lines if isinstance(e, LogLine)] == [
        ("ERROR", "no memory"),
        ("DEBUG", "a"),
        ("DEBUG", "  b"),
    ]
    assert progress.failures[0].kind == "oom"


def test_the_error_a_traceback_ends_with_is_loud_and_told_once_with_its_place(
    progress: Progress,
) -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/x/engine/job.py", line 8, in run\n    go()\n'
        '  File "/x/sharded.py", line 159, in allocate\n    torch.empty()\n'
        "torch.OutOfMemoryError: CUDA out of memory.\nIt was full.\n"
    )
    message = "OutOfMemoryError: CUDA out of memory.\nIt was full."
    lines = _say(progress, "failed", 1, kind="oom", message=message, traceback=trace)
    told = [(e.level, e.text, e.where) for e in lines if isinstance(e, LogLine)]
    assert len(told) == 7
    assert {level for level, _, _ in told[:5]} == {"DEBUG"}
    assert told[5:] == [
        ("ERROR", "torch.OutOfMemoryError: CUDA out of memory.", "sharded.py:159"),
        ("ERROR", "It was full.", "sharded.py:159"),
    ]


def test_a_job_s_peak_outlives_a_switch_to_a_plan_that_takes_less(progress: Progress) -> None:
    books = {"total": 5, "by_owner": {}, "peak_by_owner": {}}
    _say(progress, "ledger", 1, peak=490, **books)
    progress.replan(plan(), blocks=8)
    _say(progress, "ledger", 0, peak=300, **books)
    assert progress.row.peak_bytes == 490
    assert [tally.peak_bytes for tally in progress.ranks] == [300, 0]


def test_heartbeats_and_words_of_a_newer_rank_pass(progress: Progress) -> None:
    assert _say(progress, "heartbeat", phase="running", tick=3) == []
    assert _say(progress, "weather", sun=True) == []


def test_a_report_without_its_data_is_refused(progress: Progress) -> None:
    with pytest.raises(KeyError):
        _say(progress, "step", 0, step=1)


def test_a_step_is_told_with_its_place(progress: Progress) -> None:
    event = _only(_say(progress, "step", 1, step=2, block=5, seconds=0.25))
    assert isinstance(event, StepDone)
    assert (event.rank, event.step, event.block, event.seconds) == (1, 2, 5, 0.25)
    assert progress.row.state == "running"

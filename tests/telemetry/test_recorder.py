"""Does the flight recorder keep what was told, within its bounds, whatever happens to the disk?"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from engine.messages import (
    AlertChanged,
    DevicesSampled,
    Event,
    FindingRaised,
    JobChanged,
    LogLine,
    ProcessesSurveyed,
    RankChanged,
    Spike,
)
from engine.telemetry.recorder import Limits
from engine.telemetry.recording import RecordingError, open_recording
from engine.telemetry.recording_segment import Index, SegmentWriter
from engine.telemetry.replay import ReplayClient
from tests.console.fake_client import T0, Stage, job
from tests.e2e.harness import ROOT, until
from tests.telemetry.recordings import Taped, record


def line(text: str, level: str = "INFO") -> LogLine:
    return LogLine(level=level, source="rank", text=text, t=T0)


def spike(t: float) -> Spike:
    return Spike(job=1, rank=0, device="cuda:0", owner="gathered: layer 7", bytes=1 << 30,
                 level=1 << 30, peak=2 << 30, threshold=1 << 29, seconds=0.2, t=t)  # fmt: skip


def sample(t: float) -> DevicesSampled:
    return DevicesSampled(devices=(), t=t)


def test_what_was_told_comes_back_in_its_order_to_the_last_event(tmp_path: Path) -> None:
    told = record(tmp_path, Stage(gpus=2), 40, until, preview_seconds=0.0)
    recording = open_recording(tmp_path)
    assert [stamped.event for stamped in recording.events()] == told
    assert recording.count == len(told)
    assert recording.problems == []


def test_every_segment_can_be_read_alone(tmp_path: Path) -> None:
    record(tmp_path, Stage(gpus=2), 60, until, segment_seconds=20.0)
    segments = sorted(tmp_path.glob("*.ndjson.gz"))
    assert len(segments) >= 3
    for path in segments:
        path.rename(alone := path.with_name("alone.ndjson.gz"))
        kinds = {type(stamped.event).__name__ for stamped in open_recording(alone).ground()}
        assert {"EngineStarted", "JobChanged", "PlanMade", "RankChanged"} <= kinds
        alone.rename(path)
    assert subprocess.run(["gzip", "-t", segments[0]], check=False).returncode == 0
    assert segments[0].stat().st_mode & 0o077 == 0  # prompts are private


def test_a_torn_tail_costs_only_itself_and_is_told(tmp_path: Path) -> None:
    told = record(tmp_path, Stage(gpus=1), 60, until)
    (path,) = tmp_path.glob("*.ndjson.gz")
    (tmp_path / path.name.replace(".ndjson.gz", ".index.json")).unlink()
    path.write_bytes(path.read_bytes()[:-40])
    recording = open_recording(tmp_path)
    kept = [stamped.event for stamped in recording.events()]
    assert kept == told[: len(kept)]
    assert len(told) * 0.6 < len(kept) < len(told)
    assert "cut short" in recording.problems[0]


def test_damage_in_the_middle_costs_one_member(tmp_path: Path) -> None:
    taped = Taped(tmp_path, T0)
    for n in range(6):
        taped.tell([line(f"{n}")])
        taped.written(until)
    taped.close()
    (path,) = tmp_path.glob("*.ndjson.gz")
    data = bytearray(path.read_bytes())
    third = [n for n in range(len(data)) if data[n : n + 3] == b"\x1f\x8b\x08"][3]
    data[third + 14 : third + 24] = b"\xff" * 10
    path.write_bytes(data)
    recording = open_recording(path)
    texts = [s.event.text for s in recording.events() if isinstance(s.event, LogLine)]
    assert len(texts) == 5
    assert texts == sorted(texts)
    assert recording.problems


def test_a_killed_process_leaves_a_readable_recording(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from engine.telemetry.recorder import Recorder, Limits\n"
        "from engine.messages import LogLine\n"
        "r = Recorder(Path(sys.argv[1]), Limits(flush_seconds=0.01, free_bytes=0))\n"
        "n = 0\n"
        "while True:\n"
        "    r(LogLine(level='INFO', source='x', text=str(n))); n += 1; time.sleep(0.001)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        until(lambda: sum(p.stat().st_size for p in tmp_path.iterdir()) > 4000)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    texts = [
        s.event.text for s in open_recording(tmp_path).events() if isinstance(s.event, LogLine)
    ]
    assert texts == [str(n) for n in range(len(texts))]
    assert len(texts) > 20


def test_it_stays_within_its_bytes_and_keeps_the_newest(tmp_path: Path) -> None:
    taped = Taped(tmp_path, T0, total_bytes=20_000, segment_bytes=5_000, segment_seconds=1e9)
    for n in range(70):
        taped.t += 1
        taped.tell([line(os.urandom(400).hex()), line(f"number {n}")])
        taped.written(until)
    taped.close()
    assert sum(p.stat().st_size for p in tmp_path.glob("*.gz")) <= 20_000
    stay = {p.name.split(".")[0] for p in tmp_path.iterdir()}
    assert len(list(tmp_path.glob("*.index.json"))) == len(stay)  # indexes went with theirs
    last = list(open_recording(tmp_path).events())[-1].event
    assert isinstance(last, LogLine)
    assert last.text == "number 69"


def test_old_segments_go(tmp_path: Path) -> None:
    tmp_path.joinpath("events-0000000000001-1-0001.ndjson.gz").write_bytes(b"")
    os.utime(next(tmp_path.iterdir()), (T0 - 10, T0 - 10))
    taped = Taped(tmp_path, T0, age_seconds=5.0)
    taped.tell([line("now")])
    taped.close()
    assert len(list(tmp_path.glob("*.gz"))) == 1


def test_a_slow_disk_costs_samples_only_and_the_gap_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, began, append = threading.Event(), threading.Event(), SegmentWriter.append

    def slow(self: SegmentWriter, lines: bytes) -> None:
        began.set()
        assert release.wait(30)
        append(self, lines)

    monkeypatch.setattr(SegmentWriter, "append", slow)
    taped = Taped(tmp_path, T0, queue_events=50)
    taped.tell([line("first")])
    assert began.wait(30)
    for n in range(200):  # returns at once although nothing is written
        taped.tell([sample(T0 + n)])
    taped.tell([spike(T0 + n) for n in range(30)])
    release.set()
    taped.close()
    events: list[Event] = [s.event for s in open_recording(tmp_path).events()]
    assert sum(isinstance(e, Spike) for e in events) == 30
    assert taped.recorder.left_out == 150
    assert taped.recorder.lost == 0
    gaps = [e.text for e in events if isinstance(e, LogLine) and e.source == "recorder"]
    assert gaps == ["the recording leaves out 150 samples and 0 other events here"]


def test_a_full_disk_pauses_says_so_once_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, write = True, os.write

    def broken(fd: int, data: bytes) -> int:
        if full and len(data) > 1:
            write(fd, bytes(data)[:7])  # half of it lands, as on a real disk
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    taped = Taped(tmp_path, T0, retry_seconds=10.0)
    taped.tell([JobChanged(job=job())])
    taped.written(until)
    monkeypatch.setattr(os, "write", broken)
    for _ in range(3):
        taped.tell([line("unseen")])
        taped.written(until)
    assert taped.recorder.paused == "No space left on device"
    assert [level for level, _ in taped.said] == ["WARNING"]
    assert "Jobs go on" in taped.said[0][1]
    full = False
    taped.t += 11
    taped.tell([line("seen")])
    taped.written(until)
    taped.close()
    assert taped.said[-1] == ("INFO", "recording goes on")
    recording = open_recording(tmp_path)
    texts = [s.event.text for s in recording.events() if isinstance(s.event, LogLine)]
    assert texts == ["the recording leaves out 0 samples and 3 other events here", "seen"]
    assert recording.problems == []  # the half that landed was taken back


def test_the_last_of_the_disk_is_left_to_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taped = Taped(tmp_path, T0, free_bytes=1 << 62)
    taped.tell([line("a")])
    taped.close()
    assert list(tmp_path.iterdir()) == []
    assert "left to jobs" in taped.said[0][1]


def test_a_clock_that_is_set_back_keeps_the_order(tmp_path: Path) -> None:
    taped = Taped(tmp_path, T0)
    taped.tell([line("before")])
    taped.written(until)
    taped.wall, taped.t = -3600.0, T0 + 5
    taped.tell([line("after")])
    taped.close()
    assert len(list(tmp_path.glob("*.gz"))) == 2
    recording = open_recording(tmp_path)
    assert recording.header()["clock_step"] in (0.0, -3600.0)
    assert recording.count == 2


def test_marks_of_earlier_versions_read_well() -> None:
    """Their texts were cut short, and ranks were dead that only ended with the others."""
    told = [
        (1.0, "x" * 120), (2.0, "rank 3 died: exited with code 1"),
        (2.1, "rank 2 died: was killed by SIGTERM"), (2.2, "rank 0 died: was killed by SIGTERM"),
        (90.0, "rank 1 died: was killed by SIGTERM"), (91.0, "short"),
    ]  # fmt: skip
    marks = [{"at": at, "kind": "error", "text": text, "job": 1} for at, text in told]
    old = {"start": 1.0, "end": 9.0, "events": 4, "jobs": [1], "marks": marks, "problems": []}
    index = Index.from_json(json.dumps(old))
    assert index.cut
    assert [mark.text for mark in index.marks] == [
        "x" * 120,
        "rank 3 died: exited with code 1",
        "rank 1 died: was killed by SIGTERM",  # by itself: somebody ended it
        "short",
    ]
    long = Index(start=1.0, end=2.0)
    long.take(4.0, line("z" * 120, "ERROR"))
    long.take(5.0, line("y" * 5000, "ERROR"))
    assert [mark.text for mark in long.marks] == ["z" * 120, "y" * 999 + "…"]
    assert Index.from_json(long.to_json()) == long


def test_what_an_earlier_version_cut_is_told_by_the_events() -> None:
    recording = open_recording(ROOT / "sample_data" / "recordings" / "rank-killed.zip")
    assert recording.marks[-1].text.endswith("when memory ran out); 1 clips are kept")
    assert not recording.problems


def test_dead_ranks_and_errors_are_marked(tmp_path: Path) -> None:
    taped = Taped(tmp_path, T0)
    taped.tell([spike(T0)])
    taped.t += 10
    died = RankChanged(job=1, rank=2, pid=7, device="cuda:2", device_uuid=None, phase="died",
                       reason="SIGKILL", t=T0)  # fmt: skip
    taped.tell([died, line("fine"), line("broken", "ERROR")])
    taped.t += 1
    why = FindingRaised(id="f", finding="cuda_oom", severity="error", cause="Full.", t=T0)
    taped.tell([why, replace(why, role="victim"), replace(why, resolved=True)])
    taped.t += 9
    alert = AlertChanged(id="hot:0", rule="hot", severity="warning", state="pending", t=T0,
                         message="86 °C")  # fmt: skip
    taped.tell([alert, replace(alert, state="firing"), replace(alert, state="resolved")])
    taped.close()
    recording = open_recording(tmp_path)
    marks = recording.marks
    assert [(mark.kind, mark.at) for mark in marks] == [
        ("spike", T0), *[("error", T0 + n) for n in (10, 10, 11)], ("alert", T0 + 20)]  # fmt: skip
    assert marks[1].text == "rank 2 died: SIGKILL"
    replay = ReplayClient(recording)
    replay.seek(T0 + 1)
    alert_stop = replay.stop(1, kinds=["alert"])
    assert alert_stop is not None
    assert alert_stop.mark == marks[-1]
    # What belongs to one fault is one stop, behind what says what it means; from there back.
    fault = replay.stop(1)
    assert fault is not None
    assert (fault.mark, fault.count) == (marks[1], 3)
    assert T0 + 11 < fault.moment < T0 + 12
    replay.seek(fault.moment)
    assert [replay.stop(by) for by in (-1, 1)] == [replay.stops()[0], alert_stop]


def test_what_is_wrong_is_known_in_the_segments_after_it(tmp_path: Path) -> None:
    taped = Taped(tmp_path, T0, segment_seconds=20.0)
    wrong = FindingRaised(id="f", finding="cuda_oom", severity="error", cause="Full.", t=T0)
    seen = ProcessesSurveyed(t=T0, processes=())
    taped.tell([wrong, replace(wrong, id="g"), replace(wrong, id="g", resolved=True), seen])
    for _ in range(3):
        taped.written(until)
        taped.t += 15
        taped.tell([line("fine")])
    taped.close()
    last = sorted(tmp_path.glob("*.ndjson.gz"))[-1]
    state = [stamped.event for stamped in open_recording(last).ground() if stamped.key]
    assert [event for event in state if isinstance(event, FindingRaised)] == [wrong]
    assert seen in state


def test_what_is_no_recording_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recording here"):
        open_recording(tmp_path)
    (tmp_path / "x.bin").write_bytes(os.urandom(500))
    with pytest.raises(RecordingError):
        open_recording(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("env", "total", "wrong"),
    [
        ({}, 1 << 30, False),
        ({"AVATOP_RECORD_MIB": "64"}, 64 << 20, False),
        ({"AVATOP_RECORD_MIB": "much"}, 1 << 30, True),
        ({"AVATOP_RECORD_MIB": "-1"}, 1 << 30, True),
        ({"AVATOP_RECORD": "off"}, None, False),
    ],
)
def test_limits_come_from_the_environment(
    env: dict[str, str], total: int | None, wrong: bool
) -> None:
    limits, problem = Limits.of(env)
    assert (limits.total_bytes if limits else None) == total
    assert (problem is not None) == wrong

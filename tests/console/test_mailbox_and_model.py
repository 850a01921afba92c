"""What becomes of events while the screen stands still, and what the console knows afterwards."""

from __future__ import annotations

import dataclasses
import threading

from console import jobbook, production, trouble
from console.mailbox import KEPT, Mailbox
from console.state import LOG_LINES, Model
from engine.messages import (
    AlertChanged,
    Audited,
    BatchChanged,
    BatchItem,
    CheckpointChanged,
    ClipCommitted,
    DevicesSampled,
    Event,
    FindingRaised,
    JobChanged,
    LedgerUpdated,
    LogLine,
    PlanChanged,
    ProcessClass,
    ProcessesSurveyed,
    ProcessReading,
    RankChanged,
    ReleaseChanged,
    Snapshot,
)
from tests.console.fake_client import GIB, Stage, frame, job


def told(stage: Stage, seconds: int = 30) -> Model:
    model = Model()
    for event in stage.history(seconds):
        model.apply(event)
    model.now = stage.started + seconds
    return model


def test_an_hour_without_a_reader_stays_bounded_and_ends_in_the_present() -> None:
    mailbox = Mailbox()
    for n in range(KEPT * 3):
        mailbox.put(LogLine(level="INFO", source="engine", text=str(n)))
        mailbox.put(JobChanged(job=job(n % 5, clip=n)))
    assert len(mailbox) <= KEPT + 5
    events = mailbox.drain()
    assert events[-1].job.clip == KEPT * 3 - 1  # type: ignore[attr-defined]
    assert [e.text for e in events if isinstance(e, LogLine)][-1] == str(KEPT * 3 - 1)
    assert mailbox.dropped == KEPT * 2
    assert mailbox.drain() == []


def test_one_wake_per_drain() -> None:
    wakes: list[int] = []
    mailbox = Mailbox(lambda: wakes.append(1))
    for _ in range(100):
        mailbox.put(LogLine(level="INFO", source="engine", text="x"))
    assert len(wakes) == 1
    mailbox.drain()
    mailbox.put(LogLine(level="INFO", source="engine", text="x"))
    assert len(wakes) == 2


def test_many_writers_lose_no_order_of_their_own() -> None:
    mailbox = Mailbox()

    def write(source: int) -> None:
        for n in range(300):
            mailbox.put(LogLine(level="INFO", source=str(source), text=str(n)))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    lines = [e for e in mailbox.drain() if isinstance(e, LogLine)]
    for source in range(4):
        assert [int(e.text) for e in lines if e.source == str(source)] == list(range(300))


def test_gpus_are_panels_with_their_ranks() -> None:
    panels = told(Stage(gpus=4)).panels()
    assert [panel.name for panel in panels] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert panels[3].role == "step 4 of 4 + VAE"
    assert panels[0].predicted == int(63.8 * GIB)
    owners = dict(panels[0].memory.level[1])  # type: ignore[index]
    assert owners["weights"] == int(30.4 * GIB * 1.0)
    assert owners["foreign"] == GIB // 2


def test_a_rank_that_loads_is_not_taken_for_another_process() -> None:
    model = told(Stage(gpus=1))
    track = next(iter(model.machines.devices.values()))
    used = int(40 * GIB)
    for claimed, foreign in ((used, 0), (used - GIB, GIB)):
        rank = next(t for t in model.machines.tracks.values() if t.change is not None)
        process = ProcessReading(pid=rank.change.pid, started=1.0, job=rank.job, rank=rank.rank,
                                 memory={track.reading.uuid: claimed})  # fmt: skip
        reading = dataclasses.replace(track.reading, memory_used=used, processes=(process,))
        model.apply(LedgerUpdated(job=rank.job, rank=rank.rank, device=rank.change.device,
                                  by_owner={"context": GIB}, peak_by_owner={},
                                  total=GIB, peak=GIB))  # fmt: skip
        model.apply(DevicesSampled(devices=(reading,)))
        owners = dict(track.memory.level[1])
        assert owners["context"] == GIB
        assert owners["other"] == claimed - GIB
        assert owners.get("foreign", 0) == foreign
    waiting = ProcessReading(pid=rank.change.pid + 1, started=1.0, job=rank.job - 5, rank=0,
                             user="op", memory={track.reading.uuid: GIB})  # fmt: skip
    for user, foreign in (("op", 0), ("somebody", GIB)):
        ours = dataclasses.replace(process, user="op")
        other = dataclasses.replace(waiting, user=user)
        model.apply(
            DevicesSampled(devices=(dataclasses.replace(reading, processes=(ours, other)),))
        )
        assert dict(track.memory.level[1]).get("foreign", 0) == foreign


def test_a_peak_before_a_rank_s_death_is_told_by_what_the_rank_held() -> None:
    model = told(Stage(gpus=1))
    track = next(iter(model.machines.devices.values()))
    assert track.memory.level is not None
    held, t = dict(track.memory.level[1]), float(track.memory.last or 0.0) + 0.5
    peak = int(track.memory.level[0]) + GIB
    gone = dataclasses.replace(track.reading, memory_used=0, memory_peak=peak, processes=())
    rank = next(x.change for x in model.machines.tracks.values() if x.change is not None)
    model.apply(dataclasses.replace(rank, phase="died", t=t - 0.1))
    model.apply(DevicesSampled(devices=(gone,), t=t))
    (column,) = track.memory.columns(t, 1, 0.25)
    assert column is not None
    assert column[0] == peak
    assert {**held, "other": held.get("other", 0) + GIB} == dict(column[1])
    assert track.memory.level[0] == 0


def test_without_gpus_ranks_are_panels_and_the_host_is_a_row() -> None:
    model = told(Stage(gpus=0, cpu_ranks=2))
    assert [panel.kind for panel in model.panels()] == ["rank", "rank"]
    assert model.host_track() is not None


def test_a_dead_rank_stays_in_the_picture_and_old_jobs_leave_it() -> None:
    model = told(Stage(gpus=0, cpu_ranks=2))
    model.apply(RankChanged(job=17, rank=1, pid=1, device="cpu", device_uuid=None, phase="died",
                            exit_code=-9, reason="killed by SIGKILL"))  # fmt: skip
    assert [panel.phase for panel in model.panels()] == ["running", "died"]
    alive, dead = model.panels()
    assert alive.used
    assert dead.used == 0  # it gave back what its last report tells
    model.apply(RankChanged(job=17, rank=0, pid=1, device="cpu", device_uuid=None, phase="ended"))
    assert len(model.panels()) == 2
    model.apply(RankChanged(job=18, rank=0, pid=2, device="cpu", device_uuid=None, phase="loading"))
    assert [panel.key for panel in model.panels()] == ["18:0"]


def test_ranks_of_jobs_that_are_over_are_no_panels_of_a_console_that_attaches_late() -> None:
    def rank(job: int, phase: str) -> RankChanged:
        return RankChanged(job=job, rank=0, pid=job, device="cuda:0", device_uuid="u", phase=phase)

    def ledger(job: int) -> LedgerUpdated:
        return LedgerUpdated(job=job, rank=0, device="cuda:0", by_owner={"kv": GIB},
                             peak_by_owner={}, total=GIB, peak=GIB)  # fmt: skip

    model = Model()
    model.apply_snapshot(
        Snapshot(ranks=(rank(1, "ended"), rank(2, "running")), ledgers=(ledger(1), ledger(2)))
    )
    assert [panel.key for panel in model.panels()] == ["2:0"]


def test_an_allocator_s_words_tell_what_a_job_s_ranks_may_take() -> None:
    model = told(Stage(gpus=2))
    assert [panel.cap for panel in model.panels()] == [None, None]
    said = "GPU 0 has a total capacity of 139.80 GiB. 1.00 GiB allowed; Of the allocated memory"
    model.apply(LogLine(level="ERROR", source="rank", text=said, job=17, rank=1))
    assert [panel.cap for panel in model.panels()] == [2**30, 2**30]


def test_a_recording_that_calls_the_whole_group_dead_shows_who_failed() -> None:
    model = told(Stage(gpus=0, cpu_ranks=3))
    for rank, code in ((2, 1), (0, -15), (1, -15)):
        model.apply(RankChanged(job=17, rank=rank, pid=1, device="cpu", device_uuid=None,
                                phase="died", exit_code=code, reason="x"))  # fmt: skip
    assert [panel.phase for panel in model.panels()] == ["ended", "ended", "died"]
    change = model.panels()[0].tracks[0].change
    assert change is not None
    assert change.reason == "ended: rank 2 had failed"


def test_one_lost_gpu_does_not_blank_the_rest() -> None:
    stage = Stage(gpus=3)
    model = told(stage)
    sample = next(e for e in stage.tick(stage.started + 31) if hasattr(e, "devices"))
    model.apply(type(sample)(devices=sample.devices[:2], t=sample.t))
    assert [panel.name for panel in model.panels()][:2] == ["GPU 0", "GPU 1"]


def test_jobs_are_ordered_as_one_looks_for_them() -> None:
    model = Model()
    for number, state in ((1, "done"), (2, "failed"), (3, "queued"), (4, "running")):
        model.apply(JobChanged(job=job(number, state)))
    assert [row.id for row in model.job_rows()] == [4, 3, 2, 1]


def test_a_snapshot_is_the_ground_and_later_lines_stay() -> None:
    model = Model()
    model.apply(LogLine(level="INFO", source="engine", text="later", t=20.0))
    old = LogLine(level="INFO", source="engine", text="earlier", t=10.0)
    model.apply_snapshot(Snapshot(jobs=(job(3),), logs=(old,)))
    model.apply(old)  # it was on its way when the snapshot was made
    assert [entry.text for entry in model.logs] == ["earlier", "later"]
    model.apply(old)  # a rank that says the same twice
    assert [entry.text for entry in model.logs] == ["earlier", "later", "earlier"]
    numbers = [entry.number for entry in model.logs]
    assert numbers == sorted(set(numbers))
    assert 3 in model.jobs


def test_a_broken_preview_is_ignored() -> None:
    model = Model()
    good = frame(1, 0, 0, 0.0)
    model.apply(good)
    assert model.preview is not None
    kept = model.preview
    for rgb in ("!!!", "AAAA", ""):
        model.apply(type(good)(job=1, clip=0, block=1, seconds=1, preview_width=96,
                               preview_height=54, preview_rgb=rgb))  # fmt: skip
    assert model.preview is kept


def test_log_lines_are_bounded_and_found_by_number() -> None:
    model = Model()
    for n in range(LOG_LINES + 50):
        model.apply(LogLine(level="INFO", source="engine", text=str(n)))
    assert len(model.logs) == LOG_LINES
    last = model.logs[-1].number
    assert [e.number for e in model.log_after(last - 3)] == [last - 2, last - 1, last]
    assert model.log_after(last) == []


def batch(name: str, *items: BatchItem) -> BatchChanged:
    return BatchChanged(batch=name, name=name, state="running", total=9, counts={}, items=items)


def test_a_batch_gathers_the_items_of_its_events() -> None:
    model = Model()
    model.apply(batch("b", BatchItem(key="1", name="one", state="running")))
    model.apply(batch("b", BatchItem(key="2", name="two", state="waiting")))
    model.apply(batch("b", BatchItem(key="1", name="one", state="done")))
    items = model.production.batches["b"].items
    assert {name: item.state for name, item in items.items()} == {"one": "done", "two": "waiting"}
    mended = BatchItem(key="3", name="two", state="running")
    model.apply(batch("b", mended))  # under another key: its files are others now
    assert model.production.batches["b"].items["two"] == mended
    assert "batches" in model.taken()


def test_every_new_kind_of_event_is_kept_and_marked() -> None:
    process = ProcessClass(process=ProcessReading(pid=9, started=1.0), kind="stray")
    told: list[tuple[Event, str]] = [
        (ProcessesSurveyed(processes=(process,), leaked=("/dev/shm/x",)), "processes"),
        (ReleaseChanged(release="d", version="1.2", role="candidate", state="rolling"), "releases"),
        (CheckpointChanged(folder="/ckpt", files=("a",)), "checkpoint"),
        (PlanChanged(job=3, reason="switch", mode="offload"), "plans"),
        (Audited(action="reap", by="me", target="9", result="ended"), "audits"),
        (FindingRaised(id="f", finding="x", severity="error", cause="Why.", job=3), "findings"),
        (AlertChanged(id="a", rule="r", severity="critical", state="firing"), "alerts"),
    ]
    model = Model()
    for event, word in told:
        model.taken()
        model.apply(event)
        assert word in model.taken()
    assert model.production.processes == (process,)
    assert model.book.plan_story[3][0].mode == "offload"
    assert [f.id for f in model.trouble.findings_of(3)] == ["f"]


def test_a_week_of_events_stays_bounded() -> None:
    model = Model()
    for n in range(jobbook.JOBS + 1200):
        model.apply(JobChanged(job=job(n, "done")))
        model.apply(ClipCommitted(job=n, clip=0, frames=48, seconds=1, fps=48, path="x"))
        model.apply(FindingRaised(id=str(n), finding="x", severity="error", cause="Why."))
        model.apply(AlertChanged(id=str(n), rule="r", severity="info", state="firing"))
        model.apply(AlertChanged(id=str(n), rule="r", severity="info", state="resolved"))
        model.apply(batch(str(n)))
    assert len(model.jobs) <= jobbook.JOBS * 1.1 + 1
    assert max(model.jobs) == jobbook.JOBS + 1199  # the newest stay
    assert len(model.book.clip_story) == jobbook.STORIES
    assert len(model.trouble.findings) == trouble.FINDINGS
    assert (len(model.trouble.alerts), len(model.trouble.past)) == (0, trouble.PAST)
    assert len(model.production.batches) == production.BATCHES
    assert len(model.clips) <= len(model.jobs)


def test_the_snapshot_brings_what_was_told_before() -> None:
    alert = AlertChanged(id="a", rule="r", severity="warning", state="firing")
    finding = FindingRaised(id="f", finding="x", severity="error", cause="Why.")
    model = Model()
    model.apply_snapshot(Snapshot(alerts=(alert,), findings=(finding,), batches=(batch("b"),)))
    assert model.trouble.firing() == [alert]
    assert model.trouble.open_findings() == [finding]
    assert "b" in model.production.batches


def test_of_what_tells_the_present_the_newest_waits() -> None:
    mailbox = Mailbox()
    for n in range(50):
        mailbox.put(ProcessesSurveyed(processes=(), leaked=(str(n),)))
        mailbox.put(ReleaseChanged(release="d", version=str(n), role="known", state="idle"))
    assert len(mailbox) == 2

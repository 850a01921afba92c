"""Do log lines and figures of a running engine become findings with remedies?"""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.bus import Bus
from engine.messages import (
    Audited,
    BlockDone,
    Event,
    FindingRaised,
    JobChanged,
    JobRow,
    LedgerUpdated,
    LogLine,
    PlanMade,
    StepDone,
)
from engine.nightwatch.findings import FindingsWatch, watch_findings
from engine.nightwatch.kept import Kept
from engine.nightwatch.words import quality_raised, remedies_of

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB. GPU 0 has a total "
    "capacity of 79.11 GiB of which 2.00 GiB is free."
)
LOST = "[E] DistBackendError: Connection closed by peer [127.0.0.1]:4711"


def _row(state: str = "running", **fields: Any) -> JobChanged:
    values = {"mode": "tpp", "size": "64*64", "clip": 0, "clips": 2, **fields}
    return JobChanged(job=JobRow(id=3, state=state, **values))


def _line(text: str, rank: int = 0, source: str = "rank", level: str = "INFO") -> LogLine:
    return LogLine(level=level, source=source, text=text, job=3, rank=rank)


def _fed(*events: Event) -> list[FindingRaised]:
    told: list[Event] = []
    watch = FindingsWatch(told.append)
    for event in events:
        watch.take(event)
        watch.turn()
    return [e for e in told if isinstance(e, FindingRaised)]


def test_an_oom_on_one_rank_is_the_root_and_its_peers_errors_are_victims() -> None:
    found = _fed(_row(), _line(LOST, 1), _line(OOM, 2), _line(LOST, 3))
    now = {e.id: e for e in found}
    root = now["job3-cuda_oom"]
    assert (root.role, root.rank, root.job, root.severity) == ("root", 2, 3, "error")
    assert "4.17 GiB" in root.cause
    assert root.evidence == (f"[rank2]: {OOM}",)
    assert now["job3-peer_rank_died"].role == "victim"
    actions = {r.id: (r.action, r.changes, r.alters_output) for r in root.remedies}
    assert actions["next_fitting_plan"] == ("relaunch", {"plan": "next_fitting"}, ())
    assert actions["smaller_size"] == ("relaunch", {"size": "lower"}, ("size",))


def test_what_another_rank_says_in_between_is_no_evidence() -> None:
    killed = "rank 1 (process 28750) was killed by SIGKILL (an operator, or the kernel)"
    trace = 'Traceback (most recent call last):\n  File "main.py", line 80, in _work\n    run()'
    ended = LogLine(level="ERROR", source="engine", text=f"interrupted: {killed}", job=3)
    told: list[Event] = []
    watch = FindingsWatch(told.append)
    for event in (_row(), _line(killed, 1), _line(f"{trace}\n{LOST}", 0), ended):
        watch.take(event)
    watch.turn()
    found = {e.finding: e.evidence for e in told if isinstance(e, FindingRaised)}
    assert found["terminated_by_signal"] == (f"[rank1]: {killed}", f"interrupted: {killed}")


def test_out_of_memory_under_a_cap_says_the_cap_and_what_helps_this_very_job() -> None:
    text = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB. GPU 0 has a total "
        "capacity of 139.80 GiB of which 118.05 GiB is free. Including non-PyTorch memory, this "
        "process has 21.74 GiB memory in use. 24.00 GiB allowed; Of the allocated memory 20.59 GiB "
        "is allocated by PyTorch, and 163.92 MiB is reserved by PyTorch but unallocated."
    )
    trace = ('  File "/x/torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py", line 263, in'
             " foreach_all_gather")  # fmt: skip
    wrapped = {"mode": "fsdp", "fsdp_wrap": "reference"}
    (found,) = _fed(_row(request=wrapped), *[_line(trace), _line(text)])[-1:]
    assert found.finding == "fsdp_memory_growth"
    assert "(21.74 of 24.00 GiB allowed, tried" in found.cause
    assert "118.05" not in found.cause
    assert [r.id for r in found.remedies] == ["wrap_per_block", "next_fitting_plan"]
    # What it runs by already is no advice; another program is told all there is.
    block = _row(request={"mode": "fsdp", "fsdp_wrap": "block"})
    (found,) = _fed(block, *[_line(trace), _line(text)])[-1:]
    assert [r.id for r in found.remedies] == ["next_fitting_plan"]
    (found,) = _fed(_row(kind="command"), *[_line(trace), _line(text)])[-1:]
    assert [r.id for r in found.remedies][-1] == "shard_on_load"


def test_every_action_of_a_remedy_is_one_that_a_key_can_do() -> None:
    known = {"relaunch", "env", "port", "reap", "verify", "free_disk", None}
    kinds = ("nccl_p2p_or_shm", "port_in_use", "checkpoint_corrupt", "disk_full", "zombie_process")
    found = [remedy for kind in kinds for remedy in remedies_of(kind)]
    assert {r.action for r in found} >= {"env", "port", "verify", "free_disk", "reap"}
    assert {r.action for r in found} <= known
    p2p = next(r for r in found if r.id == "p2p_disable")
    assert p2p.changes == {"NCCL_P2P_DISABLE": "1"}


def test_the_engine_s_own_words_count_where_they_are_loud_and_chatter_does_not() -> None:
    full = "clip 3 could not be committed: [Errno 28] No space left on device"
    assert _fed(_row(), _line(full, source="engine")) == []
    (found,) = _fed(_row(), _line(full, source="engine", level="ERROR"))
    assert found.finding == "disk_full"
    assert _fed(_row(), *[_line(f"step {n} done") for n in range(50)]) == []


def test_what_was_found_is_settled_when_the_job_is_done_and_told_when_it_failed() -> None:
    done = _fed(_row(), _line(OOM), _row("queued", attempt=2), _row("done", attempt=2))
    assert [(e.finding, e.resolved) for e in done] == [("cuda_oom", False), ("cuda_oom", True)]
    failed = _fed(_row(), _line(OOM), _row("failed"))
    assert [e.resolved for e in failed] == [False]
    # History that is told at an engine's start is no news.
    assert _fed(_row("done"), _row("failed")) == []


def test_an_end_that_no_line_explains_is_a_finding_and_settled_once_the_job_goes_on() -> None:
    broken = "rank 1 (process 77) left with exit code 0 before its job was finished; 2 clips"
    over = _row("interrupted", error=broken)
    found = _fed(_row(), over, _row("queued", attempt=2), _row("running", attempt=2))
    assert [(e.id, e.role, e.resolved) for e in found] == [
        ("job3-interrupted", "root", False),
        ("job3-interrupted", "root", True),
    ]
    assert found[0].cause == f"R{broken[1:]}."
    (again,) = found[0].remedies
    assert (again.action, again.changes, again.alters_output) == ("relaunch", {}, ())
    assert [e.resolved for e in _fed(_row(), over, _row("cancelled"))] == [False, True]
    assert _fed(_row(), _row("cancelled", error="wrong portrait")) == []


def test_what_explains_an_interrupted_job_lets_it_go_on_first() -> None:
    over = _row("interrupted", error="memory ran out")
    found = _fed(_row(), _line(OOM), over)
    assert [e.finding for e in found] == ["cuda_oom", "cuda_oom"]
    before, after = ([r.id for r in e.remedies] for e in found)
    assert after == ["go_on", *before]
    on = _fed(_row(), _line(OOM), over, _row("queued", attempt=2))
    assert (on[-1].finding, on[-1].resolved) == ("cuda_oom", True)
    # What a guard has said explains it as well.
    hang = FindingRaised(id="h", finding="hang_no_progress", severity="error", cause="x", job=3)
    (told,) = _fed(_row(), hang, over)
    assert (told.id, [r.id for r in told.remedies]) == ("h", ["go_on"])


def test_a_cancelled_job_raises_nothing_and_what_it_had_raised_is_settled() -> None:
    asked = "cancelled by the operator"
    said = _line(asked, source="engine", level="WARNING")  # as earlier versions told it
    dying = _line("Received signal 15 (SIGTERM)", 1)
    assert _fed(_row("queued"), said, _row("cancelled", error=asked)) == []
    told: list[Event] = []
    watch = FindingsWatch(told.append)
    for event in (_row(), dying, _row("cancelled", error=asked)):  # read in one turn
        watch.take(event)
    watch.turn()
    assert told == []


def test_how_the_engine_tries_again_is_no_evidence() -> None:
    text = "attempt 2 of 3: communication failed; once more with NCCL_P2P_DISABLE=1"
    line = LogLine(level="WARNING", source="engine", text=text, job=3, where="desk.py:90")
    assert _fed(_row(), line) == []


def test_advice_follows_what_was_measured() -> None:
    gib = 2**30
    events: list[Event] = [
        _row(),
        PlanMade(job=3, plan={"mode": "tpp", "stages": [], "order": "diagonal"}),
        LedgerUpdated(
            job=3, rank=0, device="cuda:0", by_owner={}, total=0, peak=20 * gib,
            peak_by_owner={"slack": 6 * gib, "weights": 14 * gib}, capacity=80 * gib,
        ),
    ]  # fmt: skip
    for block in range(4):
        for rank, seconds in enumerate((1.0, 3.0)):
            events.append(StepDone(job=3, rank=rank, step=rank, block=block, seconds=seconds))
        events.append(BlockDone(job=3, clip=0, block=block, seconds=4.0))
    found = _fed(*events, _row("done"))
    assert {e.role for e in found} == {"advice"}
    told = {e.finding: e for e in found}
    assert "3.00 s" in told["advice_faster"].cause
    (cut,) = told["advice_faster"].remedies
    assert (cut.action, cut.changes) == ("relaunch", {"mode": "tpp", "variant": "balanced"})
    (slack,) = told["advice_smaller"].remedies
    assert slack.changes == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert told["advice_smaller"].evidence == ("bytes: 6 GiB", "share: 30 %")
    host = LedgerUpdated(
        job=3, rank=0, device="cpu", by_owner={}, total=0, peak=20 * gib,
        peak_by_owner={"slack": 6 * gib},
    )  # fmt: skip
    assert _fed(_row(), host, _row("done")) == []  # no setting grows segments there
    assert _fed(_row(), _row("done")) == []  # nothing measured, nothing advised


@pytest.mark.parametrize(("decode", "told"), [(2.0, "Rank 1 needs 3.00 s"), (None, None)])
def test_advice_on_stages_counts_what_a_rank_decodes(
    decode: float | None, told: str | None
) -> None:
    plan = {"mode": "tpp", "stages": [{"rank": 0}, {"rank": 1}], "vae_rank": 1,
            "order": "diagonal"}  # fmt: skip
    events: list[Event] = [_row(), PlanMade(job=3, plan=plan)]
    for block in range(4):
        for rank, seconds in enumerate(
            (1.4, 1.0)
        ):  # by its steps alone rank 0 would be the slowest
            events.append(StepDone(job=3, rank=rank, step=rank, block=block, seconds=seconds))
        events.append(BlockDone(job=3, clip=0, block=block, seconds=3.0, rank=1,
                                decode_seconds=decode))  # fmt: skip
    causes = [e.cause for e in _fed(*events, _row("done"))]
    blamed = [cause for cause in causes if cause.startswith("Rank")]
    assert len(blamed) == bool(told)
    assert all(told in cause for cause in blamed if told)
    assert any("Decoding takes 2.00 s of each block's 3.00 s" in c for c in causes) == bool(told)


def test_a_clip_that_fails_its_check_is_a_finding_of_its_own() -> None:
    checked = [
        {"level": "error", "kind": "black", "subject": "x", "text": "frames 3-40 are black"},
        {"level": "warning", "kind": "frozen", "subject": "x", "text": "frames 41-44 are frozen"},
    ]
    first, second = quality_raised(3, "clip 7", checked)
    assert (first.finding, first.severity) == ("bad_quality", "error")
    assert first.cause == "clip 7: frames 3-40 are black."
    assert "verify" in {r.action for r in first.remedies}
    assert second.severity == "warning"
    assert first.id != second.id


def test_it_runs_beside_a_bus_and_reads_what_is_left_at_the_end() -> None:
    bus, told, raised = Bus(), list[Event](), threading.Event()

    def listen(event: Event) -> None:
        told.append(event)
        if isinstance(event, FindingRaised):
            raised.set()

    bus.subscribe(listen)

    def call(function: Any) -> bool:
        function()
        return True

    end = watch_findings(bus, call)
    bus.publish(_row())
    bus.publish(_line(OOM))
    assert raised.wait(20)
    bus.publish(_line("OSError: [Errno 98] Address already in use", 1))
    end()
    classes = {e.finding for e in told if isinstance(e, FindingRaised)}
    assert "cuda_oom" in classes


def test_the_next_engine_knows_what_this_one_found(tmp_path: Path) -> None:
    place = tmp_path / "trouble.ndjson"

    def engine(*events: Event) -> dict[str, FindingRaised]:
        told: list[Event] = []
        watch = FindingsWatch(told.append, Kept(place))
        watch.restore()
        for event in events:
            watch.take(event)
        watch.turn()
        return {e.id: e for e in told if isinstance(e, FindingRaised)}

    done = Audited(action="retry", by="policy", target="job 3", result="out of memory")
    first = engine(_row(), _line(OOM), done, _row("failed", error="x", ended=time.time()))
    assert not first["job3-cuda_oom"].resolved
    # History at its start settles nothing, and what the log explained is not told twice.
    second = engine(_row("failed", error="x", ended=time.time()))
    assert set(second) == {"job3-cuda_oom"}
    assert second["job3-cuda_oom"].remedies[0].id == "next_fitting_plan"
    seen = dataclasses.replace(second["job3-cuda_oom"], resolved=True)
    engine(seen)  # somebody acknowledged it
    assert engine(_row("failed", ended=time.time()))["job3-cuda_oom"].resolved
    # A killed engine said nothing: the next one does, once, unless it is long ago.
    place.unlink()
    left = _row("interrupted", error="its engine ended", ended=time.time())
    assert engine(left)["job3-interrupted"].cause == "Its engine ended."
    again = Audited(action="relaunch", by="kim", target="job 3", result="nothing is changed")
    assert engine(left, again)["job3-interrupted"].resolved
    place.unlink()
    assert engine(_row("interrupted", ended=time.time() - 10 * 86400)) == {}

"""Does a good release reach every job, and is each kind of bad one stopped where it should be?"""

from __future__ import annotations

import dataclasses

import pytest

from engine.messages import GateRow, Submit
from tests.release.world import Behaviour, World


def _gate(here: World, name: str) -> GateRow:
    now = here.service.store.rollout()
    assert now is not None
    return next(row for row in now.gates if row.gate == name)


def _lost(here: World) -> list[int]:
    """Users' jobs that neither are done nor were done anew."""
    assigned = here.service.assigner
    found = []
    for row in here.jobs.list():
        one = assigned.get(row.id)
        if one is None or one.purpose != "live" or row.state == "done":
            continue
        if one.replaced_by is None or here.jobs.get(one.replaced_by).state != "done":
            found.append(row.id)
    return found


async def _rolled_out(here: World) -> None:
    assert await here.validated("1.1") == "passed"
    await here.good("start", "1.1")
    await here.until(lambda: here.stage == "half" or here.state != "rolling")


async def test_R1_a_good_candidate_reaches_every_job_and_is_stable(here: World) -> None:
    await here.two()
    await _rolled_out(here)
    assert (here.state, here.stage) == ("rolling", "half"), here.note
    versions = await here.traffic(39)
    assert versions.count("1.1") == 20
    await here.until(lambda: here.stage == "all")
    assert set(await here.traffic(20)) == {"1.1"}
    await here.until(lambda: here.state == "promoted")
    assert here.stable == "1.1"
    assert all(row.verdict == "PASS" for row in here.service.store.rollout().gates)
    assert set(await here.traffic(3)) == {"1.1"}
    last = [e for e in here.told if e.version == "1.1"][-1]
    assert (last.role, last.state, last.share) == ("stable", "promoted", 1.0)


async def test_R4_a_slow_candidate_is_stopped_by_paired_runs(here: World) -> None:
    await here.two()
    here.client.behaviour["1.1"] = Behaviour(pace=1.25)
    await _rolled_out(here)
    assert (here.state, here.stable) == ("rolled_back", "1.0")
    row = _gate(here, "time_per_clip")
    assert row.verdict == "FAIL"
    assert row.n == 8
    assert len(row.jobs) == 32
    assert row.low is not None
    assert row.low > row.allowed == 0.10
    assert row.deviation == pytest.approx(0.25, abs=0.02)
    assert "single" in here.note


async def test_R4_a_memory_hungry_candidate_is_stopped(here: World) -> None:
    await here.two()
    here.client.behaviour["1.1"] = Behaviour(peak=int(1.05 * (1 << 29)))
    await _rolled_out(here)
    assert here.state == "rolled_back"
    assert _gate(here, "peak_memory").verdict == "FAIL"
    assert _gate(here, "time_per_clip").verdict == "PASS"


async def test_R4_wrong_output_is_stopped_where_numerics_are_to_be_kept(here: World) -> None:
    await here.two()
    here.client.behaviour["1.1"] = Behaviour(psnr=38.0)
    await _rolled_out(here)
    assert here.state == "rolled_back"
    row = _gate(here, "psnr")
    assert (row.verdict, row.unit, row.allowed) == ("FAIL", "dB", -0.02)
    assert row.deviation == pytest.approx(38 / 50 - 1)


async def test_R4_with_new_weights_psnr_only_observes(here: World) -> None:
    await here.add("1.0")
    await here.good("promote", "1.0")
    await here.add("1.1", lora=True)
    here.client.behaviour["1.1"] = Behaviour(psnr=30.0)
    await _rolled_out(here)
    assert (here.state, here.stage) == ("rolling", "half"), here.note
    row = _gate(here, "psnr")
    assert row.observed
    assert row.verdict == "FAIL"  # told, and decides nothing


async def test_R4_slow_communication_is_stopped_on_several_devices(here: World) -> None:
    await here.two()
    here.latency["1.1"] = 2.0
    await _rolled_out(here)
    assert (here.state, here.stage) == ("rolled_back", "multi")
    assert _gate(here, "communication: hop 4096").verdict == "FAIL"


async def test_R3_a_crashing_or_black_candidate_is_never_started(here: World) -> None:
    await here.two()
    here.client.behaviour["1.1"] = Behaviour(fails=lambda n: "rank 1 was killed by SIGSEGV")
    assert await here.validated("1.1") == "failed"
    refused = await here.ask("start", "1.1")
    assert (refused.ok, refused.state) == (False, "refused")
    here.client.behaviour["1.1"] = Behaviour(problems=("93 of 93 frames are black",))
    assert await here.validated("1.1") == "failed"
    found = here.service.evidence.validation(here.service.store.get("1.1").digest)
    assert found is not None
    assert {r.gate: r.verdict for r in found.gates}["clips"] == "FAIL"
    assert here.service.store.rollout() is None


async def test_R1_one_that_crashes_only_under_load_is_stopped_by_its_error_rate(
    here: World,
) -> None:
    await here.two()
    await _rolled_out(here)
    start = here.client.runs["1.1"]
    here.client.behaviour["1.1"] = Behaviour(
        fails=lambda n: "rank 0 was killed by SIGKILL" if n > start and n % 2 else None
    )
    # While it goes on the ranks of both stay warm for longer than those of other jobs.
    assert [here.service.store.rolling(name) for name in ("1.0", "1.1")] == [True, True]
    await here.traffic(40)
    await here.until(lambda: here.state == "rolled_back")
    assert not here.service.store.rolling("1.1")
    row = _gate(here, "error_rate")
    assert row.verdict == "FAIL"
    assert row.candidate == 0.5
    assert "10 of 20 jobs failed" in row.note
    await here.until(lambda: not _lost(here))
    assert set(await here.traffic(5)) == {"1.0"}


@pytest.mark.parametrize(
    "line",
    [
        "clip 3: the latents are not finite (NaN or infinity)",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB",
    ],
)
async def test_R1_a_hard_breach_goes_back_at_once_and_its_work_is_done_anew(
    here: World, line: str
) -> None:
    await here.two()
    await _rolled_out(here)
    here.client.behaviour["1.1"] = Behaviour(hangs=True)
    versions = await here.traffic(6)
    hanging = list(here.client.running)
    assert versions.count("1.1") == len(hanging) == 3
    here.client.behaviour["1.1"] = Behaviour(line=line, fails=lambda n: line)
    await here.traffic(2)
    await here.until(lambda: here.state == "rolled_back")
    store = here.service.store
    await here.until(lambda: store.rollout().follow is None)
    lost = [one for one in here.service.assigner.of_release(store.get("1.1").digest)
            if one.job in hanging]  # fmt: skip
    await here.until(lambda: not _lost(here))
    anew = [here.jobs.get(one.replaced_by) for one in lost]
    assert [row.version for row in anew] == ["1.0"] * 3
    assert [row.state for row in anew] == ["done"] * 3
    assert all(here.jobs.get(job).state == "cancelled" for job in hanging)


async def test_R6_one_command_takes_back_any_stage_and_what_was_promoted(here: World) -> None:
    await here.two()
    refused = await here.ask("rollback")
    assert not refused.ok
    await _rolled_out(here)
    reply = await here.good("rollback", why="looks odd")
    assert reply.data["stable"] == "1.0"
    assert 0 <= reply.data["pointer_seconds"] <= reply.data["seconds"] < 30
    assert set(await here.traffic(4)) == {"1.0"}
    assert any(a.action == "rollback" and a.by == "ana" for a in here.audits)
    await here.good("start", "1.1")
    await here.until(lambda: here.stage == "half")
    await here.good("promote", force=True)
    assert here.stable == "1.1"
    await here.good("rollback")
    assert here.stable == "1.0"
    assert here.service.store.live_at(here.now) == "1.0"


async def test_R6_a_hard_breach_soon_after_promotion_goes_back_by_itself(here: World) -> None:
    await here.two()
    await here.good("start", "1.1", force=True)
    await here.good("promote", force=True)
    bad = Behaviour(line="clip 0: the latents are not finite", fails=lambda n: "failed")
    here.client.behaviour["1.1"] = bad
    here.now += here.settings.watch_minutes * 60 + 1
    await here.traffic(1)
    assert here.stable == "1.1"  # so late it is an alert's matter, and a person's
    await here.good("rollback")
    here.client.behaviour.clear()
    await here.good("start", "1.1", force=True)
    await here.good("promote", force=True)
    here.client.behaviour["1.1"] = bad
    await here.traffic(1)
    await here.until(lambda: here.stable == "1.0")
    await here.until(lambda: not _lost(here))


async def test_R6_the_configuration_comes_back_with_the_version(here: World) -> None:
    config = here.folder / "avatop.toml"
    config.write_text("good = true\n")
    await here.add("1.0", configuration=[str(config)])
    await here.good("promote", "1.0")
    config.write_text("good = false\n")
    await here.add("1.1", configuration=[str(config)])
    await here.good("start", "1.1", force=True)
    await here.good("rollback")
    assert config.read_text() == "good = true\n"
    assert config.with_name("avatop.toml.before-rollback").read_text() == "good = false\n"


async def test_R7_unfinished_work_is_paused_and_put_before_the_operator(here: World) -> None:
    await here.two()
    await _rolled_out(here)
    here.client.behaviour["1.1"] = Behaviour(hangs=True)
    await here.traffic(4)
    (first, second) = here.client.running
    reply = await here.good("rollback", running="pause")
    assert here.client.paused == [first, second]
    left = reply.data["unfinished"]
    assert [(one["job"], one["state"], one["clips"]) for one in left] == [
        (first, "paused", 1),
        (second, "paused", 1),
    ]
    assert f"avatop finish {first}" in left[0]["what_to_do"]
    # Its clips are of 1.1: going on under stable would mix two versions in one video.
    row = dataclasses.replace(here.jobs.get(first), state="queued")
    here.client.begin(row)
    assert "never mixed" in str(here.jobs.get(first).error)


async def test_R7_a_queued_retry_without_clips_goes_to_stable(here: World) -> None:
    await here.two(parameters={"sample_shift": 2.0})
    await _rolled_out(here)
    await here.traffic(2)
    mine = next(one.job for one in here.service.assigner.of_release(
        here.service.store.get("1.1").digest) if one.purpose == "live")  # fmt: skip
    await here.good("rollback")
    with here.jobs.writing() as db:
        db.execute("UPDATE jobs SET state = 'queued', clip = 0 WHERE id = ?", (mine,))
    here.client.begin(here.jobs.get(mine))
    assert here.jobs.get(mine).version == "1.0"
    # A relaunch carries the withdrawn version's name and parameters: neither is kept.
    old = here.service.store.get("1.1")
    asked = old.apply(here.jobs.get(mine).request).to_dict()
    reply = here.client.send(Submit(request=asked, version="1.1")).result()
    await here.until(lambda: here.jobs.get(reply.job).state == "done")
    row = here.jobs.get(reply.job)
    assert (row.version, row.request["sample_shift"]) == ("1.0", 3.0)


async def test_R1_a_restart_goes_on_where_it_stood(here: World) -> None:
    await here.two()
    await _rolled_out(here)
    before = await here.traffic(10)
    await here.reopen()
    assert (here.state, here.stage) == ("rolling", "half")
    after = await here.traffic(29)
    assert (before + after).count("1.1") == 20
    await here.until(lambda: here.stage == "all")
    await here.reopen()
    await here.traffic(20)
    await here.until(lambda: here.state == "promoted")


async def test_R1_by_hand_each_stage_waits_and_a_breach_unarmed_waits_too(here: World) -> None:
    await here.two()
    assert await here.validated("1.1") == "passed"
    await here.good("start", "1.1", by_hand=True)
    await here.until(lambda: here.state == "holding")
    assert "advance by hand" in here.note
    await here.good("advance")
    await here.until(lambda: here.state == "holding")
    await here.good("rollback")
    with here.jobs.writing() as db:
        db.execute("UPDATE release_arming SET armed = 0")
    here.client.behaviour["1.1"] = Behaviour(pace=2.0)
    await here.good("start", "1.1")
    await here.until(lambda: here.state == "paused")
    assert "not armed: a person decides" in here.note
    assert set(await here.traffic(3)) == {"1.0"}
    assert not (await here.ask("advance")).ok
    await here.good("advance", force=True)


async def test_R4_nothing_measured_never_passes(here: World) -> None:
    await here.two()
    await _rolled_out(here)
    here.now += 3 * 1440 * 60
    here.service.conductor.consider()
    await here.until(lambda: here.service.store.rollout().extended == 1)
    here.service.conductor.consider()
    await here.until(lambda: here.state == "paused")
    assert "inconclusive" in here.note
    assert here.stable == "1.0"


async def test_R2_a_version_s_parameters_cap_and_variables_reach_the_job(here: World) -> None:
    await here.two(parameters={"sample_shift": 2.0}, memory_cap=20 << 30)
    await here.good("start", "1.1", force=True)
    await here.good("promote", force=True)
    job = here.submit(batch="b1")
    await here.traffic(1)
    row = here.jobs.get(job)
    assert row.request["sample_shift"] == 2.0
    assert row.request["gpu_memory_cap"] == 20 << 30
    assert row.environment["AVATOP_X"] == "1"
    other = here.submit(ckpt_dir=str(here.folder))
    await here.traffic(1)
    assert here.jobs.get(other).version is None  # another model is nobody's release


async def test_R1_a_batch_keeps_one_version(here: World) -> None:
    await here.two()
    await _rolled_out(here)
    for _ in range(6):
        here.submit(batch="night")
        await here.traffic(1)
    rows = [row for row in here.jobs.list() if row.batch == "night"]
    assert len({row.version for row in rows}) == 1

"""Does an alert come when it should, stay while it should, and go when it should?"""

from __future__ import annotations

import dataclasses

import pytest

from engine.alerts.evaluate import Evaluator, Order
from tests.alerts.helpers import GIB, World, default, device, rule, told


def test_memory_over_90_percent_fires_after_two_minutes_and_not_before() -> None:
    world = World(default("memory-high"))
    world.see(device(0, memory_used=91 * GIB), device(1))
    assert told(world.after(119)) == ["pending"]
    (fired,) = world.after(1)
    assert (fired.state, fired.previous, fired.severity) == ("firing", "pending", "warning")
    assert fired.id == "memory-high-00000000"
    assert fired.device == device(0).uuid
    assert (fired.value, fired.threshold) == (91.0, 90.0)
    assert fired.message == "memory of GPU 0 at 91 % for 2m (over 90 %)"
    world.see(device(0, memory_used=89 * GIB))  # under the limit, not yet under the way back
    assert world.after(60) == []
    world.see(device(0, memory_used=50 * GIB))
    assert world.after(29) == []
    assert told(world.after(1)) == ["resolved"]


def test_a_dip_starts_the_wait_again() -> None:
    world = World(default("memory-high"))
    world.see(device(memory_used=95 * GIB))
    world.after(100)
    world.see(device())
    assert told(world.after(1)) == ["resolved"]
    world.see(device(memory_used=95 * GIB))
    assert told(world.after(119)) == ["pending"]


def test_latency_over_twice_the_hour_s_mean_for_five_minutes_is_critical() -> None:
    world = World(default("latency-doubled"))
    world.job()
    for _ in range(60):  # an hour at 10 s a clip
        world.clip(10.0)
        assert world.after(60, step=20) == []
    changes = []
    for _ in range(12):  # then 60 s a clip
        world.clip(60.0)
        changes += world.after(60, step=10)
    assert told(changes) == ["pending", "firing"]
    assert changes[-1].severity == "critical"
    assert changes[-1].job == 1


def test_B4_a_hot_gpu_fires_and_comes_back_through_the_hysteresis() -> None:
    world = World(default("temperature-high"))
    world.see(device(temperature_c=86.0))
    assert told(world.after(10)) == ["pending", "firing"]
    world.see(device(temperature_c=84.0))
    assert world.after(300) == []
    world.see(device(temperature_c=81.0))
    assert told(world.after(30)) == ["resolved"]


def test_what_nobody_measures_neither_fires_nor_clears_for_a_while() -> None:
    world = World(default("temperature-high"))
    world.see(device(temperature_c=None))
    assert world.after(60) == []
    world.see(device(temperature_c=90.0))
    world.after(10)
    world.see(device(temperature_c=None))
    assert world.after(299) == []
    assert told(world.after(2)) == ["resolved"]


def test_a_gap_counts_for_a_minute_at_most() -> None:
    """A suspended machine, a clock set forward or back: no evidence for the time between."""
    world = World(rule("memory_percent > 90", **{"for": "2m"}))
    world.see(device(memory_used=95 * GIB))
    world.after(10)
    world.t += 7200
    assert world.after(0) == []
    world.t -= 10_000
    assert world.after(40) == []
    assert told(world.after(10)) == ["firing"]


def test_who_acknowledges_is_told_and_it_still_resolves() -> None:
    world = World(rule("temperature_c > 85"))
    world.see(device(temperature_c=90.0))
    (fired,) = world.after(0)
    (seen,) = world.evaluator.obey(Order("ack", fired.id, "ann", world.t), world.t)
    assert (seen.state, seen.previous, seen.by) == ("acknowledged", "firing", "ann")
    assert world.after(600) == []
    world.see(device(temperature_c=50.0))
    assert told(world.after(1)) == ["resolved"]


def test_a_silence_ends_and_covers_what_comes_meanwhile() -> None:
    world = World(rule("temperature_c > 85"))
    world.see(device(0, temperature_c=90.0))
    world.after(0)
    until = world.t + 100
    order = Order("silence", "r", "ann", world.t, until)
    assert told(world.evaluator.obey(order, world.t)) == ["silenced"]
    world.see(device(0, temperature_c=90.0), device(1, temperature_c=90.0))
    assert told(world.after(50)) == ["silenced"]  # the second GPU, quietly
    assert told(world.after(50)) == ["firing", "firing"]


def test_what_comes_and_goes_is_told_a_few_times_and_then_held() -> None:
    world = World(rule("temperature_c > 85", clear_for="5s"))
    changes = []
    for _ in range(20):
        world.see(device(temperature_c=90.0))
        changes += world.after(10)
        world.see(device(temperature_c=50.0))
        changes += world.after(10)
    assert told(changes).count("firing") == 4
    assert changes[-1].flapping
    assert changes[-1].state == "firing"
    assert told(world.after(900, step=5)) == ["resolved"]


def test_alerts_go_on_where_an_earlier_run_left_them() -> None:
    world = World(default("memory-high"))
    world.see(device(memory_used=95 * GIB))
    world.after(100)
    kept = [dataclasses.replace(a) for a in world.evaluator.alerts.values()]
    world.evaluator = Evaluator([default("memory-high")], world.facts, kept)
    assert told(world.after(19)) == []
    assert told(world.after(1)) == ["firing"]


def test_a_rule_that_was_taken_away_takes_its_alerts_along() -> None:
    world = World(rule("temperature_c > 85"))
    world.see(device(temperature_c=90.0))
    world.after(0)
    world.evaluator = Evaluator([], world.facts, list(world.evaluator.alerts.values()))
    assert told(world.after(0)) == ["resolved"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("out-of-memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB"),
        ("xid", "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus."),
        ("ecc", "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
    ],
)
def test_what_logs_say_raises_an_alert_that_passes(name: str, text: str) -> None:
    world = World(default(name))
    world.after(5)
    for _ in range(3):  # the same failure, told three times at once
        world.log(text)
    changes = world.after(1)
    assert told(changes) == ["firing"]
    assert changes[0].value == 1.0
    assert told(world.after(700, step=5)) == ["resolved"]


def test_jobs_are_watched_for_failure_waiting_and_standing_still() -> None:
    world = World(default("job-failed"), default("queue-old"), default("no-progress"))
    world.job(1, "failed")  # an old failure, told at the engine's start
    assert world.after(1) == []
    world.job(2, "loading")
    world.job(3, "queued", created=world.t)
    world.job(2, "running")
    changes = world.after(130, step=10)
    assert [c.id for c in changes] == ["no-progress-job2"]
    world.job(2, "failed")
    assert "job-failed-job2" in [c.id for c in world.after(1)]
    ids = [(c.id, c.state) for c in world.after(7200, step=30)]
    assert ("queue-old-job3", "firing") in ids
    assert ("job-failed-job2", "resolved") in ids


def test_an_interrupted_job_is_told_until_it_goes_on() -> None:
    world = World(default("job-interrupted"))
    world.job(2, "running")
    world.job(2, "interrupted")
    (told_of,) = world.after(1)
    assert (told_of.id, told_of.state, told_of.job) == ("job-interrupted-job2", "firing", 2)
    world.job(2, "loading")
    assert told(world.after(5)) == ["resolved"]


def test_the_driver_s_own_errors_fire_per_gpu_and_only_when_new() -> None:
    world = World(default("gpu-xid"), default("gpu-ecc"))
    world.see(device(0, xids=2, ecc_uncorrected=5), device(1))
    assert told(world.after(5)) == []  # from before: history, not news; GPU 1 tells nothing
    world.see(device(0, xids=3, xid=79, ecc_uncorrected=5), device(1))
    (changed,) = world.after(2)
    assert (changed.rule, changed.state, changed.value) == ("gpu-xid", "firing", 1.0)
    assert changed.device == device(0).uuid
    world.see(device(0, xids=3, ecc_uncorrected=6), device(1))
    assert [c.rule for c in world.after(2)] == ["gpu-ecc"]

"""When is a job given up, and what is said about it? (B2's two limits, a clock by hand)"""

from __future__ import annotations

import pytest

from engine.guard.limits import END, NONE, Limits, Watch, silent_ranks


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize(
    ("predicted", "allowed"), [(None, 120.0), (0.5, 120.0), (6.0, 120.0), (30.0, 600.0)]
)
def test_B2_a_block_may_take_twenty_times_its_prediction_and_two_minutes_at_least(
    clock, predicted, allowed
):
    watch = Watch(predicted_block=predicted, clock=clock)
    watch.running()
    clock.now += allowed
    assert watch.decide().action == NONE
    clock.now += 0.01
    decision = watch.decide()
    assert (decision.action, decision.limit, decision.allowed) == (END, "block", allowed)
    assert "after loading" in decision.reason
    watch.block()
    assert watch.decide().action == NONE
    clock.now += allowed + 1
    assert "after block 1" in watch.decide().reason


@pytest.mark.parametrize(
    ("external", "predicted", "allowed"),
    [(True, 9000.0, 7200.0), (False, None, 7200.0), (False, 100.0, 7200.0), (False, 9e3, 27e3)],
)
def test_B2_the_wall_clock_knows_that_our_longest_preset_takes_hours(
    clock, external, predicted, allowed
):
    watch = Watch(predicted_total=predicted, external=external, clock=clock)
    clock.now += allowed
    assert watch.decide().action == NONE
    clock.now += 1
    assert (watch.decide().action, watch.decide().limit) == (END, "wall")


def test_loading_and_decoding_owe_no_block(clock):
    watch = Watch(clock=clock)
    clock.now += 3600
    assert watch.decide().action == NONE
    watch.running()
    clock.now += 100
    watch.running()  # told twice: the first counts
    assert watch.due_in() == 20
    watch.decoding()
    clock.now += 1000
    assert watch.decide().action == NONE


def test_a_pause_counts_for_neither_limit(clock):
    watch = Watch(clock=clock)
    watch.running()
    clock.now += 100
    watch.pause()
    watch.pause()
    clock.now += 100_000
    assert watch.decide().action == NONE
    assert watch.due_in() is None
    watch.resume()
    watch.resume()
    assert watch.due_in() == 20
    clock.now += 21
    assert watch.decide().limit == "block"


def test_each_limit_can_be_switched_off(clock):
    watch = Watch(Limits(block_floor=None, wall_floor=None), clock=clock)
    watch.running()
    clock.now += 1e9
    assert watch.decide().action == NONE
    assert watch.due_in() is None
    assert silent_ranks({0: 1e9}, Limits(silence=None)) == {}


def test_the_rank_that_fell_silent_first_is_named_first():
    found = silent_ranks({0: 1.0, 1: 70.0, 2: 90.0})
    assert list(found) == [2, 1]
    assert "rank 2" in found[2]
    assert "90 s" in found[2]


@pytest.mark.parametrize(
    ("value", "block", "silence"),
    [("4", 480.0, 240.0), ("1", 120.0, 60.0), ("-3", 120.0, 60.0), ("nan", 120.0, 60.0),
     ("soon", 120.0, 60.0), ("1e9", 120.0, 60.0)],
)  # fmt: skip
def test_a_job_may_be_given_more_patience_but_no_longer_life(value, block, silence):
    own = Limits().of_job({"AVATOP_PATIENCE": value})
    assert (own.block(None), own.silence) == (block, silence)
    assert own.wall(None, external=True) == Limits().wall(None, external=True)

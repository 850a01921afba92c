"""Whose bytes are these, what was the peak, and which rise is a spike?"""

from __future__ import annotations

import pytest

from engine.ranks.onrank.failure import kind_of
from engine.ranks.onrank.ledger import Ledger, Threshold, Throttle
from engine.ranks.onrank.oom import MemoryCapError, figures, told
from engine.ranks.onrank.probe import CpuProbe
from engine.ranks.protocol import RankSpec

MIB = 2**20


class FakeProbe:
    """A device whose levels the test sets."""

    def __init__(self, *, exact: bool, context: int = 100) -> None:
        self.exact, self.context = exact, context
        self.now = self.high = 0

    def take(self, size: int, *, give_back: bool = False) -> None:
        self.now += size
        self.high = max(self.high, self.now)
        if give_back:
            self.now -= size

    def level(self) -> int:
        return self.now

    def reset_peak(self) -> None:
        self.high = self.now

    def peak(self) -> int:
        return self.high

    def slack(self) -> int:
        return 7 if self.exact else 0

    def outside(self) -> int:
        return 3 if self.exact else 0

    def refresh(self) -> None: ...

    def trim(self) -> None: ...


def test_owners_add_up_to_the_total() -> None:
    probe = FakeProbe(exact=True)
    ledger = Ledger(probe)
    probe.take(60)
    ledger.book("weights", 50)
    assert ledger.by_owner() == {"weights": 50, "context": 100, "slack": 7, "other": 13}
    report = ledger.report()
    assert report["total"] == sum(report["by_owner"].values()) == 170


def test_resident_memory_that_nobody_booked_is_slack_on_a_cpu_rank() -> None:
    probe = FakeProbe(exact=False)
    ledger = Ledger(probe)
    probe.take(60)
    ledger.book("kv", 20)
    assert ledger.by_owner() == {"kv": 20, "context": 100, "slack": 40}


@pytest.mark.parametrize("exact", [True, False])
def test_what_a_window_takes_beyond_the_books_is_activations(exact: bool) -> None:
    probe = FakeProbe(exact=exact)
    ledger = Ledger(probe)
    with ledger.window("tick 0"):
        probe.take(30)
        ledger.add("gathered", 30)
        probe.take(12, give_back=True)
        ledger.add("gathered", -30)
        probe.take(-30)
    assert ledger.peak_by_owner["activations"] == 12
    assert ledger.peak_by_owner["gathered"] == 30
    assert ledger.report()["peak"] >= 100 + 42


def test_peaks_begin_anew_with_every_report_and_stay_for_the_result() -> None:
    ledger = Ledger(FakeProbe(exact=False))
    ledger.book("gathered", 500)
    ledger.book("gathered", 0)
    assert ledger.report()["peak_by_owner"]["gathered"] == 500
    assert "gathered" not in ledger.report()["peak_by_owner"]
    assert ledger.peak_by_owner["gathered"] == 500


def test_the_largest_rise_of_each_owner_above_the_threshold_is_a_spike() -> None:
    ledger = Ledger(FakeProbe(exact=False), Threshold(150, absolute=True))
    ledger.observe("gathered: layer 1", 100, 140, 0.1)
    assert ledger.take_spikes() == []
    ledger.observe("gathered: layer 2", 100, 160, 0.1)
    ledger.observe("gathered: root", 100, 190, 0.2)
    ledger.observe("activations: tick 0", 100, 170, 0.2)
    found = [(s.owner, s.bytes, s.threshold) for s in ledger.take_spikes()]
    assert found == [("gathered: root", 90, 150), ("activations: tick 0", 70, 150)]
    assert ledger.take_spikes() == []


def test_a_plans_threshold_moves_with_what_the_plan_could_only_assume() -> None:
    probe = FakeProbe(exact=False, context=900)
    ledger = Ledger(probe, Threshold(500, predicted_context=400))
    probe.take(50)  # heap that nobody booked
    with ledger.window("tick 0"):
        probe.take(90, give_back=True)
    # 100 bytes were planned above the context; 90 above context and heap are none too many.
    assert not ledger.take_spikes()
    with ledger.window("tick 1"):
        probe.take(110, give_back=True)
    assert ledger.take_spikes()


def test_a_cpu_ranks_probe_sees_memory_come_and_go() -> None:
    probe = CpuProbe()
    before = probe.level()
    probe.reset_peak()
    taken = bytearray(64 * MIB)
    taken[::4096] = b"x" * len(taken[::4096])
    assert probe.level() - before > 48 * MIB
    del taken
    assert probe.peak() - before > 48 * MIB


def test_reports_are_held_to_a_rate_unless_forced() -> None:
    now = [0.0]
    throttle = Throttle(4, clock=lambda: now[0])
    assert throttle.due()
    assert not throttle.due()
    assert throttle.due(force=True)
    now[0] = 0.3
    assert throttle.due()


def test_a_cap_ends_what_holds_more_and_says_what_holds_it() -> None:
    ledger = Ledger(FakeProbe(exact=False), cap=100)
    ledger.book("weights", 60)
    ledger.add("kv", 40)
    with pytest.raises(MemoryCapError, match="out of memory") as caught:
        ledger.add("conditioning", 1)
    assert caught.value.held == {"weights": 60, "kv": 40, "conditioning": 1}
    assert kind_of(caught.value) == "oom"


def test_the_figures_of_a_rank_without_memory_are_the_plans_and_the_allocators() -> None:
    planned = {"rank": 1, "predicted_bytes": 2**30, "margin_bytes": 2**20, "by_owner": {"kv": 9}}
    spec = RankSpec(
        job=1, rank=1, world_size=2, device="cpu", backend="gloo", master_addr="", master_port=0,
        request={}, plan={"devices": [{"rank": 0}, planned]}, layout={}, segment_dir="",
        cache_dir="", gpu_memory_cap=2**29,
    )  # fmt: skip
    found = figures(spec, MemoryCapError({"kv": 2**29 + 1}, 2**29))
    assert (found["plan_bytes"], found["cap_bytes"]) == (2**30, 2**29)
    assert found["allocated_bytes"] == 2**29 + 1
    assert found["free_bytes"] is None
    said = told(found)
    assert "the plan said 1.000 GiB" in said
    assert "0.500 GiB in use" in said
    assert "the cap is 0.500 GiB" in said
    assert "n/a free of n/a" in said

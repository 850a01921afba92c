"""Does a console that attaches late see the peaks of the time before it?"""

from __future__ import annotations

from console.machines import Machines
from console.mailbox import Mailbox
from engine.messages import (
    DeviceReading,
    DevicesSampled,
    LedgerUpdated,
    ProcessReading,
    RankChanged,
)
from engine.remote.recent import Recent


def _ledger(t: float, peak: int) -> LedgerUpdated:
    return LedgerUpdated(
        t=t, job=1, rank=0, device="cpu", by_owner={"kv": 1}, peak_by_owner={"kv": peak}, total=1,
        peak=peak,
    )  # fmt: skip


def _sample(t: float, peak: int) -> DevicesSampled:
    reading = DeviceReading(0, "gpu", "u", "nvml", memory_used=1, memory_peak=peak)
    return DevicesSampled(t=t, devices=(reading,))


def test_peaks_survive_the_spacing_and_the_order_is_times() -> None:
    recent = Recent(kept=100, spacing=2)
    for t, peak in ((10.0, 3), (10.5, 9), (11.0, 4), (12.5, 2)):
        recent(_ledger(t, peak))
        recent(_sample(t, peak))
    events = recent.events()
    assert [e.t for e in events] == sorted(e.t for e in events)
    ledgers = [e for e in events if isinstance(e, LedgerUpdated)]
    assert [(e.t, e.peak, e.peak_by_owner["kv"]) for e in ledgers] == [(11.0, 9, 9), (12.5, 2, 2)]
    samples = [e for e in events if isinstance(e, DevicesSampled)]
    assert [e.devices[0].memory_peak for e in samples] == [9, 2]


def test_what_is_too_old_is_forgotten_of_ended_ranks_too() -> None:
    recent = Recent(kept=100, spacing=2)
    recent(_ledger(10.0, 3))
    for t in range(10, 300, 2):
        recent(_sample(float(t), 1))
    events = recent.events()
    assert len(events) <= 51
    assert not [e for e in events if isinstance(e, LedgerUpdated)]


def test_is_the_memory_of_earlier_ranks_still_theirs_for_a_console_that_attaches_late() -> None:
    """On GPUs: what a rank held while it loaded, and what it booked, is no other process's."""

    def sample(t: float, used: int, job: int | None = 1) -> DevicesSampled:
        holder = ProcessReading(7, 0.0, user="op", memory={"u": used}, job=job, rank=0, command="x")
        reading = DeviceReading(0, "gpu", "u", "nvml", memory_used=used, processes=(holder,))
        return DevicesSampled(t=t, devices=(reading,))

    def changed(t: float, phase: str, pid: int = 7) -> RankChanged:
        return RankChanged(
            t=t, job=1, rank=0, pid=pid, device="cuda:0", device_uuid="u", phase=phase
        )

    recent = Recent(kept=100, spacing=2)
    booked = LedgerUpdated(
        t=4.0, job=1, rank=0, device="cuda:0", by_owner={"weights": 90}, peak_by_owner={}, total=90,
        peak=90,
    )  # fmt: skip
    for event in (
        changed(0.0, "spawned"), changed(1.0, "loading"), sample(2.0, 50), booked,
        sample(5.0, 100), changed(6.0, "running"), changed(7.0, "died"),
        changed(8.0, "spawned", 8), changed(9.0, "ended", 8),  # another attempt
        sample(11.0, 80, job=None),  # it waits for the next job, with the weights
    ):  # fmt: skip
        recent(event)
    late, mailbox = Machines(), Mailbox()
    for told in recent.events():
        mailbox.put(told)
    held: dict[float, dict[str, float]] = {}
    for told in mailbox.drain():
        late.take(told)
        if isinstance(told, DevicesSampled):
            level = late.devices["u"].memory.level
            assert level is not None
            held[told.t] = dict(level[1])
    assert held == {
        2.0: {"other": 50}, 5.0: {"weights": 90, "other": 10}, 11.0: {"other": 80}
    }  # fmt: skip

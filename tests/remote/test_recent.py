"""Does a console that attaches late see the peaks of the time before it?"""

from __future__ import annotations

from engine.messages import DeviceReading, DevicesSampled, LedgerUpdated
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

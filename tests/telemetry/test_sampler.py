"""Does the sampler keep spikes, and does it stop when told?"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from engine.messages import DeviceReading, DevicesSampled
from engine.telemetry.sampler import Sampler


@dataclass
class ScriptedSource:
    """A source whose memory follows a script; the second device never answers."""

    levels: list[int]
    name: str = "replay"
    closed: bool = False
    threads: set[str] = field(default_factory=set)

    def _level(self) -> int:
        return self.levels.pop(0) if len(self.levels) > 1 else self.levels[0]

    def memory(self) -> dict[str, int | None]:
        self.threads.add(threading.current_thread().name)
        return {"a": self._level(), "b": None}

    def read(self) -> tuple[DeviceReading, ...]:
        return (
            DeviceReading(0, "first", "a", "replay", memory_used=self._level()),
            DeviceReading(1, "second", "b", "replay", error="lost"),
        )

    def close(self) -> None:
        self.closed = True


def test_a_spike_between_two_readings_is_its_peak():
    sampler = Sampler(ScriptedSource([10, 95, 20, 30, 40, 5]), lambda _: None)
    for _ in range(3):
        sampler.sample_memory()
    first = sampler.read()
    assert (first.devices[0].memory_used, first.devices[0].memory_peak) == (30, 95)
    sampler.sample_memory()
    second = sampler.read()
    assert (second.devices[0].memory_used, second.devices[0].memory_peak) == (5, 40)


def test_a_device_that_does_not_answer_has_no_peak_and_does_not_disturb():
    sample = Sampler(ScriptedSource([1]), lambda _: None).read()
    assert sample.devices[1].memory_peak is None
    assert sample.devices[1].error == "lost"
    assert sample.host_memory_total > sample.host_memory_available > 0


def test_samples_come_from_one_thread_until_stopped():
    source = ScriptedSource([7])
    enough = threading.Event()
    got: list[DevicesSampled] = []

    def on_sample(sample: DevicesSampled) -> None:
        got.append(sample)
        if len(got) == 3:
            enough.set()

    sampler = Sampler(source, on_sample, memory_hz=500, read_seconds=0.01)
    sampler.start()
    assert enough.wait(20)
    sampler.stop()
    count = len(got)
    assert source.closed
    assert source.threads == {"avatop-sampler"}
    assert not any(t.name == "avatop-sampler" for t in threading.enumerate())
    assert len(got) == count


def test_rates_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        Sampler(ScriptedSource([1]), lambda _: None, memory_hz=0)

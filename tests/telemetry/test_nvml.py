"""Are GPUs read truly, each by itself, with None for what a GPU does not tell?"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import ClassVar

import pynvml
import pytest

from engine.telemetry.nvml import NvmlError, NvmlSource, throttle_names
from engine.telemetry.processes import INVALID, UNSEEN

GIB = 1 << 30


class FakeNvml:
    """The driver's answers; names as in pynvml, errors and constants are pynvml's own."""

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.lost: set[int] = set()
        self.unsupported: set[str] = set()
        self.compute: dict[int, list[tuple[int, int | None]]] = {}
        self.graphics: dict[int, list[tuple[int, int | None]]] = {}
        self.shut = False
        self.xids: dict[int, list[int]] = {}
        self.sets: set[str] = set()

    def nvmlEventSetCreate(self) -> str:
        name = f"set {len(self.sets)}"
        self.sets.add(name)
        self._of = getattr(self, "_of", {})
        return name

    def nvmlDeviceRegisterEvents(self, index: int, kinds: int, events: str) -> None:
        self._of[events] = index

    def nvmlEventSetWait_v2(self, events: str, timeout: int) -> SimpleNamespace:
        waiting = self.xids.get(self._of[events])
        if not waiting:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return SimpleNamespace(eventType=8, eventData=waiting.pop(0))

    def nvmlEventSetFree(self, events: str) -> None:
        self.sets.discard(events)

    def __getattr__(self, name: str):
        if name.startswith(("NVML", "nvmlMemory_v2", "nvmlEventType")):
            return getattr(pynvml, name)
        if name not in self.ANSWERS:
            raise AttributeError(name)

        def call(index: int, *_: object, **__: object):
            if index in self.lost:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            if name in self.unsupported:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return self.ANSWERS[name](self, index)

        return call

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None:
        self.shut = True

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    ANSWERS: ClassVar = {
        "nvmlDeviceGetHandleByIndex": lambda self, i: i,
        "nvmlDeviceGetUUID": lambda self, i: f"GPU-{i}",
        "nvmlDeviceGetName": lambda self, i: b"NVIDIA H200",
        "nvmlDeviceGetTemperatureThreshold": lambda self, i: 87,
        "nvmlDeviceGetMemoryInfo": lambda self, i: SimpleNamespace(
            total=141 * GIB, used=(i + 1) * GIB
        ),
        "nvmlDeviceGetTemperature": lambda self, i: 40 + i,
        "nvmlDeviceGetUtilizationRates": lambda self, i: SimpleNamespace(gpu=50, memory=9),
        "nvmlDeviceGetPowerUsage": lambda self, i: 123_456,
        "nvmlDeviceGetEnforcedPowerLimit": lambda self, i: 700_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda self, i: 1 | 4 | 64,
        "nvmlDeviceGetComputeRunningProcesses": lambda self, i: entries(self.compute.get(i)),
        "nvmlDeviceGetGraphicsRunningProcesses": lambda self, i: entries(self.graphics.get(i)),
        "nvmlDeviceGetMPSComputeRunningProcesses": lambda self, i: [],
        "nvmlDeviceGetSupportedEventTypes": lambda self, i: 8 | 1,
        "nvmlDeviceGetTotalEccErrors": lambda self, i: 3 * i,
    }


def entries(pairs):
    return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in pairs or ()]


def test_a_gpu_is_read_in_the_units_of_the_vocabulary():
    first, second = NvmlSource(FakeNvml()).read()
    assert (first.index, first.uuid, first.name) == (0, "GPU-0", "NVIDIA H200")
    assert (second.memory_used, second.memory_total) == (2 * GIB, 141 * GIB)
    assert (second.temperature_c, second.temperature_limit_c) == (41.0, 87.0)
    assert (first.power_w, first.power_limit_w) == (123.456, 700.0)
    assert first.utilization == 50.0
    assert first.throttle == ("power cap", "hardware thermal")
    assert first.error is None


def test_a_lost_gpu_tells_its_error_and_the_others_are_read():
    nvml = FakeNvml()
    source = NvmlSource(nvml)
    nvml.lost.add(0)
    first, second = source.read()
    assert "lost" in first.error.lower()
    assert first.uuid == "GPU-0"
    assert first.memory_used is None
    assert second.error is None
    assert second.memory_used == 2 * GIB
    assert source.memory() == {"GPU-0": None, "GPU-1": 2 * GIB}
    nvml.lost.clear()
    assert [r.error for r in source.read()] == [None, None]


def test_a_gpu_lost_before_the_start_is_still_listed():
    nvml = FakeNvml()
    nvml.lost.add(1)
    readings = NvmlSource(nvml).read()
    assert readings[0].error is None
    assert readings[1].index == 1
    assert readings[1].error


def test_what_a_gpu_does_not_tell_is_none_and_not_zero():
    nvml = FakeNvml(1)
    nvml.unsupported = {
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetComputeRunningProcesses",
    }
    (reading,) = NvmlSource(nvml).read()
    assert reading.temperature_c is None
    assert reading.utilization is None
    assert reading.power_w is None
    assert reading.error is None
    assert reading.memory_used == GIB


def test_holders_are_matched_to_proc_and_doubtful_ones_are_marked():
    nvml = FakeNvml(1)
    dead = 2**22 + 7  # above the kernel's largest PID
    nvml.compute = {0: [(os.getpid(), None), (dead, 5 * GIB), (1, 3), (0, 4)]}
    nvml.graphics = {0: [(os.getpid(), 2 * GIB)]}
    (reading,) = NvmlSource(nvml).read()
    by_pid = {p.pid: p for p in reading.processes}
    assert by_pid[os.getpid()].memory == {"GPU-0": 2 * GIB}
    assert by_pid[os.getpid()].command
    assert by_pid[os.getpid()].started > 0
    assert by_pid[dead].state == UNSEEN
    assert by_pid[dead].memory == {"GPU-0": 5 * GIB}
    assert by_pid[1].state == INVALID
    assert by_pid[0].state == INVALID


def test_a_process_whose_memory_the_driver_hides_has_none():
    nvml = FakeNvml(1)
    nvml.compute = {0: [(os.getpid(), None)]}
    (reading,) = NvmlSource(nvml).read()
    assert reading.processes[0].memory == {"GPU-0": None}


def test_no_gpu_and_no_library_are_told():
    empty = FakeNvml(0)
    with pytest.raises(NvmlError, match="no GPU"):
        NvmlSource(empty)
    assert empty.shut

    class NoDriver(FakeNvml):
        def nvmlInit(self) -> None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    with pytest.raises(NvmlError, match="Driver Not Loaded"):
        NvmlSource(NoDriver())


def test_being_idle_is_no_throttling():
    assert throttle_names(pynvml.nvmlClocksThrottleReasonGpuIdle) == ()
    assert throttle_names(0) == ()


def test_xid_errors_are_counted_per_gpu_and_outlive_its_loss():
    nvml = FakeNvml()
    source = NvmlSource(nvml)
    assert [(r.xid, r.xids) for r in source.read()] == [(None, 0), (None, 0)]
    nvml.xids[0] = [31, 79]
    nvml.lost.add(0)
    first, second = source.read()
    assert (first.xid, first.xids) == (79, 2)
    assert first.error is not None
    assert (second.xid, second.xids, second.error) == (None, 0, None)
    nvml.lost.clear()
    assert [(r.xid, r.xids) for r in source.read()] == [(79, 2), (None, 0)]
    source.close()
    assert nvml.sets == set()


def test_uncorrected_memory_errors_are_told_and_unknown_where_they_are_not():
    nvml = FakeNvml()
    assert [r.ecc_uncorrected for r in NvmlSource(nvml).read()] == [0, 3]
    nvml.unsupported = {"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetSupportedEventTypes"}
    readings = NvmlSource(nvml).read()
    assert [(r.ecc_uncorrected, r.xid, r.xids) for r in readings] == [(None, None, None)] * 2

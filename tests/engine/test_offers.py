"""Which devices does a job get?"""

from __future__ import annotations

import dataclasses
import os

import pytest

from engine import offers as module
from engine.messages import DeviceReading, ProcessReading
from engine.offers import offers, without_waiting
from engine.telemetry.devices import DeviceSelectionError

GIB = 1 << 30


def _gpu(index: int, used: int = 1, error: str | None = None) -> DeviceReading:
    return DeviceReading(
        index=index,
        name="H200",
        uuid=f"GPU-{index}{index}",
        source="nvml",
        memory_total=None if error else 141 * GIB,
        memory_used=None if error else used * GIB,
        error=error,
    )


HOST = DeviceReading(index=0, name="CPU", uuid="host-x", source="host", memory_total=8 * GIB)


@pytest.fixture(autouse=True)
def _cuda_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "torch_is_cpu_only", lambda: False)


def test_without_a_gpu_the_host_s_memory_is_offered() -> None:
    (offer,) = offers([HOST], None, {}, host_total=8, host_available=5)
    assert (offer.device, offer.capacity_bytes, offer.usable_bytes) == ("cpu", 8, 5)


def test_free_memory_is_what_others_leave_and_a_cap_bounds_it() -> None:
    found = offers([_gpu(0), _gpu(1, used=100)], None, {})
    assert [o.device for o in found] == ["cuda:0", "cuda:1"]
    assert [o.usable_bytes for o in found] == [140 * GIB, 41 * GIB]
    found = offers([_gpu(0), _gpu(1, used=100)], None, {}, cap=50 * GIB)
    assert [o.usable_bytes for o in found] == [50 * GIB, 41 * GIB]


def test_ranks_of_one_s_own_that_wait_for_a_job_count_as_gone() -> None:
    def rank(pid: int, doing: str) -> ProcessReading:
        memory = {"GPU-00": 28 * GIB}
        return ProcessReading(
            pid, 1.0, command=f"avatop-rank {doing} --rank 0", memory=dict(memory)
        )

    mine, of_root_or_none = os.getpid(), 2**22 + 5
    held = (rank(mine, "--warm --after 7"), rank(mine, "--job 8"), rank(of_root_or_none, "--warm"))
    busy = dataclasses.replace(_gpu(0, used=90), processes=held)
    assert without_waiting(busy).memory_used == (90 - 28) * GIB
    assert without_waiting(_gpu(0)) == _gpu(0)


def test_devices_are_chosen_by_index_or_uuid_in_the_order_asked_for() -> None:
    gpus = [_gpu(n) for n in range(4)]
    assert [o.uuid for o in offers(gpus, "2,0", {})] == ["GPU-22", "GPU-00"]
    assert [o.uuid for o in offers(gpus, "GPU-33", {})] == ["GPU-33"]
    assert [o.uuid for o in offers(gpus, None, {"CUDA_VISIBLE_DEVICES": "1,3"})] == [
        "GPU-11",
        "GPU-33",
    ]


def test_cpu_ranks_can_be_asked_for_where_there_are_gpus() -> None:
    assert [o.device for o in offers([_gpu(0)], "cpu", {})] == ["cpu"]
    assert [o.device for o in offers([_gpu(0)], None, {"CUDA_VISIBLE_DEVICES": ""})] == ["cpu"]


def test_a_gpu_that_cannot_be_read_is_left_out() -> None:
    found = offers([_gpu(0, error="lost"), _gpu(1)], None, {})
    assert [o.device for o in found] == ["cuda:1"]


def test_an_absent_device_is_named() -> None:
    with pytest.raises(DeviceSelectionError, match="7"):
        offers([_gpu(0)], "7", {})


def test_a_torch_for_cpu_only_is_told_where_gpus_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "torch_is_cpu_only", lambda: True)
    assert [o.device for o in offers([_gpu(0)], None, {})] == ["cpu"]
    with pytest.raises(DeviceSelectionError, match="CPU only"):
        offers([_gpu(0)], "0", {})

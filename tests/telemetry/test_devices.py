"""Which devices does a run get, and is a mistake in naming them told?"""

from __future__ import annotations

import pytest

from engine.messages import DeviceReading
from engine.telemetry.devices import DeviceSelectionError, select_devices

GPUS = tuple(
    DeviceReading(index, "H200", uuid, "nvml")
    for index, uuid in enumerate(("GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"))
)
HOST = (DeviceReading(0, "a CPU", "host-x", "host"),)


def chosen(gpus: str | None, visible: str | None = None) -> list[int]:
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return [r.index for r in select_devices(GPUS, gpus, env)]


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [
        (None, None, [0, 1, 2, 3]),
        ("0,2", None, [0, 2]),
        ("2, 0", None, [2, 0]),
        ("GPU-bb33", None, [2]),
        ("gpu-b,1", None, [2, 1]),
        (None, "3,1", [3, 1]),
        (None, "GPU-cc44,0", [3, 0]),
        (None, "", []),
        (None, "-1", []),
        (None, "1,9,2", [1]),  # as in CUDA: what names nothing ends the list
        ("1", "3,1", [1]),
    ],
)
def test_devices_are_chosen_by_index_or_uuid_within_what_is_visible(gpus, visible, expected):
    assert chosen(gpus, visible) == expected


@pytest.mark.parametrize(
    ("gpus", "visible", "words"),
    [
        ("7", None, "'7'"),
        ("GPU-zz", None, "'GPU-zz'"),
        ("cuda:0", None, "cuda:0"),
        ("-1", None, "-1"),
        ("GPU-aa", None, "fits 2"),
        ("0,0", None, "twice"),
        ("0,GPU-aa11", None, "twice"),
        ("2", "0,1", "hidden by CUDA_VISIBLE_DEVICES"),
        ("", None, "no device"),
        ("0,", None, "''"),
    ],
)
def test_a_wrong_name_is_told(gpus, visible, words):
    with pytest.raises(DeviceSelectionError, match=words):
        chosen(gpus, visible)


def test_a_host_without_gpus_gives_none_and_refuses_names():
    assert select_devices(HOST, None, {}) == []
    with pytest.raises(DeviceSelectionError, match="no GPU"):
        select_devices(HOST, "0", {})

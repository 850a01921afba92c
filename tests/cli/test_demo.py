"""Does the demo choose what this host can run?"""

from __future__ import annotations

from typing import Any

import pytest

from console.commands import demo as module
from engine import offers as offering
from engine.messages import DeviceReading
from engine.telemetry import devices


class Source:
    name = "nvml"

    def __init__(self, count: int) -> None:
        self._count = count

    def read(self) -> tuple[DeviceReading, ...]:
        return tuple(
            DeviceReading(
                index=n,
                name="H200",
                uuid=f"GPU-{n}",
                source="nvml",
                memory_total=1 << 37,
                memory_used=0,
            )
            for n in range(self._count)
        )

    def memory(self) -> dict[str, int | None]:
        return {}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("count", "gpus", "mode"),
    [
        (0, None, "fsdp"),  # two CPU ranks
        (1, None, "single"),
        (2, None, "fsdp"),
        (8, "3", "single"),
        (8, "cpu", "fsdp"),
        (2, "7", "fsdp"),  # refused later, by the job's own check
    ],
)
def test_the_mode_follows_the_devices(
    count: int, gpus: str | None, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering, "torch_is_cpu_only", lambda: False)
    monkeypatch.setattr(devices, "pick_source", lambda: devices.Picked(Source(count), None))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert module._mode(gpus) == mode


def test_flags_that_place_the_work_are_not_contradicted() -> None:
    for flag in ("single_gpu", "dit_fsdp", "num_gpus_dit"):
        given: dict[str, Any] = {"image": "a", "audio": "b", flag: "1"}
        assert "mode" not in module.sample_flags(given)

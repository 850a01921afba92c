"""What do ``avatop gpus`` and ``avatop ps`` say, for people and for programs?"""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from console.commands import gpus as module
from engine.messages import DeviceReading
from engine.telemetry.devices import Picked
from engine.telemetry.processes import ProcessTable

GIB = 1 << 30


class TwoGpus:
    name = "nvml"

    def memory(self) -> dict[str, int | None]:
        return {}

    def read(self) -> tuple[DeviceReading, ...]:
        ghost = ProcessTable().describe(2**22 + 5)
        return (
            DeviceReading(
                0,
                "NVIDIA H200 \x1b[31m",
                "GPU-0",
                "nvml",
                memory_total=141 * GIB,
                memory_used=3 * GIB,
                temperature_c=41.0,
                utilization=0.0,
                power_w=120.5,
                power_limit_w=700.0,
                throttle=("power cap",),
                processes=(ghost,),
            ),
            DeviceReading(1, "NVIDIA H200", "GPU-1", "nvml", error="GPU is lost"),
        )

    def close(self) -> None: ...


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(module, "pick_source", lambda: Picked(TwoGpus(), None))


def run(command, *args: str):
    result = CliRunner().invoke(command, args, catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_gpus_as_json_has_the_contract_s_fields(two_gpus):
    body = json.loads(run(module.gpus, "--json").stdout)
    assert body["source"] == "nvml"
    first, second = body["devices"]
    contract = {
        "index",
        "name",
        "uuid",
        "memory_total",
        "memory_used",
        "temperature_c",
        "utilization",
        "power_w",
        "throttle",
        "processes",
    }
    assert contract <= set(first)
    assert first["throttle"] == ["power cap"]
    assert second["memory_used"] is None
    assert second["error"] == "GPU is lost"


def test_gpus_for_people_shows_absence_as_absence_and_no_escape_codes(two_gpus):
    lines = run(module.gpus).stdout.splitlines()
    assert "3.00 / 141" in lines[1]
    assert "power cap" in lines[1]
    assert "\x1b" not in lines[1]
    assert "n/a" in lines[-1]
    assert "GPU is lost" in lines[-1]


def test_ps_tells_what_is_plainly_wrong(two_gpus):
    body = json.loads(run(module.ps, "--json").stdout)
    ghost = next(p for p in body["processes"] if p["pid"] == 2**22 + 5)
    contract = {"pid", "started", "user", "command", "state", "ppid", "memory", "job", "evidence"}
    assert contract | {"class"} <= set(ghost)
    assert ghost["class"] in ("vanished", "foreign")
    assert "not in /proc" in run(module.ps).stdout


def test_without_a_gpu_the_host_is_the_device_and_the_reason_is_told(monkeypatch):
    from engine.telemetry.host import HostSource

    monkeypatch.setattr(module, "pick_source", lambda: Picked(HostSource(), "no driver"))
    body = json.loads(run(module.gpus, "--json").stdout)
    assert body["source"] == "host"
    assert body["reason"] == "no driver"
    assert body["devices"][0]["power_w"] is None

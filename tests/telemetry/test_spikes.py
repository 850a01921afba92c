"""Are spikes found in the logs that nvidia-smi writes, and is nothing else taken for one?"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from console.cli import avatop
from engine.messages import DeviceReading
from engine.telemetry.csvlog import CsvLogError, csv_lines, moment, read_csv
from engine.telemetry.spikes import find
from tests.console.fake_client import Stage
from tests.e2e.harness import until
from tests.telemetry.recordings import record

GIB, MIB = 1 << 30, 1 << 20
T0 = 1_766_658_622.0


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def curve(hz: float, seconds: float, level: Callable[[float], float], seed: int = 0,
          noise: float = 0.004) -> tuple[list[float], list[int]]:  # fmt: skip
    """GiB over seconds as readings, MiB-grained as nvidia-smi's."""
    draw = random.Random(seed)
    times = [T0 + n / hz for n in range(int(seconds * hz))]
    values = [
        round((level(t - T0) + draw.gauss(0, noise)) * 1024) * MIB if level(t - T0) else 0
        for t in times
    ]
    return times, [max(value, 0) for value in values]


def job(t: float) -> float:
    """Idle, 60 s of loading, a plateau; the weights are freed at the end."""
    if t < 20:
        return 0.4
    return 0.4 + 18.1 * min((t - 20) / 60, 1.0) if t < 280 else 1.2


def with_spikes(
    starts: list[float], seconds: float, rise: float = 4.17
) -> Callable[[float], float]:
    return lambda t: job(t) + (rise if any(s <= t < s + seconds for s in starts) else 0)


@pytest.mark.parametrize("hz", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_load_ramp_and_a_freed_job_are_no_spikes(hz: float, seed: int) -> None:
    times, values = curve(hz, 300, job, seed)
    report = find(times, values)
    assert report is not None
    assert report.spikes == ()
    assert abs(report.baseline - 18.5 * GIB) < 0.1 * GIB


@pytest.mark.parametrize(
    ("hz", "seconds"), [(1.0, 1.0), (2.0, 0.5), (10.0, 0.4), (20.0, 2.0), (1.0, 8.0)]
)
def test_unshard_spikes_on_a_plateau_are_all_found(hz: float, seconds: float) -> None:
    starts = [100.0, 120.0, 141.0, 160.0, 200.0, 250.0]
    times, values = curve(hz, 300, with_spikes(starts, seconds))
    report = find(times, values)
    assert report is not None
    assert [round(rise.start - T0) for rise in report.spikes] == [round(s) for s in starts]
    assert all(abs(rise.bytes - 4.17 * GIB) < 0.05 * GIB for rise in report.spikes)
    assert all(rise.end - rise.start <= seconds for rise in report.spikes)
    assert abs(report.baseline - 18.5 * GIB) < 0.1 * GIB
    assert report.peak == max(values)


def test_small_spikes_every_two_seconds_are_counted() -> None:
    starts = [100.0 + 2 * n for n in range(60)]
    times, values = curve(10, 300, with_spikes(starts, 0.5, rise=0.65))
    report = find(times, values)
    assert report is not None
    assert len(report.spikes) == 60


def test_a_spike_at_the_edge_of_a_ramp_or_before_death_is_found() -> None:
    times, values = curve(2, 300, with_spikes([82.0, 278.0], 1.0))
    report = find(times, values)
    assert report is not None
    assert [round(rise.start - T0) for rise in report.spikes] == [82, 278]


def test_lasting_changes_and_log_edges_are_no_spikes() -> None:
    steps = [(0, 3.0), (40, 20.0), (90, 12.0), (150, 26.0), (200, 2.0)]
    times, values = curve(1, 240, lambda t: [v for s, v in steps if s <= t][-1])
    report = find(times, values)
    assert report is not None
    assert report.spikes == ()


def test_noise_is_no_spike_and_a_threshold_is_obeyed() -> None:
    times, values = curve(5, 200, lambda t: 10.0, noise=0.1)
    report = find(times, values)
    assert report is not None
    assert report.spikes == ()
    times, values = curve(1, 300, with_spikes([120.0], 1.0, rise=1.0))
    low, high = find(times, values, GIB // 2), find(times, values, 2 * GIB)
    assert low is not None
    assert high is not None
    assert (len(low.spikes), len(high.spikes)) == (1, 0)


def test_no_readings_give_no_report_and_few_do_no_harm() -> None:
    assert find([], []) is None
    for count in (1, 2, 3, 4):
        report = find([T0 + n for n in range(count)], [GIB] * count)
        assert report is not None
        assert report.spikes == ()


# -- files ----------------------------------------------------------------------------------------


def rows(heading: str | None, template: str, gpus: int = 2, seconds: int = 120) -> str:
    """A log of ``gpus`` GPUs with one spike of GPU 1 at second 60."""
    lines = [] if heading is None else [heading]
    for n in range(seconds):
        for gpu in range(gpus):
            t = T0 + n + gpu * 0.002
            stamp = (
                time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime(t)) + f".{int(t * 1000) % 1000:03d}"
            )
            used = 18_000 + (4_270 if gpu == 1 and n == 60 else 0) + n % 3
            lines.append(
                template.format(t=stamp, i=gpu, uuid=f"GPU-{gpu:08x}-aaaa-bbbb-cccc-{gpu:012x}",
                                bus=f"00000000:{gpu + 1:02X}:00.0", used=used, util=90 + n % 5)
            )  # fmt: skip
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("heading", "template"),
    [
        ("timestamp, index, memory.used [MiB]", "{t}, {i}, {used} MiB"),
        ("timestamp, index, memory.used [MiB]", "{t}, {i}, {used}"),
        ("timestamp, uuid, memory.used [MiB], memory.total [MiB]",
         "{t}, {uuid}, {used} MiB, 143771 MiB"),
        ("timestamp, name, pci.bus_id, utilization.gpu [%], memory.total [MiB], memory.used [MiB]",
         "{t}, NVIDIA H200, {bus}, {util} %, 143771 MiB, {used} MiB"),
        ("memory.used [MiB], timestamp, gpu_uuid", "{used} MiB, {t}, {uuid}"),
        ("timestamp, memory.used [MiB]", "{t}, {used} MiB"),  # by turns
        (None, "{t}, {i}, {used}"),
        (None, "{t}, {i}, {used} MiB, 143771 MiB"),
        (None, "{t}, {i}, {util}, 143771, {used}"),
        (None, "{t}, {uuid}, {used}"),
        (None, "{t}, {used}"),
    ],
)  # fmt: skip
def test_every_way_nvidia_smi_writes_it_is_read(heading: str | None, template: str) -> None:
    log = read_csv(rows(heading, template))
    assert len(log.devices) == 2
    reports = [find(d.times, d.used) for d in log.devices]
    assert [len(r.spikes) for r in reports if r is not None] == [0, 1]
    second = reports[1]
    assert second is not None
    assert second.spikes[0].bytes in (4_270 * MIB, 4_269 * MIB, 4_271 * MIB)
    assert second.spikes[0].start == pytest.approx(T0 + 60.002, abs=0.002)


def test_what_is_damaged_costs_its_own_line_and_is_told() -> None:
    text = rows("timestamp, index, memory.used [MiB]", "{t}, {i}, {used} MiB")
    lines = text.splitlines()
    lines[10:10] = ["", "timestamp, index, memory.used [MiB]", "2025/12/25 10:30:40.000, 0, [N/A]"]
    lines[30] = lines[30][:18]
    torn = "\ufeff" + "\r\n".join(lines)[:-9]
    log = read_csv(torn)
    assert sum(len(d.times) for d in log.devices) == 240 - 2
    assert {note.split(" ")[0] for note in log.notes} >= {"the", "1"}


@pytest.mark.parametrize("text", ["", "\n\n", "hello\n", "timestamp, index\n1, 2\n",
                                  "timestamp, memory.used [MiB]\n1, [N/A]\n",
                                  "x" * 200_000])  # fmt: skip
def test_what_is_no_log_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(CsvLogError):
        read_csv(text)


def test_columns_can_be_named_for_a_file_without_heading() -> None:
    text = rows(None, "{t}, {i}, {util}, {used}, 99999")
    log = read_csv(text, ["timestamp", "index", "utilization.gpu", "memory.used", "memory.free"])
    assert [max(d.used) // MIB for d in log.devices] == [18_002, 22_270]


def test_times_are_read() -> None:
    assert moment("2025/12/25 10:30:22.123") == pytest.approx(T0 + 0.123)
    assert moment("2025-12-25T10:30:22Z") == T0
    assert moment("2025/13/25 10:30:22.123") is None
    assert moment("soon") is None


def test_what_we_write_is_nvidia_smi_s_form_and_reads_back() -> None:
    reading = DeviceReading(index=0, name="NVIDIA H200", uuid="GPU-1", source="nvml",
                            memory_total=143_771 * MIB, memory_used=18_000 * MIB,
                            utilization=97.0, temperature_c=65.0, power_w=398.116)  # fmt: skip
    lines = list(csv_lines([(T0 + 0.123, [reading])]))
    assert lines == [
        "timestamp, index, uuid, memory.used [MiB], memory.total [MiB], utilization.gpu [%], "
        "temperature.gpu, power.draw [W]\n",
        "2025/12/25 10:30:22.123, 0, GPU-1, 18000 MiB, 143771 MiB, 97 %, 65, 398.12 W\n",
    ]
    bare = DeviceReading(index=1, name="x", uuid="GPU-2", source="nvml")
    assert "[N/A], [N/A]" in list(csv_lines([(T0, [bare])]))[1]
    (device,) = read_csv("".join(lines)).devices
    assert (device.times, device.used) == ([T0 + 0.123], [18_000 * MIB])
    with pytest.raises(CsvLogError, match="unknown columns"):
        list(csv_lines([], ["nonsense"]))


def run(*args: str) -> Any:
    return CliRunner().invoke(avatop, list(args))


def test_the_command_tells_baseline_peak_and_spikes(tmp_path: Path) -> None:
    path = tmp_path / "gpu.csv"
    path.write_text(rows("timestamp, index, memory.used [MiB]", "{t}, {i}, {used} MiB"))
    body = json.loads(run("spikes", str(path), "--json").stdout)
    assert [d["device"] for d in body["devices"]] == ["0", "1"]
    assert body["devices"][1]["peak_bytes"] == 22_270 * MIB
    assert abs(body["devices"][1]["baseline_bytes"] - 18_001 * MIB) <= MIB
    assert [sorted(s)[:2] for s in body["devices"][1]["spikes"]] == [["bytes", "end"]]
    assert "1 spike above" in run("spikes", str(path)).output
    missing = run("spikes", str(tmp_path / "none.csv"), "--json")
    assert missing.exit_code == 2


def test_a_recording_s_spikes_are_found_at_the_sampler_s_full_rate(tmp_path: Path) -> None:
    record(tmp_path, Stage(gpus=2), 60, until)
    body = json.loads(run("spikes", str(tmp_path), "--json").stdout)
    assert [len(d["spikes"]) for d in body["devices"]] == [1, 1]  # after the ramp

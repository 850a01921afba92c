"""``avatop spikes``: transient rises of memory in a log of nvidia-smi's, or in a recording."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from console import format as fmt
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput
from console.i18n import n, t
from engine.telemetry import spikes as finding
from engine.telemetry.csvlog import CsvLog, CsvLogError, DeviceLog, read_csv


@click.command(short_help="Find memory spikes in a log or a recording.")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.csv|RECORDING")
@click.option(
    "--columns", metavar="A,B,…", help="nvidia-smi's columns, for a file without heading."
)
@click.option("--threshold", type=float, metavar="GIB", help="Rise that counts; default: by noise.")
@json_option
def spikes(file: Path, columns: str | None, threshold: float | None, as_json: bool) -> None:
    """Tell baseline, peak and spikes of every device in FILE.

    FILE is what nvidia-smi --query-gpu=timestamp,index,memory.used --format=csv -l 1 writes, or a
    recording. A ramp or a lasting change of level is no spike.
    """
    if threshold is not None and threshold <= 0:
        raise BadInput("--threshold: give a number of GiB above 0")
    log = _load(file, [c for c in (columns or "").split(",") if c.strip()])
    least = None if threshold is None else int(threshold * fmt.GIB)
    found = [(d, r) for d in log.devices if (r := finding.find(d.times, d.used, least)) is not None]
    for note in log.notes:
        tell(f"{fmt.inert(str(file))}: {note}")
    if as_json:
        print_json({"devices": [_body(d, r) for d, r in found], "notes": log.notes})
        return
    for device, report in found:
        _print(device, report)


def _load(file: Path, columns: list[str]) -> CsvLog:
    shown = fmt.inert(str(file))
    try:
        if file.is_dir() or file.suffix in (".zip", ".gz", ".ndjson"):
            return _recorded(file)
        return read_csv(file.read_text(encoding="utf-8", errors="replace"), columns or None)
    except OSError as error:
        raise BadInput(f"{shown}: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInput(f"{shown}: {error}") from error


def _recorded(path: Path) -> CsvLog:
    """Devices of a recording, their peaks at the full rate of the sampler."""
    from engine.messages import DevicesSampled
    from engine.telemetry.recording import open_recording

    recording = open_recording(path)
    logs: dict[str, DeviceLog] = {}
    for stamped in recording.events():
        if not isinstance(stamped.event, DevicesSampled):
            continue
        for reading in stamped.event.devices:
            seen = [m for m in (reading.memory_used, reading.memory_peak) if m is not None]
            if seen:
                blank = DeviceLog(str(reading.index), reading.uuid, reading.name)
                log = logs.setdefault(reading.uuid, blank)
                log.times.append(stamped.at)
                log.used.append(max(seen))
    if not logs:
        raise CsvLogError("no reading of memory in this recording")
    return CsvLog(list(logs.values()), list(recording.problems))


def _body(device: DeviceLog, report: finding.Report) -> dict[str, Any]:
    return {
        "device": device.device,
        "uuid": device.uuid,
        "name": device.name,
        "samples": len(device.times),
        "baseline_bytes": report.baseline,
        "peak_bytes": report.peak,
        "threshold_bytes": report.threshold,
        "spikes": [
            {
                "start": rise.start,
                "end": rise.end,
                "bytes": rise.bytes,
                "level_bytes": rise.level,
                "peak_bytes": rise.peak,
            }
            for rise in report.spikes
        ],
    }


def _print(device: DeviceLog, report: finding.Report) -> None:
    name = f" ({fmt.inert(device.name)})" if device.name else ""
    click.echo(
        n("device {device}: baseline {base} GiB, peak {peak} GiB, {count} spike above {limit} GiB",
          "device {device}: baseline {base} GiB, peak {peak} GiB, {count} spikes above {limit} GiB",
          len(report.spikes), device=fmt.inert(device.device) + name,
          base=fmt.gib(report.baseline), peak=fmt.gib(report.peak),
          limit=fmt.gib(report.threshold))
    )  # fmt: skip
    for rise in report.spikes:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(rise.start))
        said = t("+{size} GiB over {level} GiB, {time}", size=fmt.gib(rise.bytes),
                 level=fmt.gib(rise.level), time=fmt.duration(rise.end - rise.start))  # fmt: skip
        click.echo(f"  {stamp}.{int(rise.start * 1000) % 1000:03d}  {said}")

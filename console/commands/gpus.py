"""``avatop gpus`` and ``avatop ps``: one look at devices, and at the processes that matter here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from console.commands.columns import Col, Columns
from console.commands.say import json_option, print_json, tell
from console.format import NA, fit, fit_left, gib, inert, number
from console.i18n import N_, t
from console.spoken import spoken
from engine.messages import DeviceReading
from engine.telemetry.devices import pick_source
from engine.telemetry.processes import Seen, survey

_SETTLE_SECONDS = 0.2
_DEVICES: Final = Columns(
    Col("#", 2, right=True), Col(N_("device"), 28, gap=2), Col(N_("memory GiB"), 15, right=True),
    Col(N_("temp"), 7, right=True), Col(N_("util"), 6, right=True),
    Col(N_("power"), 13, right=True), Col(N_("throttle"), gap=2),
)  # fmt: skip
_PROCESSES: Final = Columns(
    Col(N_("pid"), 8, right=True), Col(N_("user"), 10, gap=2), Col(N_("state"), 14),
    Col(N_("job"), 4, right=True), Col(N_("rank"), 4, right=True),
    Col(N_("memory GiB"), 10, right=True), Col(N_("rss GiB"), 8, right=True),
    Col(N_("command"), gap=2),
)  # fmt: skip


@click.command()
@json_option
def gpus(as_json: bool) -> None:
    """Read every device once; without a GPU, the host."""
    source, reason, devices = _look(settle=True)
    if as_json:
        print_json(
            {
                "source": source,
                "reason": reason,
                "devices": [dataclasses.asdict(d) for d in devices],
            }
        )
        return
    if reason is not None:
        said = t("No GPU readings: {why}. This is the host itself.", why=spoken(reason))
        click.echo(said, err=True)
    click.echo(_DEVICES.head())
    for device in devices:
        click.echo(_device_line(device))
        for process in device.processes:
            held = gib(process.memory.get(device.uuid))
            command = inert(process.command or process.state or "")
            click.echo(f"      {process.pid:>8}  {held:>7} GiB  {fit(command, 60).rstrip()}")


@click.command()
@json_option
def ps(as_json: bool) -> None:
    """List ranks, their server, the engine's process, and every holder of GPU memory."""
    _, _, devices = _look(settle=False)
    found = survey(devices)
    if as_json:
        print_json({"processes": [_process_object(seen) for seen in found]})
        return
    if not found:
        tell(t("No rank, no rank server, and nothing that holds GPU memory."))
        return
    click.echo(_PROCESSES.head())
    for seen in found:
        click.echo(_process_line(seen))
        for line in seen.evidence:
            said = t("{what}: {why}", what=t(seen.kind or ""), why=spoken(line))
            click.echo(f"{'':>10}{said}")


def _look(*, settle: bool) -> tuple[str, str | None, Sequence[DeviceReading]]:
    """(source, why it is not NVML, readings). ``settle``: wait for a load to be counted."""
    picked = pick_source()
    try:
        if settle and picked.source.name == "host":
            time.sleep(_SETTLE_SECONDS)  # the CPU's load is counted between two looks
        return picked.source.name, picked.reason, picked.source.read()
    finally:
        picked.source.close()


def _device_line(device: DeviceReading) -> str:
    memory = f"{gib(device.memory_used)} / {gib(device.memory_total)}"
    temperature = "".join(number(device.temperature_c, " °C"))
    load = "".join(number(device.utilization, " %"))
    power = NA
    if device.power_w is not None:
        power = f"{device.power_w:.0f}"
        power += f" / {device.power_limit_w:.0f} W" if device.power_limit_w is not None else " W"
    tail = device.error or ", ".join(device.throttle)
    name = fit(inert(device.name), 28)
    return _DEVICES.row(
        str(device.index), name, memory, temperature, load, power, inert(spoken(tail))
    )


def _process_object(seen: Seen) -> dict[str, Any]:
    return {
        **dataclasses.asdict(seen.reading),
        "threads": seen.threads,
        "class": seen.kind,
        "evidence": list(seen.evidence),
    }


def _process_line(seen: Seen) -> str:
    reading = seen.reading
    known = [held for held in reading.memory.values() if held is not None]
    memory = gib(sum(known)) if known else NA
    job = "" if reading.job is None else str(reading.job)
    rank = "" if reading.rank is None else str(reading.rank)
    user = fit_left(inert(reading.user or NA), 10)
    state = fit(t(reading.state) if reading.state else NA, 14)
    return _PROCESSES.row(
        str(reading.pid), user, state, job, rank, memory, gib(reading.rss),
        inert(reading.command or NA),
    )  # fmt: skip

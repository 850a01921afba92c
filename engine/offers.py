"""Which devices a job may have: readings, ``--gpus`` and ``CUDA_VISIBLE_DEVICES`` → offers."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from typing import Final

from engine.messages import DeviceReading
from engine.placement.solve import DeviceOffer
from engine.sentence import sentence
from engine.telemetry.devices import DeviceSelectionError, select_devices

#: How the command line of a rank begins that keeps its weights for the next job.
WAITING_TITLE: Final = "avatop-rank --warm"


def offers(
    readings: Sequence[DeviceReading],
    chosen: str | None,
    env: Mapping[str, str],
    *,
    host_total: int | None = None,
    host_available: int | None = None,
    cap: int | None = None,
) -> list[DeviceOffer]:
    """Devices in the order that ranks take them: GPUs, or one offer of the host for CPU ranks.

    Args:
        readings: what the device source sees. chosen: ``--gpus``; ``None`` takes all visible
            GPUs, or the CPU where there is none. env: for ``CUDA_VISIBLE_DEVICES``.
        host_total, host_available: bytes of host memory. cap: the allocator's cap, bytes.

    Raises:
        DeviceSelectionError: a named device is not there, or this torch cannot use GPUs.
    """
    host = DeviceOffer("cpu", None, host_total, host_available)
    if chosen == "cpu":
        return [host]
    healthy = [r for r in readings if r.error is None]
    picked = select_devices(healthy, chosen, env)
    if picked and torch_is_cpu_only():
        if chosen is not None:
            raise DeviceSelectionError(
                sentence(
                    "--gpus {chosen}: the installed torch is built for CPU only; install "
                    "a CUDA build, or use --gpus cpu",
                    chosen=chosen,
                )
            )
        picked = []
    return [_offer(reading, cap) for reading in picked] or [host]


def without_waiting(reading: DeviceReading) -> DeviceReading:
    """A device as it is once ranks of this user that wait for a job have gone: its engine ends
    them where their memory is needed."""
    used = reading.memory_used
    held = sum(
        process.memory.get(reading.uuid) or 0
        for process in reading.processes
        if (process.command or "").startswith(WAITING_TITLE) and _is_mine(process.pid)
    )
    if not held or used is None:
        return reading
    return dataclasses.replace(reading, memory_used=max(0, used - held))


def _is_mine(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()  # noqa: PTH116
    except OSError:
        return False


def torch_is_cpu_only() -> bool:
    """By the version of the installed torch; torch itself is never imported here."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


def _offer(reading: DeviceReading, cap: int | None) -> DeviceOffer:
    usable = None
    if reading.memory_total is not None and reading.memory_used is not None:
        usable = reading.memory_total - reading.memory_used
    if cap is not None:
        usable = cap if usable is None else min(cap, usable)
    return DeviceOffer(
        f"cuda:{reading.index}", reading.uuid, reading.memory_total, usable, name=reading.name
    )

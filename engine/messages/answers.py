"""What the engine answers: replies to commands, and the present state."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from engine.messages.events import (
    AlertChanged,
    Audited,
    BatchChanged,
    CheckpointChanged,
    FindingRaised,
    LedgerUpdated,
    LogLine,
    RankChanged,
    ReleaseChanged,
)
from engine.messages.parts import DeviceReading, JobRow, ProcessClass
from engine.plain import Plain, late_dataclass


@late_dataclass(frozen=True)
class Reply(Plain):
    """The engine's answer to one command."""

    ok: bool
    message: str = ""
    job: int | None = None
    state: str | None = None
    data: dict[str, Any] = field(default_factory=dict)  # what a command was asked to find out


@late_dataclass(frozen=True)
class Snapshot(Plain):
    """Everything a user interface needs to draw its first picture."""

    jobs: tuple[JobRow, ...] = ()
    devices: tuple[DeviceReading, ...] = ()
    ranks: tuple[RankChanged, ...] = ()
    ledgers: tuple[LedgerUpdated, ...] = ()
    plans: dict[int, dict[str, Any]] = field(default_factory=dict)
    logs: tuple[LogLine, ...] = ()
    device_source: str = "host"
    alerts: tuple[AlertChanged, ...] = ()  # with those resolved of late
    findings: tuple[FindingRaised, ...] = ()  # the same
    audits: tuple[Audited, ...] = ()  # the last of them, oldest first
    processes: tuple[ProcessClass, ...] = ()
    leaked: tuple[str, ...] = ()  # as of ``ProcessesSurveyed``
    surveyed: float | None = None  # when processes and leaks were told, in Unix seconds
    batches: tuple[BatchChanged, ...] = ()
    releases: tuple[ReleaseChanged, ...] = ()
    checkpoints: tuple[CheckpointChanged, ...] = ()
    drained: tuple[str, ...] = ()  # uuids of devices that get no new work

"""What passes over the engine's socket: lines of JSON, one object each.

From a client, each with an ``id`` that its answer repeats::

    {"id":1,"do":"hello","v":1,"kind":"console","pid":4711,"read_only":false}
    {"id":2,"do":"subscribe"} {"id":3,"do":"snapshot"} {"id":4,"do":"idle"}
    {"id":5,"do":"command","command":{…Message…}} {"id":6,"do":"prewarm"}
    {"id":7,"do":"detach_consoles"} {"id":8,"do":"status"}

From the engine::

    {"id":5,"answer":{…}}            one per request
    {"event":{…Message…}}            after ``subscribe``, in the order of happening
    {"notice":"overrun"|"detach"}    too slow, attach again; or asked to leave
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from engine.messages import (
    AlertChanged,
    Audited,
    BatchChanged,
    CheckpointChanged,
    DeviceReading,
    DevicesDrained,
    DevicesSampled,
    Event,
    FindingRaised,
    JobChanged,
    LedgerUpdated,
    LogLine,
    MessageError,
    PlanMade,
    ProcessesSurveyed,
    RankChanged,
    ReleaseChanged,
    Snapshot,
    from_dict,
)

VERSION: Final = 1
#: Longest line of a client, bytes: a request of a job is a few KiB.
CLIENT_LINE: Final = 1 << 20
#: Longest line of an engine, bytes: a snapshot with its history is some MiB.
ENGINE_LINE: Final = 64 << 20


class WireError(ValueError):
    """A line that is none of these."""


def encode(body: dict[str, Any]) -> bytes:
    """One line."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """One line's object.

    Raises:
        WireError: it is not one.
    """
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise WireError("not a JSON object")
    return body


def lines(sock: socket.socket, longest: int) -> Iterator[bytes]:
    """Whole lines until the other side ends; blocks.

    Raises:
        WireError: a line is longer than ``longest`` bytes.
        OSError: the connection broke.
    """
    rest = bytearray()
    while chunk := sock.recv(1 << 16):
        begin = len(rest)
        rest += chunk
        while (end := rest.find(b"\n", begin)) >= 0:
            yield bytes(rest[:end])
            del rest[: end + 1]
            begin = 0
        if len(rest) > longest:
            raise WireError(f"a line of more than {longest:,} bytes")


def events_of(snapshot: Snapshot) -> list[Event]:
    """A snapshot told as events: what a console that was cut off has to hear."""
    told: list[Event] = [JobChanged(job=row) for row in snapshot.jobs]
    told += [PlanMade(job=job, plan=plan) for job, plan in snapshot.plans.items()]
    told += [*snapshot.ranks, *snapshot.ledgers, *snapshot.logs]
    if snapshot.devices:
        told.append(DevicesSampled(devices=snapshot.devices))
    told += [*snapshot.alerts, *snapshot.findings, *snapshot.audits]
    told += [*snapshot.batches, *snapshot.releases]
    told += snapshot.checkpoints
    told.append(DevicesDrained(devices=snapshot.drained))
    if snapshot.processes or snapshot.leaked:
        seen = ProcessesSurveyed(processes=snapshot.processes, leaked=snapshot.leaked)
        told.append(seen if snapshot.surveyed is None else replace(seen, t=snapshot.surveyed))
    return told


def snapshot_to_dict(snapshot: Snapshot) -> dict[str, Any]:
    """As JSON: its events, and the source of its devices."""
    return {
        "device_source": snapshot.device_source,
        "events": [event.to_dict() for event in events_of(snapshot)],
    }


def snapshot_from_dict(body: dict[str, Any]) -> Snapshot:
    """The snapshot again. Events of a kind that this version does not know are left out."""
    found: list[Event] = []
    for item in body.get("events", ()):
        event = event_from(item)
        if event is not None:
            found.append(event)
    devices: tuple[DeviceReading, ...] = ()
    for event in found:
        if isinstance(event, DevicesSampled):
            devices = event.devices
    return Snapshot(
        jobs=tuple(e.job for e in found if isinstance(e, JobChanged)),
        devices=devices,
        ranks=tuple(e for e in found if isinstance(e, RankChanged)),
        ledgers=tuple(e for e in found if isinstance(e, LedgerUpdated)),
        plans={e.job: e.plan for e in found if isinstance(e, PlanMade)},
        logs=tuple(e for e in found if isinstance(e, LogLine)),
        device_source=str(body.get("device_source", "host")),
        alerts=tuple(e for e in found if isinstance(e, AlertChanged)),
        findings=tuple(e for e in found if isinstance(e, FindingRaised)),
        audits=tuple(e for e in found if isinstance(e, Audited)),
        processes=tuple(p for e in found if isinstance(e, ProcessesSurveyed) for p in e.processes),
        leaked=tuple(n for e in found if isinstance(e, ProcessesSurveyed) for n in e.leaked),
        surveyed=next((e.t for e in found if isinstance(e, ProcessesSurveyed)), None),
        batches=tuple(e for e in found if isinstance(e, BatchChanged)),
        releases=tuple(e for e in found if isinstance(e, ReleaseChanged)),
        checkpoints=tuple(e for e in found if isinstance(e, CheckpointChanged)),
        drained=tuple(uuid for e in found if isinstance(e, DevicesDrained) for uuid in e.devices),
    )


def event_from(item: Any) -> Event | None:
    """An event; None for what this version does not know (an engine newer than its console)."""
    try:
        message = from_dict(item) if isinstance(item, dict) else None
    except MessageError:
        return None
    return message if isinstance(message, Event) else None

"""What crosses the line between a user interface and the engine: commands in, events out.

Every message is a frozen dataclass that turns into one JSON object and back, so the same types
serve the in-process client, the socket, the flight recorder and replay. The first field of the
JSON is ``type`` (the class name) and ``v`` the version of the vocabulary.

Units: bytes and seconds, unless a name says otherwise. ``t`` is wall-clock time (Unix seconds).
Owners of memory use one vocabulary everywhere, ``OWNERS``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
import types
import typing
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

VERSION: Final = 1

#: Owners of device memory in the order they are stacked and printed (docs/architecture.md).
OWNERS: Final = (
    "weights",
    "gathered",
    "streamed",
    "kv",
    "conditioning",
    "activations",
    "vae",
    "context",
    "slack",
    "other",
    "foreign",
)

#: Job states. queued → preflight → loading → running → decoding → done, or one of the ends.
JOB_STATES: Final = (
    "queued",
    "preflight",
    "loading",
    "running",
    "decoding",
    "paused",
    "done",
    "cancelled",
    "interrupted",
    "failed",
)
LIVE_STATES: Final = frozenset({"preflight", "loading", "running", "decoding"})
END_STATES: Final = frozenset({"done", "cancelled", "interrupted", "failed"})

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class MessageError(ValueError):
    """A line that is not a message of this vocabulary."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base of everything that crosses; subclasses register themselves by name."""

    kinds: ClassVar[dict[str, type[Message]]] = {}
    t: float = field(default_factory=time.time)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Message.kinds[cls.__name__] = cls

    def to_dict(self) -> dict[str, Any]:
        return {"type": type(self).__name__, "v": VERSION, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))


def from_dict(data: dict[str, Any]) -> Message:
    """Rebuild a message. Unknown fields are ignored (a newer writer), missing ones raise.

    Raises:
        MessageError: unknown type, or fields that do not fit.
    """
    kind = Message.kinds.get(str(data.get("type")))
    if kind is None:
        raise MessageError(f"unknown message type {data.get('type')!r}")
    try:
        return typing.cast(Message, _build(kind, data))
    except (TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"malformed {kind.__name__}: {error}") from error


def from_json(line: str | bytes) -> Message:
    """Rebuild a message from one line of newline-delimited JSON."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise MessageError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise MessageError("not a JSON object")
    return from_dict(data)


def _build(cls: type[Any], data: dict[str, Any]) -> Any:
    hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
    return cls(**{k: _convert(hints[k], v) for k, v in data.items() if k in hints})


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    """Types of a class's fields; asked once, because a replay rebuilds thousands of events."""
    kind = typing.cast(type[Any], cls)
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _convert(hint: Any, value: Any) -> Any:
    """Give JSON's lists and objects back their dataclass and tuple types."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not type(None)), value)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(type[Any], hint), value)
    if origin is tuple and isinstance(value, list | tuple):
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item) for item in value)
        return tuple(_convert(a, item) for a, item in zip(args, value, strict=True))
    return value


# ---------------------------------------------------------------------------------------------
# Parts


@dataclass(frozen=True)
class DeviceReading:
    """One device at one moment. ``None`` is "the device does not tell", shown as n/a, never 0."""

    index: int
    name: str
    uuid: str
    source: str  # "nvml" | "host" | "replay"
    memory_total: int | None = None
    memory_used: int | None = None
    memory_peak: int | None = None  # highest seen since the reading before this one
    temperature_c: float | None = None
    temperature_limit_c: float | None = None
    utilization: float | None = None  # percent
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle: tuple[str, ...] = ()
    processes: tuple[ProcessReading, ...] = ()
    error: str | None = None  # why this device could not be read; the others still are


@dataclass(frozen=True)
class ProcessReading:
    """One process that matters here: a rank, its server, or a holder of device memory."""

    pid: int
    started: float
    user: str | None = None
    command: str | None = None
    state: str | None = None
    ppid: int | None = None
    rss: int | None = None
    memory: dict[str, int | None] = field(default_factory=dict)  # device uuid → bytes
    job: int | None = None
    rank: int | None = None


@dataclass(frozen=True)
class JobRow:
    """One line of the job table; also what the store keeps."""

    id: int
    state: str
    mode: str
    size: str  # the snapped size, e.g. "384*256"
    clip: int  # clips committed
    clips: int  # clips asked for or, once known, in the audio
    steps: int = 4
    ranks: int = 1
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    fps: float | None = None  # video frames per second of work, over the last clip
    eta_seconds: float | None = None
    peak_bytes: int | None = None
    spikes: int = 0
    output: str | None = None
    manifest: str | None = None
    error: str | None = None
    request: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UnshardRecord:
    """Weights of one unit gathered to full for one moment of use."""

    unit: str  # "root", "layer 7", "injector 3"
    bytes: int  # unsharded parameter bytes
    transient_bytes: int | None  # peak minus the level before; None where nothing measures it
    started: float
    seconds: float  # of the gather


# ---------------------------------------------------------------------------------------------
# Events: out of the engine


@dataclass(frozen=True, kw_only=True)
class Event(Message):
    """Something happened."""


@dataclass(frozen=True, kw_only=True)
class EngineStarted(Event):
    host: str
    pid: int
    version: str
    device_source: str


@dataclass(frozen=True, kw_only=True)
class EngineStopped(Event):
    reason: str


@dataclass(frozen=True, kw_only=True)
class DevicesSampled(Event):
    devices: tuple[DeviceReading, ...]
    host_memory_total: int | None = None
    host_memory_available: int | None = None


@dataclass(frozen=True, kw_only=True)
class RankChanged(Event):
    """A rank was born, changed its phase, or died."""

    job: int
    rank: int
    pid: int
    device: str  # "cuda:0" or "cpu"
    device_uuid: str | None
    phase: str  # spawned | loading | encoding | running | decoding | idle | ended | died
    role: str = ""  # "step 1-2 of 4", "ghost", "VAE"
    exit_code: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class LedgerUpdated(Event):
    """A rank's memory by owner, with the peaks since its last report."""

    job: int
    rank: int
    device: str
    by_owner: dict[str, int]
    peak_by_owner: dict[str, int]
    total: int
    peak: int
    predicted: int | None = None
    capacity: int | None = None


@dataclass(frozen=True, kw_only=True)
class Unshards(Event):
    """The unshards of one walk through the layers, in order."""

    job: int
    rank: int
    records: tuple[UnshardRecord, ...]


@dataclass(frozen=True, kw_only=True)
class Spike(Event):
    """A transient rise of device memory above the threshold."""

    job: int
    rank: int
    device: str
    owner: str  # e.g. "gathered: layer 7"
    bytes: int  # rise above the level before
    level: int  # bytes before
    peak: int
    threshold: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class JobChanged(Event):
    job: JobRow


@dataclass(frozen=True, kw_only=True)
class PlanMade(Event):
    """The plan a job will run by (``engine.placement.plan.Plan.to_dict``)."""

    job: int
    plan: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepDone(Event):
    """One denoising step of one block ended on a rank; feeds the pipeline strip."""

    job: int
    rank: int
    step: int
    block: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BlockDone(Event):
    """A block is denoised and decoded; carries a small preview for the screen."""

    job: int
    clip: int
    block: int  # counted from 0 over the whole video
    seconds: float
    preview_width: int = 0
    preview_height: int = 0
    preview_rgb: str = ""  # base64 of height*width*3 bytes, the block's last frame


@dataclass(frozen=True, kw_only=True)
class ClipCommitted(Event):
    """A clip is on disk, renamed into place and in the manifest: it survives anything now."""

    job: int
    clip: int
    frames: int
    seconds: float
    fps: float
    path: str


@dataclass(frozen=True, kw_only=True)
class LogLine(Event):
    level: str
    source: str  # "engine" | "rank" | "console" | a program's name
    text: str  # one line, untrusted: never interpreted as markup or escape codes
    job: int | None = None
    rank: int | None = None
    stream: str | None = None  # "stdout" | "stderr" for captured output
    where: str | None = None  # file.py:145


@dataclass(frozen=True, kw_only=True)
class AlertChanged(Event):
    """An alert entered a state: pending, firing, acknowledged, silenced or resolved."""

    id: str  # stable over restarts: the rule and what it is about
    rule: str
    severity: str  # info | warning | critical
    state: str
    previous: str = ""  # the state before; "" for the first
    device: str | None = None  # uuid
    job: int | None = None
    value: float | None = None  # what was measured, in the rule's unit
    threshold: float | None = None
    message: str = ""
    since: float = 0.0  # wall clock when the condition began to hold
    until: float | None = None  # end of a silence
    by: str | None = None  # who acknowledged or silenced
    flapping: bool = False  # came and went so often that only the last coming is told
    labels: dict[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------
# Commands: into the engine


@dataclass(frozen=True, kw_only=True)
class Command(Message):
    """Something is asked of the engine."""


@dataclass(frozen=True, kw_only=True)
class Submit(Command):
    """Queue a job. ``request`` is ``engine.params.Request.to_dict()``."""

    request: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cancel(Command):
    job: int
    reason: str = "cancelled by the operator"


@dataclass(frozen=True, kw_only=True)
class SetSpikeThreshold(Command):
    """Bytes above which a rise is flagged; ``None`` returns to the plan's own threshold."""

    job: int
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class StopEngine(Command):
    """End the engine: at once, or after the clip in progress."""

    after_clip: bool = False


@dataclass(frozen=True)
class Reply:
    """The engine's answer to one command."""

    ok: bool
    message: str = ""
    job: int | None = None
    state: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """Everything a user interface needs to draw its first picture."""

    jobs: tuple[JobRow, ...] = ()
    devices: tuple[DeviceReading, ...] = ()
    ranks: tuple[RankChanged, ...] = ()
    ledgers: tuple[LedgerUpdated, ...] = ()
    plans: dict[int, dict[str, Any]] = field(default_factory=dict)
    logs: tuple[LogLine, ...] = ()
    device_source: str = "host"

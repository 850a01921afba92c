"""Out of the engine: something happened."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from engine.messages.base import Message
from engine.messages.parts import (
    BatchItem,
    DeviceReading,
    GateRow,
    JobRow,
    ProcessClass,
    Remedy,
    UnshardRecord,
)
from engine.plain import late_dataclass


@late_dataclass(frozen=True, kw_only=True, init=False)
class Event(Message):
    """Something happened."""


@late_dataclass(frozen=True, kw_only=True)
class EngineStarted(Event):
    host: str
    pid: int
    version: str
    device_source: str


@late_dataclass(frozen=True, kw_only=True)
class EngineStopped(Event):
    reason: str


@late_dataclass(frozen=True, kw_only=True)
class DevicesSampled(Event):
    devices: tuple[DeviceReading, ...]
    host_memory_total: int | None = None
    host_memory_available: int | None = None


@late_dataclass(frozen=True, kw_only=True)
class RankChanged(Event):
    """A rank was born, changed its phase, or died."""

    SAYS: ClassVar[bool] = True

    job: int
    rank: int
    pid: int
    device: str  # "cuda:0" or "cpu"
    device_uuid: str | None
    phase: str  # spawned | loading | encoding | running | decoding | idle | ended | died
    role: str = ""  # "step 1-2 of 4", "ghost", "VAE"
    exit_code: int | None = None
    reason: str | None = None


@late_dataclass(frozen=True, kw_only=True)
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
    cap: int | None = None  # what the rank may take, where that is less than the capacity


@late_dataclass(frozen=True, kw_only=True)
class Unshards(Event):
    """The unshards of one walk through the layers, in order."""

    job: int
    rank: int
    records: tuple[UnshardRecord, ...]


@late_dataclass(frozen=True, kw_only=True)
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


@late_dataclass(frozen=True, kw_only=True)
class JobChanged(Event):
    SAYS: ClassVar[bool] = True

    job: JobRow


@late_dataclass(frozen=True, kw_only=True)
class PlanMade(Event):
    """The plan a job will run by (``engine.placement.plan.Plan.to_dict``)."""

    SAYS: ClassVar[bool] = True

    job: int
    plan: dict[str, Any]


@late_dataclass(frozen=True, kw_only=True)
class StepDone(Event):
    """One denoising step of one block ended on a rank, or its layers of it did.

    Where a step's layers are cut over ranks each tells its own part. Feeds the pipeline strip.
    """

    job: int
    rank: int
    step: int
    block: int
    seconds: float


@late_dataclass(frozen=True, kw_only=True)
class BlockDone(Event):
    """A block is denoised and decoded; carries a small preview for the screen."""

    job: int
    clip: int
    block: int  # counted from 0 over the whole video
    seconds: float
    rank: int | None = None  # that decoded it
    decode_seconds: float | None = None  # of its device, for decoding it; None: not measured
    preview_width: int = 0
    preview_height: int = 0
    preview_rgb: str = ""  # base64 of height*width*3 bytes, the block's last frame


@late_dataclass(frozen=True, kw_only=True)
class ClipCommitted(Event):
    """A clip is on disk, renamed into place and in the manifest: it survives anything now."""

    job: int
    clip: int
    frames: int
    seconds: float
    fps: float
    path: str


@late_dataclass(frozen=True, kw_only=True)
class LogLine(Event):
    level: str
    source: str  # "engine" | "rank" | "console" | a program's name
    text: str  # one line, untrusted: never interpreted as markup or escape codes
    job: int | None = None
    rank: int | None = None
    stream: str | None = None  # "stdout" | "stderr" for captured output
    where: str | None = None  # file.py:145


@late_dataclass(frozen=True, kw_only=True)
class AlertChanged(Event):
    """An alert entered a state: pending, firing, acknowledged, silenced or resolved."""

    SAYS: ClassVar[bool] = True

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
    remedies: tuple[Remedy, ...] = ()  # what its rule says may be done


@late_dataclass(frozen=True, kw_only=True)
class FindingRaised(Event):
    """Triage says what log lines or a measured state mean, and what may be done."""

    SAYS: ClassVar[bool] = True

    id: str  # stable: the same finding told again replaces the earlier
    finding: str  # a class of docs/triage.md
    severity: str  # advice | warning | error | critical
    cause: str  # one sentence
    role: str = "root"  # root | victim | advice
    job: int | None = None
    rank: int | None = None
    device: str | None = None
    confidence: float = 1.0
    evidence: tuple[str, ...] = ()  # untrusted log lines
    remedies: tuple[Remedy, ...] = ()
    resolved: bool = False
    since: float = 0.0  # of a resolved one: when it was raised; else 0, and ``t`` says it


@late_dataclass(frozen=True, kw_only=True)
class ProcessesSurveyed(Event):
    """Every process that matters here, classified by the reaper."""

    SAYS: ClassVar[bool] = True

    processes: tuple[ProcessClass, ...]
    leaked: tuple[str, ...] = ()  # shared memory and semaphores of dead ranks


@late_dataclass(frozen=True, kw_only=True)
class DevicesDrained(Event):
    """Which devices get no new work; told anew with all of them whenever that changes."""

    devices: tuple[str, ...]  # uuids


@late_dataclass(frozen=True, kw_only=True)
class PlanChanged(Event):
    """A job goes on under another plan: a switch, a resume, a relaunch."""

    SAYS: ClassVar[bool] = True

    job: int
    reason: str  # "switch" | "resume" | "relaunch"
    mode: str
    seconds: float | None = None  # from the last block before to the first one after
    change: str = ""  # what exactly is different, a sentence


@late_dataclass(frozen=True, kw_only=True)
class CheckpointChanged(Event):
    """Files of a checkpoint changed on disk since it was loaded."""

    folder: str
    files: tuple[str, ...]
    jobs: tuple[int, ...] = ()


@late_dataclass(frozen=True, kw_only=True)
class BatchChanged(Event):
    """A batch as a whole, with the items that changed since the event before."""

    SAYS: ClassVar[bool] = True

    batch: str
    name: str
    state: str  # preparing | running | paused | stopped (can be resumed) | done | failed
    total: int
    counts: dict[str, int]  # state of items → number
    lines: int = 1  # rank groups working side by side
    eta_seconds: float | None = None
    started: float | None = None
    report: str | None = None
    note: str = ""
    items: tuple[BatchItem, ...] = ()


@late_dataclass(frozen=True, kw_only=True)
class ReleaseChanged(Event):
    """The present state of a release: stage, share of traffic, gates."""

    SAYS: ClassVar[bool] = True

    release: str  # its digest
    version: str
    role: str  # stable | candidate | withdrawn | retired | known
    state: str  # validating | rolling | paused | promoted | rolled_back | aborted | idle
    stage: str | None = None
    share: float = 0.0  # of new jobs
    gates: tuple[GateRow, ...] = ()
    note: str = ""


@late_dataclass(frozen=True, kw_only=True)
class Audited(Event):
    """Somebody, or a policy, did something that cannot be taken back."""

    SAYS: ClassVar[bool] = True

    action: str  # "reap", "remedy", "rollback" …
    by: str
    target: str
    result: str

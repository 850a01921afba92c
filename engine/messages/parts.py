"""What messages are made of: readings, rows, records."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final

from engine.plain import Plain, late_dataclass


@late_dataclass(frozen=True)
class DeviceReading(Plain):
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
    ecc_uncorrected: int | None = None  # since the driver was loaded
    xid: int | None = None  # the newest of the driver's error codes since the engine began
    xids: int | None = None  # how many there were since then; None where the driver tells none


@late_dataclass(frozen=True)
class ProcessReading(Plain):
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


@late_dataclass(frozen=True)
class JobRow(Plain):
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
    kind: str = "engine"  # "engine": our ranks; "command": an external program
    version: str | None = None  # the release whose weights and parameters it runs by
    attempt: int = 1  # counts relaunches after a fault
    resumable: str | None = None  # "mirror" | "replay": how an interrupted job can go on
    batch: str | None = None  # the batch it is an item of
    position: int | None = None  # in the queue, 0 runs next; None once it has begun
    environment: dict[str, str] = field(default_factory=dict)  # of its ranks alone


@late_dataclass(frozen=True)
class UnshardRecord(Plain):
    """Weights of one unit gathered to full for one moment of use."""

    unit: str  # "root", "layer 7", "injector 3"
    bytes: int  # unsharded parameter bytes
    transient_bytes: int | None  # peak minus the level before; None where nothing measures it
    started: float
    seconds: float  # of the gather


@late_dataclass(frozen=True)
class Remedy(Plain):
    """Something that may be done about a finding; with an ``action`` it is a key's work."""

    id: str
    text: str  # a sentence: what will be done
    action: str | None = None  # relaunch env port reap verify free_disk drain edit log
    changes: dict[str, Any] = field(default_factory=dict)  # exactly what will change
    alters_output: tuple[str, ...] = ()


@late_dataclass(frozen=True)
class ProcessClass(Plain):
    """The reaper's view of one process, with its evidence (docs/zombies.md)."""

    process: ProcessReading
    kind: str
    evidence: tuple[str, ...] = ()
    protected: bool = False  # a live job's own
    next_command: str | None = None  # where the engine itself cannot act
    consent: str = ""  # who may have it ended: policy | yes | named | nobody; "": not told
    children: tuple[int, ...] = ()
    container: str | None = None  # its control group, where it lives in another PID namespace


@late_dataclass(frozen=True)
class BatchItem(Plain):
    """One pair of a batch."""

    key: str  # sha256 over what it is made from (docs/batch.md)
    name: str
    state: str  # waiting | preparing | running | verifying | done | failed | quarantined | alias
    job: int | None = None
    attempts: int = 0
    seconds: float | None = None
    fps: float | None = None
    peak_bytes: int | None = None
    error: str | None = None
    output: str | None = None


#: How the note of a gate begins that decides nothing.
OBSERVED: Final = "observed only"


@late_dataclass(frozen=True)
class GateRow(Plain):
    """One gate of a release: verdicts PASS, FAIL, INCONCLUSIVE, ERROR (docs/release.md)."""

    gate: str
    unit: str
    baseline: float | None
    candidate: float | None
    deviation: float | None  # relative, or in ``unit`` where the gate says so
    low: float | None  # the interval's ends
    high: float | None
    allowed: float | None
    n: int
    verdict: str
    armed: bool
    jobs: tuple[int, ...] = ()
    note: str = ""

    @property
    def observed(self) -> bool:
        """It is told and decides nothing."""
        return self.note.startswith(OBSERVED)

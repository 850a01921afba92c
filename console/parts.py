"""Parts of the console's picture: devices, ranks and panels with their history, frames, lines."""

from __future__ import annotations

from collections import deque
from dataclasses import field
from typing import Final

from console.history import Series
from engine.messages import BlockDone, DeviceReading, LedgerUpdated, RankChanged, Spike, StepDone
from engine.plain import Plain, late_dataclass

SPIKES_KEPT: Final = 512
STEPS_KEPT: Final = 256  # a minute of a stage at four steps a second
DECODES_KEPT: Final = 64  # a block has several steps
GONE: Final = frozenset({"ended", "died"})


@late_dataclass
class LogEntry(Plain):
    """One line of the log pane; ``number`` never repeats."""

    number: int
    t: float
    level: str
    source: str
    text: str
    where: str | None = None
    job: int | None = None
    rank: int | None = None
    stream: str | None = None


@late_dataclass
class Track(Plain):
    """A rank: its last words and its memory over time."""

    job: int
    rank: int
    change: RankChanged | None = None
    ledger: LedgerUpdated | None = None
    allowed: int | None = None  # what its allocator said that it may take, bytes
    memory: Series = field(default_factory=lambda: Series(hold=30.0))
    spikes: deque[Spike] = field(default_factory=lambda: deque(maxlen=SPIKES_KEPT))
    steps: deque[StepDone] = field(default_factory=lambda: deque(maxlen=STEPS_KEPT))
    #: Blocks that it decoded in a time that is known, without their pictures.
    decodes: deque[BlockDone] = field(default_factory=lambda: deque(maxlen=DECODES_KEPT))

    @property
    def step(self) -> StepDone | None:
        """The step that ended last."""
        return self.steps[-1] if self.steps else None

    @property
    def phase(self) -> str | None:
        return self.change.phase if self.change is not None else None

    @property
    def gone(self) -> bool:
        return self.phase in GONE


@late_dataclass
class DeviceTrack(Plain):
    """A device: its last reading and its history."""

    reading: DeviceReading
    memory: Series = field(default_factory=lambda: Series(hold=6.0))
    temperature: Series = field(default_factory=lambda: Series(hold=6.0))
    utilization: Series = field(default_factory=lambda: Series(hold=6.0))


@late_dataclass
class Preview(Plain):
    """The newest decoded frame, as it came."""

    job: int
    clip: int
    block: int
    width: int
    height: int
    rgb: bytes


@late_dataclass(frozen=True)
class Panel(Plain):
    """What one panel of the overview shows: a GPU, a CPU rank, or the host."""

    key: str
    kind: str  # "device" | "rank" | "host"
    name: str
    device: DeviceTrack | None
    tracks: tuple[Track, ...]
    drained: bool = False  # it gets no new work

    @property
    def memory(self) -> Series:
        if self.device is not None:
            return self.device.memory
        return self.tracks[0].memory

    @property
    def used(self) -> int | None:
        if self.device is not None:
            return self.device.reading.memory_used
        track = self.tracks[0]
        if track.gone:
            return 0  # its last report tells what it held
        return track.ledger.total if track.ledger else None

    @property
    def capacity(self) -> int | None:
        if self.device is not None:
            return self.device.reading.memory_total
        ledger = self.tracks[0].ledger
        return ledger.capacity if ledger else None

    @property
    def cap(self) -> int | None:
        """What the ranks here may take together, where that is less than the capacity."""
        caps = [t.allowed or (t.ledger.cap if t.ledger else None) for t in self.tracks]
        known = [cap for cap in caps if cap is not None]
        if not known or len(known) < len(caps):
            return None
        return sum(known) if self.capacity is None or sum(known) < self.capacity else None

    @property
    def predicted(self) -> int | None:
        """The plan's peak for everything of ours on this device."""
        living = [t for t in self.tracks if not t.gone] or self.tracks
        known = [t.ledger.predicted for t in living if t.ledger]
        found = [p for p in known if p is not None]
        return sum(found) if found else None

    @property
    def spikes(self) -> list[Spike]:
        return [spike for track in self.tracks for spike in track.spikes]

    @property
    def phase(self) -> str | None:
        """The most telling phase of the ranks here: died before anything else."""
        phases = [t.change.phase for t in self.tracks if t.change]
        for phase in ("died", "running", "decoding", "encoding", "loading", "spawned"):
            if phase in phases:
                return phase
        return phases[0] if phases else None

    @property
    def role(self) -> str:
        """What the ranks here do, in the plan's words."""
        roles = [t.change.role for t in self.tracks if t.change and t.change.role]
        return " + ".join(dict.fromkeys(roles))

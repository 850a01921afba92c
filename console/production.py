"""What works around single jobs: batches, releases, the processes of the host, checkpoints."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final

from engine.messages import (
    BatchChanged,
    BatchItem,
    CheckpointChanged,
    Event,
    ProcessClass,
    ProcessesSurveyed,
    ReleaseChanged,
    Snapshot,
)
from engine.plain import Plain, late_dataclass

BATCHES: Final = 64
RELEASES: Final = 256
CHECKPOINTS: Final = 64


@late_dataclass
class Batch(Plain):
    """A batch: its newest state, and every item told of so far by name: a mended one gets another
    key."""

    change: BatchChanged
    items: dict[str, BatchItem] = field(default_factory=dict)


class Production:
    """Batches, releases, processes and checkpoints as the engine told them last; bounded."""

    def __init__(self) -> None:
        self.batches: dict[str, Batch] = {}
        self.releases: dict[str, ReleaseChanged] = {}  # by digest
        self.processes: tuple[ProcessClass, ...] = ()
        self.leaked: tuple[str, ...] = ()
        self.surveyed: float | None = None  # when the processes were looked at
        self.checkpoints: dict[str, CheckpointChanged] = {}  # by folder

    def take(self, event: Event) -> set[str]:
        """Take one event in; what it changed, in the words of ``Model.dirty``."""
        match event:
            case BatchChanged():
                batch = self.batches.setdefault(event.batch, Batch(event))
                batch.change = event
                batch.items.update((item.name, item) for item in event.items)
                _bound(self.batches, BATCHES)
                return {"batches"}
            case ReleaseChanged():
                self.releases[event.release] = event
                _bound(self.releases, RELEASES)
                return {"releases"}
            case ProcessesSurveyed():
                self.processes, self.leaked = event.processes, event.leaked
                self.surveyed = event.t
                return {"processes"}
            case CheckpointChanged():
                self.checkpoints[event.folder] = event
                _bound(self.checkpoints, CHECKPOINTS)
                return {"checkpoint"}
            case _:
                return set()

    def take_snapshot(self, snapshot: Snapshot, now: float) -> None:
        for event in (*snapshot.batches, *snapshot.releases, *snapshot.checkpoints):
            self.take(event)
        if (snapshot.processes or snapshot.leaked) and self.surveyed is None:
            self.processes, self.leaked = snapshot.processes, snapshot.leaked
            self.surveyed = now if snapshot.surveyed is None else snapshot.surveyed


def _bound(kept: dict[str, Any], limit: int) -> None:
    while len(kept) > limit:
        del kept[next(iter(kept))]

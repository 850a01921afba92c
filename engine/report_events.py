"""Reports of ranks → events, and what they change in the job's row. Pure bookkeeping, no I/O."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from engine.messages import (
    BlockDone,
    Event,
    JobRow,
    LedgerUpdated,
    LogLine,
    RankChanged,
    Spike,
    StepDone,
    UnshardRecord,
    Unshards,
)
from engine.placement.plan import Plan
from engine.ranks.protocol import DRILL_CAP, Report

#: Blocks over which the time left is estimated: long enough to be calm, short enough to follow.
ETA_BLOCKS: Final = 16

_PROGRESS: Final = {"queued": 0, "preflight": 1, "loading": 2, "running": 3, "decoding": 4}
_STATE_OF_PHASE: Final = {"loading": "loading", "encoding": "loading", "running": "running"}
#: A frame of a traceback: its file's name and line.
_FRAME: Final = re.compile(r'^  File "(?:[^"]*/)?([^"/]+)", line (\d+)', re.MULTILINE)
_AT_REST: Final = frozenset({"decoding", "idle", "ended"})


@dataclass(frozen=True)
class Clip:
    """A segment that a rank finished and the engine has yet to commit."""

    clip: int
    frames: int
    seconds: float
    path: str
    sha256: str
    check: tuple[Any, ...] = ()

    @property
    def fps(self) -> float:
        """Video frames per second of work."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Failure:
    """Why a rank gave up, in its own words. ``kind`` is one of docs/architecture.md's."""

    rank: int
    kind: str
    message: str
    traceback: str


@dataclass
class Tally:
    """What one rank has told so far, kept for the result."""

    device: str
    device_uuid: str | None = None
    device_name: str | None = None
    pid: int = 0
    phase: str = "spawned"
    role: str = ""
    bytes: int = 0  # held now
    peak_bytes: int = 0
    by_owner: dict[str, int] = field(default_factory=dict)  # peak bytes of each owner
    unshard_events: int = 0
    unshard_max_bytes: int = 0
    spikes: int = 0
    result: dict[str, Any] | None = None

    @property
    def unshard_count(self) -> int:
        """Gathers of this rank: its own count, or what was heard of a rank that did not end."""
        return int(self._unshard().get("events", self.unshard_events))

    @property
    def unshard_largest(self) -> int:
        """Unsharded parameter bytes of its largest unit."""
        return int(self._unshard().get("max_bytes", self.unshard_max_bytes))

    def _unshard(self) -> dict[str, Any]:
        return (self.result or {}).get("unshard") or {}


class Progress:
    """Folds the reports of one job's ranks into its row and the events to publish."""

    def __init__(self, row: JobRow, plan: Plan, blocks: int) -> None:
        """``blocks`` is how many blocks the whole job has."""
        self.row = row
        self.plan = plan
        self.blocks = blocks
        self.blocks_done = 0
        self.ranks = [Tally(device=d.device, device_uuid=d.uuid) for d in plan.devices]
        self.failures: list[Failure] = []
        self._peak = 0  # of the ranks before a switch, bytes
        self._block_times: deque[float] = deque(maxlen=ETA_BLOCKS + 1)

    def replan(self, plan: Plan, blocks: int) -> None:
        """Take the plan that the job's next ranks run by; only before their first report."""
        self._peak = self._highest()
        self.plan = plan
        self.blocks = blocks
        self.ranks = [Tally(device=d.device, device_uuid=d.uuid) for d in plan.devices]

    def _highest(self) -> int:
        """The peak of a rank's sum, of the ranks before a switch too."""
        return max([self._peak, *(tally.peak_bytes for tally in self.ranks)])

    @property
    def held_bytes(self) -> dict[str | None, int]:
        """Memory that the ranks hold, by device UUID; None: the host's."""
        held: dict[str | None, int] = {}
        for tally in self.ranks:
            uuid = tally.device_uuid if tally.device.startswith("cuda") else None
            held[uuid] = held.get(uuid, 0) + tally.bytes
        return held

    def change(self, **fields: Any) -> None:
        """Replace fields of the row."""
        self.row = dataclasses.replace(self.row, **fields)

    def apply(self, report: Report) -> list[Event]:
        """Events one report turns into. ``clip`` is the runner's: see ``clip_of``.

        Raises:
            KeyError, TypeError: a report that lacks what its kind must carry.
        """
        handler = getattr(self, f"_on_{report.kind}", None)
        return handler(report) if handler is not None else []

    @staticmethod
    def clip_of(report: Report) -> Clip:
        """The finished segment a ``clip`` report tells of."""
        data = report.data
        return Clip(
            clip=int(data["clip"]),
            frames=int(data["frames"]),
            seconds=float(data["seconds"]),
            path=str(data["path"]),
            sha256=str(data["sha256"]),
            check=tuple(data.get("check") or ()),
        )

    def committed(self, clip: Clip) -> None:
        """Book a clip that is on disk now."""
        self.change(clip=max(self.row.clip, clip.clip + 1), fps=clip.fps)

    def rank_event(self, rank: int, t: float, **fields: Any) -> RankChanged:
        """What the screen shows of one rank now."""
        tally = self.ranks[rank]
        return RankChanged(
            t=t,
            job=self.row.id,
            rank=rank,
            pid=tally.pid,
            device=tally.device,
            device_uuid=tally.device_uuid,
            phase=fields.pop("phase", tally.phase),
            role=tally.role,
            **fields,
        )

    # -- one method per kind of report ---------------------------------------------------------

    def _on_hello(self, report: Report) -> list[Event]:
        tally = self.ranks[report.rank]
        tally.pid = int(report.data["pid"])
        tally.device_name = report.data.get("device_name")
        tally.device_uuid = report.data.get("device_uuid") or tally.device_uuid
        return [self.rank_event(report.rank, report.t)]

    def _on_phase(self, report: Report) -> list[Event]:
        tally = self.ranks[report.rank]
        tally.phase = str(report.data["phase"])
        tally.role = str(report.data.get("role") or tally.role)
        self._advance(self._state_of_phases())
        return [self.rank_event(report.rank, report.t)]

    def _on_log(self, report: Report) -> list[Event]:
        data = report.data
        return [
            LogLine(
                t=report.t,
                level=str(data.get("level", "INFO")),
                source="rank",
                text=str(data.get("text", "")),
                job=self.row.id,
                rank=report.rank,
                stream=data.get("stream"),
                where=data.get("where"),
            )
        ]

    def _on_ledger(self, report: Report) -> list[Event]:
        data, tally = report.data, self.ranks[report.rank]
        device = self.plan.devices[report.rank]
        tally.bytes = int(data["total"])
        tally.peak_bytes = max(tally.peak_bytes, int(data["peak"]))
        for owner, peak in data["peak_by_owner"].items():
            tally.by_owner[owner] = max(tally.by_owner.get(owner, 0), int(peak))
        self.change(peak_bytes=self._highest())
        return [
            LedgerUpdated(
                t=report.t,
                job=self.row.id,
                rank=report.rank,
                device=tally.device,
                by_owner=dict(data["by_owner"]),
                peak_by_owner=dict(data["peak_by_owner"]),
                total=int(data["total"]),
                peak=int(data["peak"]),
                predicted=device.predicted_bytes or None,
                capacity=device.capacity_bytes,
                cap=self._cap(),
            )
        ]

    def _cap(self) -> int | None:
        """What each rank may take: as asked for, or as a drill has it."""
        drill = self.row.environment.get(DRILL_CAP, "")
        caps = [self.row.request.get("gpu_memory_cap"), int(drill) if drill.isdigit() else None]
        return min((cap for cap in caps if cap is not None), default=None)

    def _on_unshards(self, report: Report) -> list[Event]:
        records = tuple(
            UnshardRecord(
                unit=str(r["unit"]),
                bytes=int(r["bytes"]),
                transient_bytes=r.get("transient_bytes"),
                started=float(r["started"]),
                seconds=float(r["seconds"]),
            )
            for r in report.data["records"]
        )
        tally = self.ranks[report.rank]
        tally.unshard_events += len(records)
        tally.unshard_max_bytes = max([tally.unshard_max_bytes, *(r.bytes for r in records)])
        return [Unshards(t=report.t, job=self.row.id, rank=report.rank, records=records)]

    def _on_spike(self, report: Report) -> list[Event]:
        data, tally = report.data, self.ranks[report.rank]
        tally.spikes += 1
        self.change(spikes=self.row.spikes + 1)
        return [
            Spike(
                t=report.t,
                job=self.row.id,
                rank=report.rank,
                device=str(data.get("device") or tally.device),
                owner=str(data["owner"]),
                bytes=int(data["bytes"]),
                level=int(data["level"]),
                peak=int(data["peak"]),
                threshold=int(data["threshold"]),
                seconds=float(data["seconds"]),
            )
        ]

    def _on_step(self, report: Report) -> list[Event]:
        self._advance("running")
        data = report.data
        return [
            StepDone(
                t=report.t,
                job=self.row.id,
                rank=report.rank,
                step=int(data["step"]),
                block=int(data["block"]),
                seconds=float(data["seconds"]),
            )
        ]

    def _on_block(self, report: Report) -> list[Event]:
        data = report.data
        decode = data.get("decode_seconds")
        self.blocks_done = max(self.blocks_done, int(data["block"]) + 1)
        self._block_times.append(report.t)
        self.change(eta_seconds=self._seconds_left())
        return [
            BlockDone(
                t=report.t,
                job=self.row.id,
                clip=int(data["clip"]),
                block=int(data["block"]),
                seconds=float(data["seconds"]),
                rank=report.rank,
                decode_seconds=None if decode is None else float(decode),
                preview_width=int(data.get("preview_width", 0)),
                preview_height=int(data.get("preview_height", 0)),
                preview_rgb=str(data.get("preview_rgb", "")),
            )
        ]

    def _on_result(self, report: Report) -> list[Event]:
        tally = self.ranks[report.rank]
        tally.result = dict(report.data)
        tally.peak_bytes = max(tally.peak_bytes, int(report.data.get("peak_bytes") or 0))
        for owner, peak in (report.data.get("by_owner") or {}).items():
            tally.by_owner[owner] = max(tally.by_owner.get(owner, 0), int(peak))
        self.change(peak_bytes=self._highest() or None)
        return []

    def _on_failed(self, report: Report) -> list[Event]:
        data = report.data
        failure = Failure(
            rank=report.rank,
            kind=str(data.get("kind", "other")),
            message=str(data.get("message", "")),
            traceback=str(data.get("traceback", "")),
        )
        self.failures.append(failure)
        trace = failure.traceback.rstrip()
        if failure.message and trace.endswith(failure.message):  # told once, where it ends
            head = trace[: -len(failure.message)]
            begin, _, start = head.rpartition("\n")
            lines = [("DEBUG", line) for line in begin.splitlines()]
            lines += [("ERROR", line) for line in f"{start}{failure.message}".splitlines()]
        else:
            lines = [("ERROR", failure.message)]
            lines += [("DEBUG", line) for line in failure.traceback.splitlines()]
        frames = _FRAME.findall(trace)
        where = f"{frames[-1][0]}:{frames[-1][1]}" if frames else None
        return [
            LogLine(
                t=report.t,
                level=level,
                source="rank",
                text=line,
                job=self.row.id,
                rank=report.rank,
                where=where,
            )
            for level, line in lines
            if line.strip()
        ]

    # -- what follows from several reports -----------------------------------------------------

    def _state_of_phases(self) -> str:
        phases = [r.phase for r in self.ranks]
        if all(p in _AT_REST for p in phases) and self.blocks_done >= self.blocks:
            return "decoding"
        states = {_STATE_OF_PHASE[p] for p in phases if p in _STATE_OF_PHASE}
        return max(states, key=_PROGRESS.__getitem__, default="queued")

    def _advance(self, state: str) -> None:
        """States only move forward: one rank that still loads does not take the job back."""
        if _PROGRESS.get(state, 0) > _PROGRESS.get(self.row.state, len(_PROGRESS)):
            self.change(state=state)

    def _seconds_left(self) -> float | None:
        times = self._block_times
        if len(times) < 2:
            return None
        pace = (times[-1] - times[0]) / (len(times) - 1)
        if pace < 0:  # the wall clock was set back among them
            return None
        return max(0.0, pace * (self.blocks - self.blocks_done))

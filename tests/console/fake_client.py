"""A scripted engine: keeps what it is sent, plays the events a test gives it.

The events are synthetic. They have the shape of a real engine's; the figures mean nothing.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from engine.messages import (
    BlockDone,
    ClipCommitted,
    Command,
    DeviceReading,
    DevicesSampled,
    EngineStarted,
    Event,
    JobChanged,
    JobRow,
    LedgerUpdated,
    LogLine,
    PlanMade,
    RankChanged,
    Reply,
    Snapshot,
    Spike,
    StepDone,
)

GIB = 1 << 30
T0 = 1_700_000_000.0


class FakeClient:
    """An ``EngineClient`` without an engine."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.sent: list[Command] = []
        self.listeners: list[Callable[[Event], None]] = []
        self.closed = False
        self.prewarmed = 0
        self.reply = Reply(ok=True)
        self._snapshot = snapshot or Snapshot()

    def send(self, command: Command) -> Future[Reply]:
        self.sent.append(command)
        future: Future[Reply] = Future()
        future.set_result(self.reply)
        return future

    def snapshot(self) -> Future[Snapshot]:
        future: Future[Snapshot] = Future()
        future.set_result(self._snapshot)
        return future

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def prewarm(self) -> None:
        self.prewarmed += 1

    def close(self) -> None:
        self.closed = True

    def play(self, events: Iterable[Event]) -> None:
        for event in events:
            for listener in list(self.listeners):
                listener(event)


def job(number: int = 17, state: str = "running", **changes: Any) -> JobRow:
    values: dict[str, Any] = {
        "id": number, "state": state, "mode": "tpp", "size": "704*384", "clip": 12, "clips": 50,
        "ranks": 4, "created": T0 - 600, "started": T0 - 540 if state != "queued" else None,
        "fps": 48.1 if state == "running" else None,
        "eta_seconds": 94.0 if state == "running" else None,
        "peak_bytes": int(66.0 * GIB) if state == "running" else None,
    }  # fmt: skip
    return JobRow(**{**values, **changes})


@dataclass
class Stage:
    """A make-believe host: ``tick(t)`` gives the events of one second."""

    gpus: int = 4
    cpu_ranks: int = 0
    jobs: int = 3
    log_rate: int = 1
    capacity: int = 141 * GIB
    started: float = T0
    job_id: int = 17
    ledger_hz: int = 1
    extra: dict[str, Any] = field(default_factory=dict)

    def opening(self) -> list[Event]:
        events: list[Event] = [
            EngineStarted(host="gpu-srv-07", pid=4000, version="0.1.0", t=self.started,
                          device_source="nvml" if self.gpus else "host")
        ]  # fmt: skip
        count = self.gpus or self.cpu_ranks
        for rank in range(count):
            role = f"step {rank + 1} of {count}" + (" + VAE" if rank == count - 1 else "")
            uuid = f"GPU-{rank:04d}" if self.gpus else None
            events.append(
                RankChanged(job=self.job_id, rank=rank, pid=4711 + rank, device=self._name(rank),
                            device_uuid=uuid, phase="running", role=role, t=self.started)
            )  # fmt: skip
        mode = "tpp" if self.gpus else "fsdp"
        if count:
            events.append(
                JobChanged(job=job(self.job_id, mode=mode, ranks=count, spikes=2), t=self.started)
            )
            events.append(PlanMade(job=self.job_id, t=self.started, plan={
                "vae_rank": count - 1,
                "stages": [{"rank": r} for r in range(count)],
                "devices": [{"rank": r, "predicted_bytes": self._predicted()}
                            for r in range(count)]}))  # fmt: skip
        events += [
            JobChanged(
                job=job(self.job_id + n, "queued", clip=0, clips=100, mode=mode), t=self.started
            )
            for n in range(1, self.jobs)
        ]
        return events

    def _name(self, rank: int) -> str:
        return f"cuda:{rank}" if self.gpus else "cpu"

    def _predicted(self) -> int:
        return int(63.8 * GIB) if self.gpus else int(0.21 * GIB)

    def owners(self, rank: int, t: float) -> dict[str, int]:
        """Memory by owner, breathing a little, the last rank above its plan."""
        scale = 1.0 if self.gpus else 1 / 300
        swing = 0.5 + 0.5 * math.sin((t - self.started) / 9 + rank)
        ramp = min((t - self.started) / 40, 1.0)
        parts = {
            "weights": 30.4 * min(ramp * 2, 1.0),
            "gathered": 0.9 if int(t) % 3 else 0.0,
            "kv": 9.7 * ramp,
            "conditioning": 2.0 * ramp,
            "activations": 6.0 + 3.0 * swing,
            "vae": 4.8 if rank == max(self.gpus or self.cpu_ranks, 1) - 1 else 0.0,
            "context": 0.6 if self.gpus else 0.0,
            "slack": 3.0,
        }
        return {k: int(v * scale * GIB) for k, v in parts.items() if v}

    def tick(self, t: float) -> list[Event]:
        """What happens in the second that ends at ``t``."""
        events: list[Event] = []
        readings = []
        second = int(t - self.started)
        for rank in range(self.gpus or self.cpu_ranks):
            owners = self.owners(rank, t)
            total = sum(owners.values())
            spiky = second % 37 == rank * 5 + 9
            rise = int(total * 0.18) if spiky else int(total * 0.01)
            peaks = {**owners, "activations": owners["activations"] + rise}
            events += [
                LedgerUpdated(job=self.job_id, rank=rank, device=self._name(rank),
                              t=t - 1 + (part + 1) / self.ledger_hz, by_owner=owners,
                              peak_by_owner=peaks, total=total, peak=total + rise,
                              predicted=self._predicted(),
                              capacity=self.capacity if self.gpus else 24 * GIB)
                for part in range(self.ledger_hz)
            ]  # fmt: skip
            if spiky:
                events.append(
                    Spike(job=self.job_id, rank=rank, device=self._name(rank), t=t,
                          owner="gathered: layer 7", bytes=rise, level=total, peak=total + rise,
                          threshold=GIB, seconds=0.26)
                )  # fmt: skip
            events.append(
                StepDone(job=self.job_id, rank=rank, step=rank, block=max(second - rank, 0),
                         seconds=0.26 + 0.004 * rank, t=t)
            )  # fmt: skip
            if self.gpus:
                heat = 71 + rank + 3 * math.sin(t / 30)
                readings.append(
                    DeviceReading(index=rank, name="NVIDIA H200", uuid=f"GPU-{rank:04d}",
                                  source="nvml", memory_total=self.capacity,
                                  memory_used=total + GIB // 2, memory_peak=total + rise,
                                  temperature_c=round(heat), temperature_limit_c=90,
                                  utilization=96 + rank % 4, power_w=398 + 11 * rank,
                                  power_limit_w=700)
                )  # fmt: skip
        if not self.gpus:
            readings.append(
                DeviceReading(index=0, name="AMD EPYC", uuid="host", source="host",
                              memory_total=24 * GIB, memory_used=int(7.3 * GIB), utilization=93)
            )  # fmt: skip
        events.append(
            DevicesSampled(devices=tuple(readings), t=t, host_memory_total=512 * GIB,
                           host_memory_available=400 * GIB)
        )  # fmt: skip
        for n in range(self.log_rate):
            level = "WARNING" if (second + n) % 11 == 10 else "INFO"
            text = (
                "GPU 3 is 2.2 GiB over the plan (activations +2.1), 75 of 141 GiB free"
                if level == "WARNING"
                else f"clip {second // 4} committed, 48 frames, 0.99 s"
            )
            events.append(LogLine(level=level, source="rank", rank=n % 4, text=text, t=t,
                                  where="job.py:145"))  # fmt: skip
        if self.jobs and second % 3 == 0 and (self.gpus or self.cpu_ranks):
            events.append(frame(self.job_id, second // 4, second, t,
                                rank=(self.gpus or self.cpu_ranks) - 1))  # fmt: skip
            mode = "tpp" if self.gpus else "fsdp"
            row = job(self.job_id, mode=mode, ranks=self.gpus or self.cpu_ranks,
                      clip=12 + second // 30, spikes=2,
                      eta_seconds=max(94.0 - second, 1.0))  # fmt: skip
            events.append(JobChanged(job=row, t=t))
            events.append(ClipCommitted(job=self.job_id, clip=11 + second // 30, frames=48,
                                        seconds=0.99, fps=48.1, path="clip.mp4", t=t))  # fmt: skip
        return events

    def history(self, seconds: int) -> list[Event]:
        """The opening and everything up to ``started + seconds``."""
        events = self.opening()
        for second in range(1, seconds + 1):
            events += self.tick(self.started + second)
        return events


def frame(
    job_id: int, clip: int, block: int, t: float, width: int = 96, height: int = 54,
    rank: int | None = None,
) -> BlockDone:  # fmt: skip
    """A drawn portrait: a face before a graded ground, the mouth moving with the block."""
    pixels = bytearray()
    for y in range(height):
        for x in range(width):
            u, v = (x - width / 2) / height, (y - height * 0.55) / height
            mouth = 0.012 + 0.02 * (block % 3)
            if (u / 0.045) ** 2 + ((v - 0.16) / mouth) ** 2 < 1:
                colour = (120, 40, 45)
            elif min((abs(u) - 0.1) ** 2 + (v + 0.05) ** 2, 1) < 0.0008:
                colour = (30, 30, 45)
            elif (u / 0.24) ** 2 + (v / 0.33) ** 2 < 1:
                colour = (224, 178, 150)
            elif (u / 0.29) ** 2 + ((v + 0.06) / 0.37) ** 2 < 1:
                colour = (58, 38, 30)
            elif v > 0.33 and abs(u) < 0.55:
                colour = (50, 70, 110)
            else:
                shade = int(60 + 70 * y / height)
                colour = (shade // 2, shade - 10, shade)
            pixels += bytes(colour)
    text = base64.b64encode(bytes(pixels)).decode()
    return BlockDone(job=job_id, clip=clip, block=block, seconds=0.25, t=t, rank=rank,
                     decode_seconds=None if rank is None else 0.03, preview_width=width,
                     preview_height=height, preview_rgb=text)  # fmt: skip

"""A world for rules to judge: devices, jobs and a clock that tests move."""

from __future__ import annotations

from engine.alerts.evaluate import Evaluator
from engine.alerts.rules import Rule, build, load_rules
from engine.messages import (
    AlertChanged,
    ClipCommitted,
    DeviceReading,
    DevicesSampled,
    JobChanged,
    JobRow,
    LogLine,
)
from engine.metrics.facts import Facts

GIB = 2**30


def rule(when: str, **fields: object) -> Rule:
    """One rule called "r"."""
    body = {"id": "r", "when": when, **fields}
    return build({"r": body})[0]


def default(name: str) -> Rule:
    return next(r for r in load_rules(None) if r.id == name)


def device(index: int = 0, **fields: object) -> DeviceReading:
    values = {"memory_total": 100 * GIB, "memory_used": 10 * GIB, **fields}
    return DeviceReading(index, "H200", f"GPU-{index:08x}-1111", "nvml", **values)  # type: ignore[arg-type]


class World:
    """An evaluator with its facts; ``at`` moves the clock and judges."""

    def __init__(self, *rules: Rule) -> None:
        self.facts = Facts(host="gpu-srv-07", version="1.2")
        self.evaluator = Evaluator(rules, self.facts)
        self.t = 1_000_000.0

    def see(self, *devices: DeviceReading) -> None:
        self.facts.apply(DevicesSampled(t=self.t, devices=devices))

    def job(self, number: int = 1, state: str = "running", **fields: object) -> None:
        row = JobRow(number, state, "single", "64*64", 0, 9, **fields)  # type: ignore[arg-type]
        self.facts.apply(JobChanged(t=self.t, job=row))

    def clip(self, seconds: float, job: int = 1) -> None:
        self.facts.apply(
            ClipCommitted(t=self.t, job=job, clip=0, frames=48, seconds=seconds, fps=1.0, path="x")
        )

    def log(self, text: str, rank: int = 0) -> None:
        self.facts.apply(LogLine(t=self.t, level="ERROR", source="rank", text=text, rank=rank))

    def after(self, seconds: float, step: float = 1.0) -> list[AlertChanged]:
        """Judge each ``step`` until so many seconds have passed."""
        changes, end = self.evaluator.evaluate(self.t), self.t + seconds
        while self.t < end:
            self.t = min(end, self.t + step)
            changes += self.evaluator.evaluate(self.t)
        return changes


def told(changes: list[AlertChanged]) -> list[str]:
    return [change.state for change in changes]

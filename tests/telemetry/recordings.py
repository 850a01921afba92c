"""Recordings for tests: a recorder on clocks that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine.messages import Event
from engine.telemetry.recorder import Limits, Recorder


class Taped:
    """A recorder whose time stands still unless it is moved; what it said is kept."""

    def __init__(self, folder: Path, started: float, **limits: Any) -> None:
        self.t = started
        self.wall = 0.0  # by how much the wall clock was set
        self.said: list[tuple[str, str]] = []
        values: dict[str, Any] = {"flush_seconds": 0.001, "free_bytes": 0, **limits}
        self.recorder = Recorder(
            folder,
            Limits(**values),
            version="0.0.test",
            tell=lambda level, text: self.said.append((level, text)),
            clock=lambda: self.t + self.wall,
            monotonic=lambda: self.t,
        )

    def tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.recorder(event)

    def written(self, until: Callable[[Callable[[], bool]], Any]) -> None:
        """Wait until nothing waits to be written."""
        until(lambda: self.recorder.idle)

    def close(self) -> None:
        self.recorder.close(60.0)


def record(folder: Path, stage: Any, seconds: int, until: Any, **limits: Any) -> list[Event]:
    """Record ``seconds`` of a make-believe host; what was told, in order."""
    taped = Taped(folder, stage.started, **limits)
    told: list[Event] = list(stage.opening())
    taped.tell(told)
    for second in range(1, seconds + 1):
        taped.t = stage.started + second
        events = stage.tick(taped.t)
        told += events
        taped.tell(events)
        if second % 20 == 0:
            taped.written(until)
    taped.close()
    return told

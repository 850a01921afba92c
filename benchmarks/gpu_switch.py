"""A job switched while it runs: how long it stood still each time, and that no clip was lost.

``switched`` runs one job and steers it from a thread, as a console would: after a committed clip it
asks for the next mode. What it tells is read afterwards from the recording of the run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu import environment, run
from engine.jobs.paths import Places
from engine.messages import (
    BlockDone,
    ClipCommitted,
    EngineStopped,
    Event,
    PlanChanged,
    RankChanged,
    Reply,
    Switch,
)
from engine.remote.client import attach
from engine.telemetry.recording import RecordingError, open_recording

#: Seconds between two looks whether the engine of the run answers already.
_POLL: Final = 0.05
_ANSWER_SECONDS: Final = 60.0


def switched(
    ckpt: Path,
    folder: Path,
    name: str,
    flags: tuple[str, ...],
    turns: tuple[Mapping[str, Any], ...],
    *,
    clips: int,
    size: str,
    timeout: float,
) -> dict[str, Any]:
    """Run a job and switch it once by each of ``turns`` (request fields), one after the other.

    Returns what ``benchmarks.gpu.run`` tells, ``switches`` (seconds) and ``clips_lost``.
    """
    with Steerer(Places.of(environment(folder, name)), turns, timeout) as steerer:
        row = run(ckpt, folder, name, *flags, clips=clips, size=size, timeout=timeout)
    asked = [turn.told() for turn in steerer.turns]
    state = Path(environment(folder, name)["AVATOP_STATE_DIR"])
    try:
        events = [s.event for s in open_recording(state / "recordings").events()]
    except (OSError, RecordingError) as error:
        return row | {"switches": asked, "recording": str(error)}
    committed = sorted(e.clip for e in events if isinstance(e, ClipCommitted))
    whole = committed == list(range(clips))
    return row | {
        "switches": [turn.told(events) for turn in steerer.turns],
        "clips_committed": committed,
        "clips_lost": None if "failed" in row else 0 if whole else clips - len(set(committed)),
    }


@dataclass
class Turn:
    """One switch: asked for by ``changes`` at ``asked`` (wall clock)."""

    changes: Mapping[str, Any]
    asked: float | None = None
    answered: float | None = None
    reply: Reply | None = None
    problems: list[str] = field(default_factory=list)

    def told(self, events: list[Event] | None = None) -> dict[str, Any]:
        """In seconds. The clip's end is the last block made before the switch."""
        row: dict[str, Any] = {"changes": dict(self.changes)}
        row["message"] = None if self.reply is None else self.reply.message
        if self.asked is None or self.answered is None or events is None:
            return row | {"problems": self.problems}
        row["until_answer_seconds"] = round(self.answered - self.asked, 2)
        changed = next(
            (e for e in events if isinstance(e, PlanChanged) and e.t >= self.asked), None
        )
        if changed is None:
            return row
        blocks = [e.t for e in events if isinstance(e, BlockDone)]
        ended = max((t for t in blocks if t < changed.t - (changed.seconds or 0) / 2), default=None)
        return row | {
            "mode": changed.mode,
            "from_command_seconds": round(changed.t - self.asked, 2),
            "from_clip_end_seconds": None if changed.seconds is None else round(changed.seconds, 2),
            "blocks_before": sum(t <= (ended or 0) for t in blocks),
            "phases": _phases(events, self.asked, changed.t),
        }


def _phases(events: list[Event], start: float, end: float) -> dict[str, dict[str, float]]:
    """Phase → rank → when it was first told, in seconds since the command."""
    rows: dict[str, dict[str, float]] = {}
    for e in events:
        if isinstance(e, RankChanged) and start <= e.t <= end:
            rows.setdefault(e.phase, {}).setdefault(str(e.rank), round(e.t - start, 2))
    return rows


class Steerer:
    """Asks for the next turn as soon as a clip is committed under the plan before it."""

    def __init__(
        self, places: Places, turns: tuple[Mapping[str, Any], ...], seconds: float
    ) -> None:
        self.turns = [Turn(changes) for changes in turns]
        self._places, self._seconds = places, seconds
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._steer, daemon=True)

    def __enter__(self) -> Steerer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._events.put(None)
        self._thread.join()

    def _steer(self) -> None:
        client = None
        while client is None and not self._over.wait(_POLL):
            try:
                client = attach(self._places)
            except OSError as error:  # it is just beginning to listen
                self.turns[0].problems = [str(error)]
        if client is None:
            return
        try:
            client.subscribe(self._events.put)
            for turn in self.turns:
                if not self._clip():
                    return
                turn.asked = time.time()
                turn.reply = client.send(Switch(job=1, changes=dict(turn.changes))).result(
                    _ANSWER_SECONDS
                )
                turn.answered = time.time()
                if not turn.reply.ok or not self._wait(PlanChanged):
                    return
        except (OSError, LateError) as error:
            turn.problems.append(f"{type(error).__name__}: {error}")
        finally:
            client.close()

    def _clip(self) -> bool:
        return self._wait(ClipCommitted)

    def _wait(self, kind: type[Event]) -> bool:
        """Whether an event of that kind came before the run's end."""
        while not self._over.is_set():
            event = self._events.get()
            if event is None or isinstance(event, EngineStopped):
                return False
            if isinstance(event, kind):
                return True
        return False

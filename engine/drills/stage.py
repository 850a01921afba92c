"""A drill's stage: an engine of its own with a state folder of its own, and all that it says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from engine.drills import leftovers
from engine.drills.report import DrillError
from engine.engine import InProcessClient, start_engine
from engine.guard.identity import Identity, identify
from engine.guard.limits import Limits
from engine.jobs.manifest import LINES
from engine.jobs.paths import Places
from engine.messages import (
    END_STATES,
    BlockDone,
    Command,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    RankChanged,
    Reply,
    Submit,
)
from engine.outcome import read_result
from engine.parameters.request import Request
from engine.sentence import sentence

#: Seconds that one job, or one answer, may take at most.
PATIENCE: Final = 280.0

Wanted = Callable[[Event], bool]


@dataclass(frozen=True)
class Made:
    """What a job came to. ``segments``: SHA-256 of every committed clip, in order."""

    row: JobRow
    result: dict[str, Any]  # as ``avatop run --json`` tells it
    segments: tuple[str, ...]

    @property
    def latents(self) -> str | None:
        """SHA-256 of all latents; None where the job did not come so far."""
        digest = self.result["latents_sha256"]
        return None if digest is None else str(digest)

    @property
    def done(self) -> bool:
        return self.row.state == "done"


class Stage:
    """Use by ``with``; ``leftover_pids`` and ``leftover_shm`` are known once it is left.

    Args:
        folder: where the engine keeps its state; embeddings and kernels stay in the user's cache.
        request: the sample job.
        limits: of the guard; the defaults where not given.
    """

    def __init__(self, folder: Path, request: Request, limits: Limits | None = None) -> None:
        self.places = Places(folder / "state", Places.of().cache)
        self.request = request
        self._limits = limits
        self._heard: list[tuple[float, Event]] = []
        self._more = threading.Condition()
        self._deeds: list[tuple[Wanted, Callable[[Event], None]]] = []
        self._born: set[Identity] = set()
        self._client: InProcessClient | None = None
        self.leftover_pids: list[int] = []
        self.leftover_shm: list[str] = []

    def __enter__(self) -> Self:
        self._shm = leftovers.shared_memory(self.places.state)
        self._client = start_engine(self.places, "drill", self._limits)
        self._client.subscribe(self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._client is not None
        self._born |= leftovers.below()
        self._client.close()
        self.leftover_pids = leftovers.living(self._born)
        self.leftover_shm = leftovers.new_shared_memory(self.places.state, self._shm)
        leftovers.remove_mirrors(self.places.state)

    # -- the engine's thread -------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, RankChanged) and (born := identify(event.pid)) is not None:
            self._born.add(born)
        with self._more:
            due = [pair for pair in self._deeds if pair[0](event)]
            self._deeds = [pair for pair in self._deeds if pair not in due]
        for _, deed in due:
            deed(event)
        with self._more:
            self._heard.append((now, event))
            self._more.notify_all()

    # -- what a drill does ---------------------------------------------------------------------

    def when(self, wanted: Wanted, deed: Callable[[Event], None]) -> None:
        """At the first such event, do something at once, on the engine's thread."""
        with self._more:
            self._deeds.append((wanted, deed))

    def ask(self, command: Command) -> Reply:
        """Send a command and wait for its answer."""
        assert self._client is not None
        return self._client.send(command).result(PATIENCE)

    def submit(self, request: Request | None = None) -> int:
        """Begin the sample job (or another); its number.

        Raises:
            DrillError: it is refused.
        """
        return self.taken(self.ask(Submit(request=(request or self.request).to_dict())))

    @staticmethod
    def taken(reply: Reply) -> int:
        """The job of an answer.

        Raises:
            DrillError: it was refused.
        """
        if not reply.ok or reply.job is None:
            raise DrillError(
                sentence("the sample job was refused: {message}", message=reply.message)
            )
        return reply.job

    def end(self, job: int, since: int = 0) -> Made:
        """Wait for a job's end; ``since`` as of ``mark``."""
        event = self.wait(
            lambda e: isinstance(e, JobChanged) and e.job.id == job and e.job.state in END_STATES,
            since,
        )
        assert isinstance(event, JobChanged)
        self._born |= leftovers.below()
        places = self.places.job(job)
        result = read_result(places, event.job)
        return Made(event.job, result, _segments(places.segments / LINES))

    def undisturbed(self) -> Made:
        """The sample job without a fault.

        Raises:
            DrillError: even so it was not done.
        """
        made = self.end(self.submit())
        if not made.done:
            raise DrillError(
                sentence(
                    "the sample job fails without a fault as well: {error}", error=made.row.error
                )
            )
        return made

    # -- what was heard ------------------------------------------------------------------------

    def mark(self) -> int:
        """A place in what was heard, for ``wait`` and ``find``."""
        with self._more:
            return len(self._heard)

    def wait(self, wanted: Wanted, since: int = 0) -> Event:
        """The first such event from a mark on.

        Raises:
            DrillError: it never came.
        """
        deadline = time.monotonic() + PATIENCE
        with self._more:
            place = since
            while True:
                for _, event in self._heard[place:]:
                    if wanted(event):
                        return event
                place = len(self._heard)
                left = deadline - time.monotonic()
                if left <= 0 or not self._more.wait(left):
                    raise DrillError(
                        sentence(
                            "what was waited for did not happen in {patience:.0f} s",
                            patience=PATIENCE,
                        )
                    )

    def find(self, wanted: Wanted, since: int = 0) -> tuple[float, Event] | None:
        """The first such event that was heard, with its moment (``time.monotonic``)."""
        with self._more:
            return next((pair for pair in self._heard[since:] if wanted(pair[1])), None)

    def rank(self, job: int, rank: int) -> int | None:
        """The PID that a rank of a job was last known by."""
        with self._more:
            pids = [
                event.pid
                for _, event in self._heard
                if isinstance(event, RankChanged) and (event.job, event.rank) == (job, rank)
            ]
        return pids[-1] if pids else None

    def lines(self, job: int, word: str) -> list[str]:
        """Log lines of a job that hold a word."""
        with self._more:
            return [
                event.text
                for _, event in self._heard
                if isinstance(event, LogLine) and event.job == job and word in event.text
            ]

    def next_block(self, job: int, fault: float, *, attempt: bool = True) -> float | None:
        """Seconds from a fault to the next finished block, or else to the job's end.

        Args:
            attempt: of the attempt after the one that the fault struck.
        """
        begun = not attempt
        last: int | None = None
        with self._more:
            heard = list(self._heard)
        for moment, event in heard:
            if isinstance(event, JobChanged) and event.job.id == job:
                begun = begun or (last is not None and event.job.attempt > last)
                last = event.job.attempt
                ended = event.job.state == "done"
            else:
                ended = isinstance(event, BlockDone) and event.job == job
            if begun and ended and moment > fault:
                return round(moment - fault, 3)
        return None


def _segments(lines: Path) -> tuple[str, ...]:
    try:
        events: list[dict[str, Any]] = [json.loads(line) for line in lines.read_text().splitlines()]
    except (OSError, ValueError):
        return ()
    return tuple(str(e["sha256"]) for e in events if e.get("event") == "clip")

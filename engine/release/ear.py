"""What the live jobs of releases tell: error lines and ends, and the hard breaches among them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from engine.geometry import DEFAULT_FPS
from engine.jobs.store import StoreError
from engine.messages import END_STATES, Event, JobChanged, JobRow, LogLine
from engine.release.assign import LIVE, Assigner
from engine.release.conductor import Conductor
from engine.release.gates import CANDIDATE, clip_seconds
from engine.release.guards import hard_breach, hard_words
from engine.release.store import ReleaseStore
from engine.sentence import sentence

if TYPE_CHECKING:
    from engine.release.service import Host

_TEXTS: Final = 50
#: Ends that say nothing of a version: the operator's, or the engine's own.
_NO_FAULT: Final = ("stopped", "the engine ", "asked to")


class Ear:
    """Listens from ``open`` to ``close``, and acts on the engine's loop."""

    def __init__(
        self, host: Host, store: ReleaseStore, assigner: Assigner, conductor: Conductor
    ) -> None:
        self._host, self._store = host, store
        self._assigner, self._conductor = assigner, conductor
        self._texts: dict[int, list[str]] = {}  # error lines of the candidate's live jobs
        self._loop = asyncio.get_running_loop()
        self._end: Callable[[], None] | None = None

    def open(self) -> None:
        """Note the ends that nobody heard, and listen from here on."""
        for one in self._assigner.without_outcome():
            with contextlib.suppress(StoreError):
                self._note_end(self._host.jobs.get(one.job))
        self._end = self._host.bus.subscribe(self.listen)

    def close(self) -> None:
        if self._end is not None:
            self._end()

    def follow(self, row: JobRow) -> None:
        """A job was given its version: what it says counts if it is the candidate's."""
        one = self._assigner.get(row.id)
        if one is not None and (
            (one.purpose == LIVE and one.role == CANDIDATE) or self._watched(one.digest)
        ):
            self._texts.setdefault(row.id, [])

    def listen(self, event: Event) -> None:
        """For every event; only hands on, so that the bus never waits for the disk."""
        line = isinstance(event, LogLine) and event.job in self._texts and event.level == "ERROR"
        if line or (isinstance(event, JobChanged) and event.job.version is not None):
            self._loop.call_soon_threadsafe(self._hear, event)

    def _hear(self, event: Event) -> None:
        match event:
            case LogLine(job=int() as job) if job in self._texts:
                texts = self._texts[job]
                if len(texts) < _TEXTS:
                    texts.append(event.text)
                if (why := hard_words(job, event.text)) is not None:
                    self._hard(job, why)
            case JobChanged():
                row = event.job
                over, why = row.state in END_STATES, None
                if row.id in self._texts and (over or row.state == "queued"):
                    why = hard_breach(row, self._texts[row.id])
                if over:
                    self._note_end(row)
                    self._texts.pop(row.id, None)
                if why is not None:
                    self._hard(row.id, why)
                elif over:
                    self._conductor.consider()
            case _:
                pass

    def _note_end(self, row: JobRow) -> None:
        one = self._assigner.get(row.id)
        if one is None or one.purpose != LIVE or one.outcome is not None:
            return
        ok = row.state == "done" and row.attempt == 1
        error = row.error or ""
        nobody = row.state == "interrupted" and error.startswith(_NO_FAULT)
        if row.state == "cancelled" or nobody:
            return
        if row.state == "done" and row.attempt > 1:
            error = sentence("it took {attempt} attempts", attempt=row.attempt)
        pace = clip_seconds(self._host.measure(row), DEFAULT_FPS) if row.state == "done" else None
        self._assigner.ended(
            row.id,
            {"ok": ok, "state": row.state, "error": None if ok else error or row.state,
             "seconds": pace, "peak_bytes": row.peak_bytes},
        )  # fmt: skip

    def _hard(self, job: int, why: str) -> None:
        """Acted on at once, whatever the stage."""
        one = self._assigner.get(job)
        now = self._store.rollout()
        if one is None or now is None or one.digest != now.candidate:
            return
        if (now.active and one.role == CANDIDATE) or self._watched(one.digest):
            self._conductor.roll_back("policy", why, self._host.settings.hard)

    def _watched(self, digest: str) -> bool:
        """Promoted so recently that a hard breach still goes back by itself."""
        now = self._store.rollout()
        if now is None or now.state != "promoted" or now.candidate != digest or now.ended is None:
            return False
        return self._host.clock() - now.ended < self._host.settings.watch_minutes * 60

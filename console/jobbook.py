"""The jobs as the console knows them: rows, plans, blocks, clips, and what became of each."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections import Counter, deque
from dataclasses import replace
from typing import Any, Final

from console.parts import Preview
from engine.messages import (
    END_STATES,
    LIVE_STATES,
    BlockDone,
    ClipCommitted,
    Event,
    JobChanged,
    JobRow,
    PlanChanged,
    PlanMade,
    Snapshot,
)

JOBS: Final = 5000  # ended jobs beyond this leave, the oldest first
CLIPS: Final = 2000  # clips remembered per job
STORIES: Final = 64  # jobs whose clips and changes of plan are remembered
CHANGES: Final = 64  # changes of plan remembered per job
_FIRST: Final = LIVE_STATES | {"paused"}  # states whose jobs come first
_ENDED_OR_LIVE: Final = LIVE_STATES | END_STATES


class JobBook:
    """Jobs by id with all that belongs to one; bounded."""

    def __init__(self) -> None:
        self.jobs: dict[int, JobRow] = {}
        self.plans: dict[int, dict[str, Any]] = {}  # the newest plan of a job
        self.blocks: dict[int, BlockDone] = {}  # newest block per job, without its picture
        self.clips: dict[int, ClipCommitted] = {}  # newest clip per job
        self.clip_story: dict[int, deque[ClipCommitted]] = {}  # oldest first
        self.plan_story: dict[int, deque[PlanChanged]] = {}
        self.preview: Preview | None = None
        self._rows: list[JobRow] | None = None
        self._counts: Counter[str] | None = None

    def take(self, event: Event) -> set[str]:
        """Take one event in; what it changed, in the words of ``Model.dirty``."""
        match event:
            case JobChanged():
                self.jobs[event.job.id] = event.job
                self._rows = self._counts = None
                if len(self.jobs) > JOBS + JOBS // 10:
                    self._forget()
                return {"jobs", "header", "pipeline"}
            case PlanMade():
                self.plans[event.job] = event.plan
                return {"devices", "header", "pipeline", "jobs", "plans"}
            case PlanChanged():
                self._told(self.plan_story, event.job, CHANGES).append(event)
                return {"jobs", "plans"}
            case BlockDone():
                return self._block(event)
            case ClipCommitted():
                self.clips[event.job] = event
                self._told(self.clip_story, event.job, CLIPS).append(event)
                return {"pipeline", "clips"}
            case _:
                return set()

    def take_snapshot(self, snapshot: Snapshot) -> None:
        self.jobs.update((job.id, job) for job in snapshot.jobs)
        self.plans.update(snapshot.plans)
        self._rows = self._counts = None

    def _block(self, event: BlockDone) -> set[str]:
        self.blocks[event.job] = replace(event, preview_rgb="")
        width, height = event.preview_width, event.preview_height
        if width > 0 and height > 0 and event.preview_rgb:
            try:
                rgb = base64.b64decode(event.preview_rgb, validate=True)
            except (binascii.Error, ValueError):
                rgb = b""
            if len(rgb) == width * height * 3:
                self.preview = Preview(event.job, event.clip, event.block, width, height, rgb)
                return {"pipeline", "preview"}
        return {"pipeline"}

    @staticmethod
    def _told(stories: dict[int, deque[Any]], job: int, limit: int) -> deque[Any]:
        story = stories.get(job)
        if story is None:
            story = stories[job] = deque(maxlen=limit)
            while len(stories) > STORIES:
                del stories[next(iter(stories))]
        return story

    def _forget(self) -> None:
        """The oldest ended jobs leave with all that belongs to them."""
        ended = sorted(job.id for job in self.jobs.values() if job.state in END_STATES)
        for number in ended[: max(len(self.jobs) - JOBS, 0)]:
            of_one: tuple[dict[int, Any], ...] = (
                self.jobs, self.plans, self.blocks, self.clips, self.clip_story, self.plan_story,
            )  # fmt: skip
            for kept in of_one:
                kept.pop(number, None)

    # -- out ---------------------------------------------------------------------------------

    def rows(self) -> list[JobRow]:
        """Live jobs first, then queued ones in their order, then ended ones, newest first.

        The same list until a job changes.
        """

        def place(job: JobRow) -> tuple[int, float, int]:
            if job.state in _FIRST:
                return (0, job.id, 0)
            if job.state not in END_STATES:  # as engine.waiting has them
                return (1, job.id if job.position is None else job.position, job.id)
            return (2, -job.id, 0)

        if self._rows is None:
            self._rows = sorted(self.jobs.values(), key=place)
        return self._rows

    def variant_of(self, job: JobRow) -> str:
        """The variant of its mode that a job runs by: ``ring``; empty for the mode itself."""
        plan = self.plans.get(job.id)
        told = job.request.get("variant") if plan is None else plan.get("variant")
        return str(told or "")

    def counts(self) -> Counter[str]:
        """Jobs in each state."""
        if self._counts is None:
            self._counts = Counter(job.state for job in self.jobs.values())
        return self._counts

    def live(self) -> list[JobRow]:
        first = itertools.takewhile(lambda job: job.state in _FIRST, self.rows())
        return [job for job in first if job.state in LIVE_STATES]

    def queued(self) -> list[JobRow]:
        return [j for j in self.jobs.values() if j.state not in _ENDED_OR_LIVE]

    def current(self) -> JobRow | None:
        """The job the pipeline strip and the header speak of: the newest live one."""
        return max(self.live(), key=lambda job: job.id, default=None)

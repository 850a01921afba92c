"""Decides what becomes of a job after a fault, and says so: policy, next plan, words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.bus import Bus
from engine.messages import JobRow
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.placement.alternatives import title
from engine.preflight import Machine, Prepared
from engine.retry.fault import Fault
from engine.retry.policy import Decision, decide
from engine.retry.replan import Next, next_plan
from engine.sentence import joined, sentence
from engine.telemetry.devices import DeviceSelectionError


@dataclass(frozen=True)
class Again:
    """One more attempt. ``change`` says what differs, in one sentence."""

    request: Request
    environment: dict[str, str]
    attempt: int
    why: str
    change: str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """What changes in the job's row."""
        return {
            "request": self.request.to_dict(),
            "environment": self.environment,
            "attempt": self.attempt,
            "error": None,
        }


class Desk:
    """The engine's loop only.

    Args:
        machine: the host, read after this moment (memory of ended ranks is free again).
    """

    def __init__(self, bus: Bus, machine: Callable[[], Awaitable[Machine]]) -> None:
        self._bus = bus
        self._machine = machine
        self._failed: dict[int, frozenset[str]] = {}  # job → titles of plans that ran out
        # Job → tries since somebody started it: a person's resume is a fresh start.
        self._tries: dict[int, int] = {}

    async def decide(
        self,
        row: JobRow,
        prepared: Prepared,
        fault: Fault,
        measured: Mapping[int, int] | None = None,
    ) -> Again | None:
        """The next attempt of a job, or None; the log says which and why.

        Args:
            measured: rank → the highest bytes it was seen to hold.
        """
        request, tries = prepared.request, self._tries.get(row.id, 1)
        found = decide(
            fault,
            attempt=tries,
            retries=request.retries,
            environment=row.environment,
            nccl=prepared.plan.needs_nccl,
            resumable=row.clip == 0 or row.resumable is not None,
        )
        if found.action == "none":
            self._bus.log("INFO", sentence("not tried again: {why}", why=found.why), row.id)
            return None
        following: Next | None = None
        if found.action == "replan":
            following = await self._following(row, prepared, measured)
            if following is None:
                return None
        again = _again(row, request, found, following)
        self._tries[row.id] = tries + 1
        text = f"attempt {tries + 1} of {request.retries + 1}: {again.why}. {again.change}"
        self._bus.log("WARNING", text, row.id)
        return again

    async def _following(
        self, row: JobRow, prepared: Prepared, measured: Mapping[int, int] | None
    ) -> Next | None:
        tried = self._failed.get(row.id, frozenset()) | {title(prepared.plan)}
        self._failed[row.id] = tried
        # Within one video nothing may change that is seen in it.
        degrade = prepared.request.allow_degrade and row.clip == 0
        try:
            machine = await self._machine()
            found = await asyncio.to_thread(
                next_plan,
                prepared,
                machine,
                degrade=degrade,
                tried=tried,
                measured=measured,
            )
        except (DeviceSelectionError, ParamError, ValueError) as error:
            self._bus.log("WARNING", f"no other plan could be made: {error}", row.id)
            return None
        if found is None:
            hint = "" if degrade else " (--allow_degrade would also try fp8 and smaller frames)"
            if row.clip:
                hint = f" ({row.clip} clips are committed: nothing seen in them may change)"
            text = f"not tried again: no other plan fits that leaves the output as it is{hint}"
            self._bus.log("INFO", text, row.id)
        return found

    def forget(self, job: int) -> None:
        """A job has ended for good."""
        self._failed.pop(job, None)
        self._tries.pop(job, None)


def _again(row: JobRow, request: Request, found: Decision, following: Next | None) -> Again:
    changes = {} if following is None else following.changes
    parts: list[str] = []
    if following is not None:
        seen = ", ".join(following.alters_output)
        parts.append(
            sentence(
                "It goes on as {plan}, {gib:.2f} GiB predicted; {kept}.",
                plan=following.title,
                gib=following.predicted_bytes / 2**30,
                kept=sentence("this changes the output: {what}", what=seen)
                if seen
                else sentence("the output stays as it is"),
            )
        )
    parts += [
        sentence("Its ranks get {name}={value}.", name=name, value=value)
        for name, value in found.environment.items()
    ]
    return Again(
        request=request.replace(**changes) if changes else request,
        environment={**row.environment, **found.environment},
        attempt=row.attempt + 1,
        why=found.why,
        change=joined(parts, " ") if parts else sentence("Nothing else is changed."),
        changes=changes,
    )

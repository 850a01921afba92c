"""Runs jobs of a release through the engine's own client and measures what they did."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.client import EngineClient
from engine.geometry import DEFAULT_FPS
from engine.jobs.manifest import ManifestError, read_manifest
from engine.jobs.paths import Places
from engine.media.findings import MediaError
from engine.messages import END_STATES, Event, JobChanged, JobRow, LogLine, PlanMade, Submit
from engine.outcome import read_result
from engine.parameters.request import DEFAULTS
from engine.release.assign import Assigner, Expected
from engine.release.gates import CANDIDATE, STABLE, Sample, clip_seconds
from engine.release.guards import hard_breach
from engine.release.inputs import FixedInput
from engine.release.model import Release
from engine.release.quality import Likeness
from engine.release.settings import Settings
from engine.sentence import sentence

#: (seconds of work, frames) of each clip of a job.
Measure = Callable[[JobRow], Sequence[tuple[float, int]]]
Compare = Callable[[Path, Path], Likeness]
#: Seconds that the engine may take to check a request.
_CHECK_SECONDS: Final = 600.0
_ABBA: Final = (STABLE, CANDIDATE, CANDIDATE, STABLE)


class HardBreach(Exception):  # noqa: N818 - an end, which is acted on
    """A run went so wrong that no statistics are needed."""


@dataclass(frozen=True)
class Played:
    """One run. ``ready_seconds``: from its start to its first work; None where it never began."""

    row: JobRow | None
    refused: str | None
    ready_seconds: float | None
    plan: Mapping[str, Any] | None
    breach: str | None

    @property
    def ok(self) -> bool:
        """Done at the first attempt: a run that had to be repeated is no good one."""
        return self.row is not None and self.row.state == "done" and self.row.attempt == 1

    @property
    def error(self) -> str | None:
        """Why it is not done; None when it is."""
        if self.ok:
            return None
        if self.row is None:
            return self.refused or "refused"
        if self.row.attempt > 1:
            return sentence("it took {attempt} attempts", attempt=self.row.attempt)
        return self.row.error or self.row.state


def job_clips(places: Places, row: JobRow) -> Sequence[tuple[float, int]]:
    """A job's clips by its manifest, the truth that survives a restart.

    An external program tells no clips: its whole run counts as one, after none that is dropped.
    """
    if row.kind == "command":
        result = read_result(places.job(row.id), row)
        frames, seconds = result.get("frames"), result.get("seconds")
        return ((0.0, 0), (float(seconds), int(frames))) if frames and seconds else ()
    if row.manifest is None:
        return ()
    try:
        manifest = read_manifest(Path(row.manifest).parent)
    except ManifestError:
        return ()
    return [(clip.seconds, clip.frames) for clip in manifest.clips]


class Player:
    """Submits jobs one after the other and waits for their ends. One loop.

    Args:
        folder: where outputs of comparisons go.
        measure, likeness: how a run's clips, and two outputs, are measured.
    """

    def __init__(
        self,
        client: EngineClient,
        assigner: Assigner,
        folder: Path,
        measure: Measure,
        likeness: Compare,
    ) -> None:
        self._client = client
        self._assigner = assigner
        self._folder = folder
        self.measure = measure
        self._likeness = likeness
        self._loop = asyncio.get_running_loop()
        self._names = itertools.count(1)

    def through(self, client: EngineClient) -> Player:
        """The same, by another client."""
        other = Player(client, self._assigner, self._folder, self.measure, self._likeness)
        other._names = self._names
        return other

    async def play(
        self,
        release: Release,
        request: Mapping[str, Any],
        purpose: str,
        stratum: str = "",
        placement: Mapping[str, Any] | None = None,
    ) -> Played:
        """Run one request under a release and wait for its end."""
        folder = self._folder / release.version / "checks"
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / f"{_plain(purpose)}-{next(self._names):04d}.mp4"
        asked = {**DEFAULTS, **request, "output": str(output)}
        whole = release.apply(asked, placement).to_dict()
        self._assigner.expected[str(output)] = Expected(purpose, stratum, placement)
        watch = _Watch(self._loop)
        end = self._client.subscribe(watch.listen)
        try:
            sent = self._client.send(Submit(request=whole, version=release.version))
            reply = await asyncio.wait_for(asyncio.wrap_future(sent), _CHECK_SECONDS)
            if not reply.ok or reply.job is None:
                return Played(None, reply.message, None, None, None)
            row = await watch.ended(reply.job)
            return Played(row, None, watch.ready(reply.job), watch.plans.get(reply.job),
                          watch.breach(reply.job, row))  # fmt: skip
        finally:
            end()
            self._assigner.expected.pop(str(output), None)

    async def pairs(
        self,
        versions: tuple[Release, Release],
        inputs: Sequence[FixedInput],
        size: Mapping[str, Any],
        purpose: str,
        settings: Settings,
        placement: Mapping[str, Any] | None = None,
    ) -> list[Sample]:
        """Layer A: every input by stable, candidate, candidate, stable; measured one by one.

        Outputs are compared with stable's first one of the same input.

        Raises:
            HardBreach: the candidate ran out of memory, or made what cannot be shown.
        """
        samples: list[Sample] = []
        for number, one in enumerate(inputs, 1):
            reference: Path | None = None
            for role in _ABBA:
                release = versions[role == CANDIDATE]
                request = {**one.request(), **size}
                played = await self.play(release, request, purpose, one.name, placement)
                output = Path(str(played.row.output)) if played.ok and played.row else None
                sample = await asyncio.to_thread(
                    self._sample, played, role, one.name, reference, output, settings
                )
                samples.append(sample)
                if role == STABLE and reference is None:
                    reference = output
                elif output is not None:
                    output.unlink(missing_ok=True)
                if played.breach is not None and release is not versions[0]:
                    raise HardBreach(f"{played.breach} (input {number}, {one.name})")
            if reference is not None:
                reference.unlink(missing_ok=True)
        return samples

    def _sample(
        self,
        played: Played,
        role: str,
        name: str,
        reference: Path | None,
        output: Path | None,
        settings: Settings,
    ) -> Sample:
        row = played.row
        psnr = ssim = None
        error = played.error
        if output is not None and reference is not None:
            try:
                alike = self._likeness(reference, output)
                psnr, ssim = min(alike.psnr, settings.psnr_cap), alike.ssim
            except MediaError as problem:
                error = str(problem)
        return Sample(
            job=row.id if row else 0,
            role=role,
            ok=played.ok and error is None,
            stratum=name,
            seconds=clip_seconds(self.measure(row), DEFAULT_FPS) if row and played.ok else None,
            peak_bytes=row.peak_bytes if row else None,
            psnr=psnr,
            ssim=ssim,
            error=error,
        )


class _Watch:
    """What is heard of jobs while one is played."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rows: dict[int, JobRow] = {}
        self._states: dict[int, dict[str, float]] = {}
        self._texts: dict[int, list[str]] = {}
        self.plans: dict[int, Mapping[str, Any]] = {}
        self._changed = asyncio.Event()

    def listen(self, event: Event) -> None:
        """On the engine's thread, or the client's."""
        if isinstance(event, JobChanged | LogLine | PlanMade):
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        match event:
            case JobChanged():
                self._rows[event.job.id] = event.job
                self._states.setdefault(event.job.id, {}).setdefault(event.job.state, event.t)
                if event.job.state in END_STATES:
                    self._changed.set()
            case PlanMade():
                self.plans[event.job] = event.plan
            case LogLine() if event.job is not None and event.level in ("ERROR", "CRITICAL"):
                self._texts.setdefault(event.job, []).append(event.text)
            case _:
                pass

    async def ended(self, job: int) -> JobRow:
        """The job's row once it is over."""
        while (row := self._rows.get(job)) is None or row.state not in END_STATES:
            self._changed.clear()
            await self._changed.wait()
        return row

    def ready(self, job: int) -> float | None:
        """Seconds from its start to its first work."""
        states = self._states.get(job, {})
        begun = min((states[s] for s in ("preflight", "loading") if s in states), default=math.nan)
        first = states.get("running", math.nan)
        return None if math.isnan(first - begun) else first - begun

    def breach(self, job: int, row: JobRow) -> str | None:
        """What of it needs no statistics."""
        return hard_breach(row, self._texts.get(job, ()))


def _plain(purpose: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in purpose)

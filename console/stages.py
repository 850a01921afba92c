"""A job's pipeline as its ranks tell it: what each needs for a block, and who holds up the others.

A rank that decodes needs the VAE's time for a block as well as its steps': both are measured on it.
Where decoding was not measured, as in recordings of earlier versions, nobody is called the
bottleneck whom decoding could acquit.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from console.parts import Track
from console.state import Model
from engine.messages import JobRow, StepDone
from engine.plain import Plain, late_dataclass

RECENT: Final = 24  # steps that a stage's pace is judged by
DECODES: Final = 8  # blocks that the decoder's is
PAUSE: Final = 5.0  # seconds, and twenty steps' time: so long nothing waits for a neighbour


class Work(Protocol):
    """A stretch of work on a block that ended at ``t``: a step as it was told, or a decoding."""

    @property
    def t(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def block(self) -> int: ...


class _Decoded(NamedTuple):
    """A decoding as a stretch of work; ``BlockDone.seconds`` are the whole block's."""

    t: float
    seconds: float
    block: int


@late_dataclass(frozen=True)
class Stage(Plain):
    """One rank of the pipeline at the moment.

    Args:
        block: the one it ended last; None before its first.
        phase: what the rank is at.
        steps: median seconds of what it denoised of each of the last blocks; 0 before its first,
            and where it only decodes.
        decodes: the VAE's work is its.
        decode: median seconds for decoding a block; None where it does not, or none is known.
        busy: part of the last steps' time that it worked (0…1); None after one step alone.
        runs: what it worked on, in the order in which it began.
    """

    rank: int
    device: str
    role: str
    phase: str
    block: int | None = None
    steps: float = 0.0
    decodes: bool = False
    decode: float | None = None
    busy: float | None = None
    runs: Sequence[Work] = ()

    @property
    def seconds(self) -> float:
        """What is known of its time for a block."""
        return self.steps + (self.decode or 0.0)


class Late(NamedTuple):
    """The stage that holds up the others; ``extra`` seconds a block, None where not known."""

    stage: Stage
    extra: float | None


def stages(model: Model, job: JobRow) -> list[Stage]:
    """The ranks of a job that denoise, in their order: by its plan, else by what they told."""
    plan = model.plans.get(job.id) or {}
    planned = {stage["rank"] for stage in plan.get("stages", ())}
    mine = sorted((t for t in model.tracks.values() if t.job == job.id), key=lambda t: t.rank)
    found = [track for track in mine if (track.rank in planned if planned else track.steps)]
    vae, names = _vae_rank(model, job), model.machines.names()
    return [_stage(track, names, vae, denoises=True) for track in found]


def decoder(model: Model, job: JobRow, found: Sequence[Stage]) -> Stage | None:
    """The rank that only decodes; None where one of ``found`` decodes, or it is not known who."""
    rank = _vae_rank(model, job)
    track = model.tracks.get((job.id, rank)) if rank is not None else None
    if track is None or any(stage.rank == rank for stage in found):
        return None
    return _stage(track, model.machines.names(), rank, denoises=False)


def _vae_rank(model: Model, job: JobRow) -> int | None:
    rank = (model.plans.get(job.id) or {}).get("vae_rank")
    return rank if isinstance(rank, int) else None


def _stage(track: Track, names: dict[str, str], vae: int | None, *, denoises: bool) -> Stage:
    change, decodes = track.change, track.rank == vae
    recent = _recent(track.steps)
    since = recent[0].t - recent[0].seconds if recent else 0.0
    known: list[_Decoded] = []
    decoded: list[_Decoded] = []
    runs: list[Work] = [*track.steps]
    if decodes:
        known = [_Decoded(d.t, d.decode_seconds or 0.0, d.block) for d in track.decodes]
        # A block of many steps may have begun before the oldest of them.
        decoded = ([d for d in known if d.t >= since] or known)[-DECODES:]
        runs = sorted((*runs, *known), key=lambda run: run.t - run.seconds)
    judged: Sequence[Work] = recent if denoises else decoded
    busy = None
    if len(judged) > 1:
        since, last = judged[0].t - judged[0].seconds, judged[-1].t
        also = known if denoises else ()
        worked = sum(run.seconds for run in (*judged, *also) if since < run.t <= last)
        busy = min(worked / (last - since), 1.0) if last > since else None
    return Stage(
        track.rank,
        names.get(change.device_uuid or "", "") if change else "",
        change.role if change else "",
        change.phase if change else "spawned",
        block=judged[-1].block if judged else None,
        steps=_seconds_per_block(recent) if judged and recent else 0.0,
        decodes=decodes,
        decode=statistics.median(d.seconds for d in decoded) if judged and decoded else None,
        busy=busy,
        runs=runs,
    )


def _recent(steps: Sequence[StepDone]) -> list[StepDone]:
    """The last steps since work began or went on: a pause is no bubble."""
    if not steps:
        return []
    found = [steps[-1]]
    for n in range(2, min(len(steps), RECENT) + 1):
        if found[-1].t - found[-1].seconds - steps[-n].t > PAUSE + 20 * found[-1].seconds:
            break
        found.append(steps[-n])
    return found[::-1]


def _seconds_per_block(recent: Sequence[StepDone]) -> float:
    """The median time for a block: a rank may do several steps of it, or parts of several."""
    worked: dict[int, list[float]] = {}
    for step in recent:
        worked.setdefault(step.block, []).append(step.seconds)
    # The first and the last may be there in part.
    told = [len(parts) for parts in worked.values()]
    whole = max(told, key=lambda steps: (told.count(steps), steps))
    return statistics.median(sum(parts) for parts in worked.values() if len(parts) == whole)


def bottleneck(found: Sequence[Stage], percent: float, alone: Stage | None = None) -> Late | None:
    """The slowest stage and the seconds it takes more than the next.

    None when all are even, and where a decoder whose time is not known might be slower.

    Args:
        percent: what the slowest may take longer than the fastest without being told.
        alone: the rank that only decodes, if there is one (``decoder``).
    """
    told = [s for s in found if s.block is not None]
    if alone is not None and alone.decode is not None:
        told.append(alone)
    if len(told) < 2:
        return None
    told.sort(key=lambda stage: stage.seconds)
    slowest = told[-1]
    if slowest.seconds <= told[0].seconds * (1 + percent / 100):
        return None
    known = any(stage.decode is not None for stage in told)
    if not known and not slowest.decodes:
        return None  # with what it decodes the decoder's rank may be slower
    return Late(slowest, slowest.seconds - told[-2].seconds if known else None)

"""N independent lines, or one pipeline over all devices? By predicted throughput, and said why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.sentence import joined, sentence

#: What a whole batch takes must differ by more than this share before measured times decide.
_EVEN: Final = 0.02


@dataclass(frozen=True)
class Trial:
    """What the planner says of one placement. ``seconds_per_block`` only where it was measured."""

    fits: bool
    reason: str = ""
    mode: str = ""
    ranks: int = 1
    seconds_per_block: Mapping[str, float] = dataclasses.field(default_factory=dict)  # by size


@dataclass(frozen=True)
class Line:
    """One rank group after another on these devices; ``changes`` are fields of its requests."""

    number: int
    devices: tuple[str, ...]  # UUIDs; ("cpu",) for CPU ranks
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Lines:
    """How a batch lies on devices."""

    kind: str  # "cpu" | "independent" | "pipeline"
    lines: tuple[Line, ...]
    why: str
    predicted: Mapping[str, float | None]  # seconds of the whole batch, by kind

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "kind": self.kind,
            "lines": [list(line.devices) for line in self.lines],
            "why": self.why,
            "predicted_seconds": dict(self.predicted),
        }


class NoLine(Exception):  # noqa: N818 - says what happened
    """No placement fits any device; says why."""


#: Asked for request fields (devices among them), answers what the planner says.
Plan = Callable[[Mapping[str, Any]], Trial]


def choose_lines(
    wanted: str,
    devices: Sequence[str],
    work: Sequence[tuple[str, int]],
    plan: Plan,
    fixed: bool = False,
) -> Lines:
    """Lay a batch on devices.

    Args:
        wanted: ``auto``, ``pipeline`` or a number of lines. devices: UUIDs of GPUs; none: the CPU.
        work: (size, blocks) of every item. plan: the planner.
        fixed: the request says itself how many ranks a job takes, so lines have that many.

    Raises:
        NoLine: nothing fits.
    """
    if not devices:
        return _on_cpu(wanted, plan)
    if wanted == "pipeline" or (wanted.isdecimal() and int(wanted) == 1):
        found = _pipeline(devices, plan, fixed)
        return _told("pipeline", [found], sentence("as asked"), work, {})
    if wanted.isdecimal():
        lines = _split(devices, min(int(wanted), len(devices)), plan, fixed)
        return _told(
            "independent", lines, sentence("{wanted} lines, as asked", wanted=wanted), work, {}
        )
    return _automatic(devices, work, plan, fixed)


def makespan(
    work: Sequence[tuple[str, int]], lines: int, speed: Mapping[str, float]
) -> float | None:
    """Seconds until all items are done, each taken in order by the line that is free first.

    None where a size's seconds per block were never measured.
    """
    free = [0.0] * lines
    for size, blocks in work:
        if size not in speed:
            return None
        first = min(range(lines), key=free.__getitem__)
        free[first] += blocks * speed[size]
    return max(free)


def _on_cpu(wanted: str, plan: Plan) -> Lines:
    trial = plan({})
    if not trial.fits:
        raise NoLine(trial.reason)
    why: str = sentence("CPU ranks share one host, so one job runs at a time")
    if wanted not in ("auto", "1", "pipeline"):
        why = joined((why, sentence("--lines {wanted} is for GPUs", wanted=wanted)))
    return Lines("cpu", (Line(0, ("cpu",), {}),), why, {})


_Trials = list[tuple[Line, Trial]]


def _automatic(
    devices: Sequence[str], work: Sequence[tuple[str, int]], plan: Plan, fixed: bool
) -> Lines:
    if fixed:
        lines, reason = _fixed(devices, plan)
        if not lines:
            raise NoLine(reason)
        ranks = lines[0][1].ranks
        why: str = sentence(
            "the request takes {ranks} ranks a job, {devices} devices give {lines} lines",
            ranks=ranks,
            devices=len(devices),
            lines=len(lines),
        )
        return _told("independent" if len(lines) > 1 else "pipeline", lines, why, work, {})
    singles: _Trials = []
    reason = ""
    for device in devices:
        trial = plan({"mode": "single", "gpus": device})
        if trial.fits:
            line = Line(len(singles), (device,), {"mode": "single", "gpus": device})
            singles.append((line, trial))
        else:
            reason = reason or trial.reason
    if len(devices) == 1 and singles:
        return _told("independent", singles, sentence("there is one device"), work, {})
    pipeline: _Trials = []
    if len(devices) > 1:
        try:
            pipeline = [_pipeline(devices, plan, False)]
        except NoLine as error:
            reason = reason or str(error)
    if not singles and not pipeline:
        raise NoLine(reason)
    predicted = {
        "independent": _predict(singles, work),
        "pipeline": _predict(pipeline, work),
    }
    kind, why = _decide(singles, pipeline, len(devices), len(work), predicted, reason)
    return _told(kind, singles if kind == "independent" else pipeline, why, work, predicted)


def _decide(
    singles: _Trials,
    pipeline: _Trials,
    devices: int,
    items: int,
    predicted: Mapping[str, float | None],
    reason: str,
) -> tuple[str, str]:
    if not singles:
        return "pipeline", sentence("no device holds a job alone ({reason})", reason=reason)
    if not pipeline:
        return "independent", sentence("a pipeline does not fit ({reason})", reason=reason)
    alone, as_one = predicted["independent"], predicted["pipeline"]
    if (
        alone is not None
        and as_one is not None
        and abs(alone - as_one) > _EVEN * max(alone, as_one)
    ):
        kind = "independent" if alone < as_one else "pipeline"
        return kind, sentence(
            "by measured seconds per block: {alone:.0f} s over {lines} lines, {one:.0f} s in one "
            "pipeline",
            alone=alone,
            lines=len(singles),
            one=as_one,
        )
    kind = "pipeline"
    if items < len(singles):
        why = sentence(
            "{items} items would leave devices idle, a pipeline gives each item all of them",
            items=items,
        )
    elif len(singles) * 2 <= devices:
        why = sentence(
            "only {singles} of {devices} devices hold a job alone",
            singles=len(singles),
            devices=devices,
        )
    else:
        kind = "independent"
        why = sentence(
            "{devices} devices each hold a job alone; lines neither fill nor wait for peers",
            devices=len(singles),
        )
    if alone is None or as_one is None:
        return kind, sentence("not all was measured here; by the rule: {why}", why=why)
    return kind, sentence("measured times are even; by the rule: {why}", why=why)


def _fixed(devices: Sequence[str], plan: Plan) -> tuple[_Trials, str]:
    whole = plan({"gpus": ",".join(devices)})
    if not whole.fits:
        return [], whole.reason
    lines: _Trials = []
    for start in range(0, len(devices) - whole.ranks + 1, whole.ranks):
        group = tuple(devices[start : start + whole.ranks])
        changes = {"gpus": ",".join(group)}
        lines.append((Line(len(lines), group, changes), plan(changes)))
    return [entry for entry in lines if entry[1].fits], whole.reason


def _pipeline(devices: Sequence[str], plan: Plan, fixed: bool) -> tuple[Line, Trial]:
    changes: dict[str, Any] = {"gpus": ",".join(devices)}
    if not fixed:
        changes |= {"mode": "tpp", "num_gpus_dit": len(devices)}
    if len(devices) == 1 and not fixed:
        changes = {"gpus": devices[0]}
    trial = plan(changes)
    if not trial.fits:
        raise NoLine(trial.reason)
    return Line(0, tuple(devices), changes), trial


def _split(devices: Sequence[str], count: int, plan: Plan, fixed: bool) -> _Trials:
    each = len(devices) // count
    lines: _Trials = []
    reason = ""
    for number in range(count):
        group = tuple(devices[number * each : (number + 1) * each])
        try:
            line, trial = _pipeline(group, plan, fixed)
        except NoLine as error:
            reason = str(error)
            continue
        lines.append((dataclasses.replace(line, number=len(lines)), trial))
    if not lines:
        raise NoLine(reason)
    return lines


def _predict(lines: _Trials, work: Sequence[tuple[str, int]]) -> float | None:
    return makespan(work, len(lines), lines[0][1].seconds_per_block) if lines else None


def _told(
    kind: str,
    lines: _Trials,
    why: str,
    work: Sequence[tuple[str, int]],
    predicted: Mapping[str, float | None],
) -> Lines:
    told = predicted or {kind: _predict(lines, work)}
    return Lines(kind, tuple(line for line, _ in lines), why, told)

"""From measurements to gates: what was compared, the interval, the limit, and the verdict.

Layer A compares paired runs of equal inputs and seeds; layer B live jobs beside concurrent ones of
stable. Missing data is never PASS.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.messages import GateRow
from engine.messages.parts import OBSERVED
from engine.release.settings import Settings
from engine.release.stats import (
    ERROR,
    FAIL,
    FALSE_FAILS,
    INCONCLUSIVE,
    Interval,
    Observation,
    false_fail_rate,
    mean_interval,
    rate_interval,
    stratified_interval,
    verdict,
)
from engine.sentence import joined, sentence

STABLE: Final = "stable"
CANDIDATE: Final = "candidate"
#: Gates whose figures carry noise: no spread at all means that they do not measure.
_NOISY: Final = frozenset({"time_per_clip", "communication"})
_UNITS: Final = {
    "time_per_clip": "s/s",
    "peak_memory": "B",
    "communication": "s",
    "psnr": "dB",
    "ssim": "",
    "error_rate": "",
}


@dataclass(frozen=True)
class Sample:
    """One run of one version. Seconds of work per generated second; bytes; None: not measured."""

    job: int
    role: str  # STABLE | CANDIDATE
    ok: bool
    stratum: str  # the input of a paired run; what a live job may be compared with
    seconds: float | None = None
    peak_bytes: int | None = None
    psnr: float | None = None  # dB against stable's first run, capped
    ssim: float | None = None
    error: str | None = None
    latency: Mapping[str, float] | None = None  # seconds by operation and size

    def value(self, gate: str) -> float | None:
        """The logarithm of what ``gate`` compares (PSNR and SSIM as they are)."""
        if gate in ("psnr", "ssim"):
            return self.psnr if gate == "psnr" else self.ssim
        raw = self.seconds if gate == "time_per_clip" else self.peak_bytes
        return math.log(raw) if raw else None


@dataclass(frozen=True)
class Arming:
    """What stable against itself showed of one gate on this hardware."""

    gate: str
    armed: bool
    rate: float | None  # how often noise alone fails
    n: int


def clip_seconds(clips: Sequence[tuple[float, int]], fps: float) -> float | None:
    """A job's seconds of work per generated second: the median, the first clip dropped.

    Args:
        clips: (seconds of work, frames), in order.
    """
    paces = [seconds / (frames / fps) for seconds, frames in clips[1:] if seconds > 0 and frames]
    return statistics.median(paces) if paces else None


def paired(
    samples: Sequence[Sample],
    settings: Settings,
    armed: Mapping[str, bool],
    *,
    same_numerics: bool,
) -> tuple[GateRow, ...]:
    """Layer A: one row per gate out of interleaved runs of equal inputs."""
    rows = [
        _paired_row(gate, samples, settings, armed.get(gate, False), same_numerics)
        for gate in ("time_per_clip", "peak_memory", "psnr", "ssim")
    ]
    errors = error_row(samples, settings.error_paired, armed.get("error_rate", False))
    base = next((s.error for s in samples if s.role == STABLE and not s.ok), None)
    if base is not None and errors.verdict == FAIL:  # what stable cannot do is no fault of this one
        note = joined((sentence("stable failed as well: {base}", base=base), errors.note), ". ")
        errors = _replaced(errors, verdict=ERROR, note=note)
    return (*rows, errors)


def communication(
    samples: Sequence[Sample], settings: Settings, armed: bool
) -> tuple[GateRow, ...]:
    """One row per operation and size, of micro-benchmarks interleaved pair by pair."""
    names = sorted({name for s in samples for name in s.latency or ()})
    limit = math.log1p(settings.allowed["communication"])
    rows = []
    for name in names:
        old, new = (_latencies(samples, role, name) for role in (STABLE, CANDIDATE))
        pairs = [math.log(b / a) for a, b in zip(old, new, strict=False)]
        interval = mean_interval(pairs)
        row = _row(
            f"communication: {name}", _UNITS["communication"], interval,
            settings.allowed["communication"], verdict(interval, limit), armed,
            _middle(old), _middle(new), note="", noisy=True,
        )  # fmt: skip
        rows.append(row)
    if not rows:
        why = next((s.error for s in samples if s.error), sentence("no latency was measured"))
        allowed = settings.allowed["communication"]
        rows.append(_row("communication", "s", None, allowed, ERROR, armed, None, None, note=why))
    return tuple(rows)


def live(
    samples: Sequence[Sample], settings: Settings, armed: Mapping[str, bool], *, note: str = ""
) -> tuple[GateRow, ...]:
    """Layer B: the candidate's jobs within strata, the job as the unit. At a stage's end only."""
    gate = "time_per_clip"
    seen = [
        Observation(value, s.role == CANDIDATE, s.stratum)
        for s in samples
        if s.ok and (value := s.value(gate)) is not None
    ]
    interval = stratified_interval(seen)
    few = min(sum(not o.candidate for o in seen), interval.n if interval else 0)
    said = verdict(interval, math.log1p(settings.allowed[gate]))
    if few < settings.live_jobs:
        said = INCONCLUSIVE
        lacking = sentence(
            "{few} comparable jobs, {needed} of each are needed.",
            few=few,
            needed=settings.live_jobs,
        )
        note = joined((lacking, note), " ") if note else lacking
    old, new = ([math.exp(o.value) for o in seen if o.candidate is side] for side in (False, True))
    row = _row(
        gate, _UNITS[gate], interval, settings.allowed[gate], said, armed.get(gate, False),
        _middle(old), _middle(new), note, _jobs(samples), noisy=True,
    )  # fmt: skip
    return row, error_row(samples, settings.error_live, armed.get("error_rate", False))


def error_row(samples: Sequence[Sample], limit: float, armed: bool) -> GateRow:
    """The share of the candidate's jobs that failed, by its bounds."""
    new = [s for s in samples if s.role == CANDIDATE]
    old = [s for s in samples if s.role == STABLE]
    failures = sum(not s.ok for s in new)
    interval = rate_interval(failures, len(new))
    high = f"{interval.high:.0%}" if interval else "any"
    note: str = sentence(
        "{failures} of {jobs} jobs failed, which allows a rate of {high}",
        failures=failures,
        jobs=len(new),
        high=high,
    )
    first = next((s.error for s in new if s.error), None)
    if first is not None:
        note = sentence("{what}: {why}", what=note, why=first)
    base = sum(not s.ok for s in old) / len(old) if old else None
    rate = interval.estimate if interval else None
    return GateRow(
        gate="error_rate",
        unit="",
        baseline=base,
        candidate=rate,
        deviation=rate,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        allowed=limit,
        n=len(new),
        verdict=_weighed(verdict(interval, limit), armed),
        armed=armed,
        jobs=_jobs(samples),
        note=note,
    )


def arm(samples: Sequence[Sample], settings: Settings) -> tuple[Arming, ...]:
    """Layer A of stable against itself: which gates hold still enough to act."""
    found = []
    for gate in ("time_per_clip", "peak_memory", "psnr", "ssim"):
        losses, _, _ = _differences(gate, samples)
        rate = false_fail_rate(losses, _limit(gate, settings))
        enough = len(losses) >= settings.inputs
        found.append(Arming(gate, enough and rate is not None and rate <= FALSE_FAILS,
                            rate, len(losses)))  # fmt: skip
    failed = error_row(samples, settings.error_paired, armed=True)
    found.append(Arming("error_rate", failed.verdict != FAIL and failed.n > 0, None, failed.n))
    return tuple(found)


def arm_communication(samples: Sequence[Sample], settings: Settings) -> Arming:
    """The same of the micro-benchmark: every operation must hold still."""
    rates: list[float] = []
    count = 0
    for name in sorted({name for s in samples for name in s.latency or ()}):
        old, new = (_latencies(samples, role, name) for role in (STABLE, CANDIDATE))
        pairs = [math.log(b / a) for a, b in zip(old, new, strict=False)]
        rate = false_fail_rate(pairs, math.log1p(settings.allowed["communication"]))
        count = len(pairs)
        rates.append(1.0 if rate is None else rate)
    worst = max(rates, default=None)
    return Arming("communication", worst is not None and worst <= FALSE_FAILS, worst, count)


def _paired_row(
    gate: str, samples: Sequence[Sample], settings: Settings, armed: bool, same_numerics: bool
) -> GateRow:
    losses, old, new = _differences(gate, samples)
    interval = mean_interval(losses)
    said = verdict(interval, _limit(gate, settings))
    note: str = ""
    if len(losses) < settings.inputs:
        said = INCONCLUSIVE
        note = sentence(
            "{count} inputs compared, {inputs} are needed",
            count=len(losses),
            inputs=settings.inputs,
        )
    mode = settings.modes.get(gate, "gate")
    if mode == "observe" or (mode == "auto" and not same_numerics):
        why = (
            sentence("as set")
            if mode == "observe"
            else sentence("new weights or a LoRA may change the picture")
        )
        observed = sentence("{observed} ({why}).", observed=OBSERVED, why=why)
        note = joined((observed, note), " ") if note else observed
    quality = gate in ("psnr", "ssim")
    allowed = settings.allowed[gate]
    raw = (lambda v: v) if quality else math.exp
    row = _row(
        gate, _UNITS[gate], interval, -allowed if quality else allowed, said, armed,
        _middle([raw(v) for v in old]), _middle([raw(v) for v in new]), note, _jobs(samples),
        noisy=gate in _NOISY, logs=not quality,
    )  # fmt: skip
    if not quality or row.deviation is None:
        return row
    # A loss is told as what it is: a fall of the figure.
    low, high = (None if v is None else -v for v in (row.high, row.low))
    return _replaced(row, deviation=-row.deviation, low=low, high=high)


def _differences(
    gate: str, samples: Sequence[Sample]
) -> tuple[list[float], list[float], list[float]]:
    """Per input, how much worse the candidate is; with both versions' levels."""
    worse, old, new = [], [], []
    for name in dict.fromkeys(s.stratum for s in samples):
        levels = []
        for role in (STABLE, CANDIDATE):
            runs = [s for s in samples if s.stratum == name and s.role == role and s.ok]
            values = [v for s in runs if (v := s.value(gate)) is not None]
            levels.append(math.fsum(values) / len(values) if values else None)
        before, after = levels
        if before is None or after is None:
            continue
        if gate in ("psnr", "ssim"):
            worse.append((before - after) / before if before else 0.0)
        else:
            worse.append(after - before)
        old.append(before)
        new.append(after)
    return worse, old, new


def _limit(gate: str, settings: Settings) -> float:
    allowed = settings.allowed[gate]
    return allowed if gate in ("psnr", "ssim") else math.log1p(allowed)


def _row(
    gate: str,
    unit: str,
    interval: Interval | None,
    allowed: float,
    said: str,
    armed: bool,
    baseline: float | None,
    candidate: float | None,
    note: str,
    jobs: tuple[int, ...] = (),
    *,
    noisy: bool = False,
    logs: bool = True,
) -> GateRow:
    if noisy and interval is not None and interval.n > 1 and interval.degenerate:
        said = INCONCLUSIVE
        identical = sentence("all differences are identical: that is no measurement.")
        note = joined((identical, note), " ") if note else identical
    shown = math.expm1 if logs else (lambda v: v)
    return GateRow(
        gate=gate,
        unit=unit,
        baseline=baseline,
        candidate=candidate,
        deviation=shown(interval.estimate) if interval else None,
        low=shown(interval.low) if interval else None,
        high=shown(interval.high) if interval else None,
        allowed=allowed,
        n=interval.n if interval else 0,
        verdict=_weighed(said, armed),
        armed=armed,
        jobs=jobs,
        note=note,
    )


def _weighed(said: str, armed: bool) -> str:
    """While unarmed, a gate that holds proves nothing yet."""
    return INCONCLUSIVE if said == "PASS" and not armed else said


def _latencies(samples: Sequence[Sample], role: str, name: str) -> list[float]:
    found = [s.latency.get(name) for s in samples if s.role == role and s.latency]
    return [value for value in found if value]


def _middle(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def _jobs(samples: Sequence[Sample]) -> tuple[int, ...]:
    return tuple(sorted({s.job for s in samples if s.job}))


def _replaced(row: GateRow, **changes: Any) -> GateRow:
    return GateRow(**{**row.__dict__, **changes})

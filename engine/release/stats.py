"""Intervals and verdicts: what a few noisy measurements allow to be said, and what they do not.

Bounds are one-sided at 95 % each. Quantiles come from scipy (its special functions alone, loaded on
use): the standard library has none of Student's t or of the beta distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PASS: Final = "PASS"
FAIL: Final = "FAIL"
INCONCLUSIVE: Final = "INCONCLUSIVE"
ERROR: Final = "ERROR"

CONFIDENCE: Final = 0.95
#: A gate may act once noise alone makes it fail at most so often.
FALSE_FAILS: Final = 0.05
_DRAWS: Final = 2000
_SEED: Final = 20250101


@dataclass(frozen=True)
class Interval:
    """An estimate between its one-sided bounds, out of ``n`` independent units."""

    n: int
    estimate: float
    low: float
    high: float

    @property
    def degenerate(self) -> bool:
        """No spread at all between the units."""
        return self.high - self.low < 1e-12


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's interval of a mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = _t(n - 1) * spread / math.sqrt(n)
    return Interval(n, mean, mean - half, mean + half)


@dataclass(frozen=True)
class Observation:
    """One job: its value, whether the candidate made it, and what it may be compared with."""

    value: float
    candidate: bool
    stratum: str


def stratified_interval(jobs: Sequence[Observation]) -> Interval | None:
    """The candidate's difference from stable within strata (least squares, a level per stratum).

    Strata that hold only one of the two say nothing and are left out. None where too little is
    left for a spread. ``n`` counts the candidate's jobs that were compared.
    """
    groups: dict[str, tuple[list[float], list[float]]] = {}
    for job in jobs:
        groups.setdefault(job.stratum, ([], []))[job.candidate].append(job.value)
    both = [(old, new) for old, new in groups.values() if old and new]
    count = sum(len(old) + len(new) for old, new in both)
    free = count - len(both) - 1
    if not both or free < 1:
        return None
    weights = [len(old) * len(new) / (len(old) + len(new)) for old, new in both]
    steps = [math.fsum(new) / len(new) - math.fsum(old) / len(old) for old, new in both]
    total = math.fsum(weights)
    estimate = math.fsum(w * d for w, d in zip(weights, steps, strict=True)) / total
    residual = 0.0
    for old, new in both:
        level = (math.fsum(old) + math.fsum(v - estimate for v in new)) / (len(old) + len(new))
        residual += math.fsum((v - level) ** 2 for v in old)
        residual += math.fsum((v - level - estimate) ** 2 for v in new)
    half = _t(free) * math.sqrt(residual / free / total)
    n = sum(len(new) for _, new in both)
    return Interval(n, estimate, estimate - half, estimate + half)


def rate_interval(failures: int, n: int) -> Interval | None:
    """Clopper and Pearson's bounds of a failure rate: no failure in 20 jobs still allows 14 %."""
    if n <= 0:
        return None
    from scipy.special import betaincinv

    low = float(betaincinv(failures, n - failures + 1, 1 - CONFIDENCE)) if failures else 0.0
    high = float(betaincinv(failures + 1, n - failures, CONFIDENCE)) if failures < n else 1.0
    return Interval(n, failures / n, low, high)


def verdict(interval: Interval | None, limit: float) -> str:
    """Of something whose growth is bad: FAIL above the limit, PASS below it, else INCONCLUSIVE."""
    if interval is None or not all(map(math.isfinite, (interval.low, interval.high))):
        return INCONCLUSIVE
    if interval.low > limit:
        return FAIL
    return PASS if interval.high < limit else INCONCLUSIVE


def false_fail_rate(differences: Sequence[float], limit: float) -> float | None:
    """How often noise like this would fail a candidate that is no worse; None for too few values.

    Differences of stable against itself have no direction: their signs are drawn anew, and as many
    as were measured are drawn with replacement, again and again (fixed seed).
    """
    if len(differences) < 2:
        return None
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    random = np.random.Generator(np.random.PCG64(_SEED))
    n = len(values)
    drawn = random.choice(values, size=(_DRAWS, n)) * random.choice((-1.0, 1.0), size=(_DRAWS, n))
    low = drawn.mean(axis=1) - _t(n - 1) * drawn.std(axis=1, ddof=1) / math.sqrt(n)
    return float((low > limit).mean())


def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, CONFIDENCE))

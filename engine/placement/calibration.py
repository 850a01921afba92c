"""Predictions beside what was measured, and what the next prediction learns from them.

Counted owners (weights, slots, gathered units, keys and values) need no learning. What is left of
a measured peak is explained by four numbers per hardware and type: how the VAE's and the
activations' estimates scale, what every rank holds besides, and what the encoders leave behind.
A ridge regression towards the model's own values fits them, so that few runs move them little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.placement.memory import ESTIMATED

#: Weight of the model's own values against one measured rank.
_PRIOR: Final = 0.4
#: How often ranks of the very same setting are counted, beside one of others' on the same hardware.
_SAME_SETTING: Final = 3
#: Configurations that must have been measured before the margin is taken from them, and its least.
_ENOUGH: Final = 4
_LEAST_MARGIN: Final = 0.08
#: Clips before the steady state: the first starts everything up, the second fills the caches.
WARM_CLIPS: Final = 2


@dataclass(frozen=True)
class Setting:
    """What runs are comparable by. ``hardware`` is the device's name, or ``cpu``.

    ``kv``: where keys and values lie, and their type.
    """

    hardware: str
    mode: str
    variant: str
    dtype: str
    world: int
    kv: str = ""


@dataclass(frozen=True)
class RankRun:
    """One rank of one run: the model's bytes by owner, and what was measured.

    ``predicted`` and ``margin`` are what was said before the launch. ``peak`` and ``context`` are
    measured, None until the run has ended or where nothing told.
    """

    modelled: Mapping[str, int]
    encodes: bool
    predicted: int
    margin: int
    peak: int | None = None
    context: int | None = None

    @property
    def error(self) -> float | None:
        """(predicted − measured) / measured; None without a measurement."""
        return None if not self.peak else (self.predicted - self.peak) / self.peak


@dataclass(frozen=True)
class Run:
    """One launch."""

    job: int
    setting: Setting
    size: tuple[int, int]
    steps: int
    clips: int
    ranks: tuple[RankRun, ...]
    seconds_per_block: float | None = None

    @property
    def configuration(self) -> tuple[object, ...]:
        """What a run repeats when it is the same again."""
        return (self.setting, self.size, self.steps, self.clips)


@dataclass
class Corrections:
    """What measured runs teach about the next one."""

    runs: Sequence[Run] = ()
    _fits: dict[Setting, _Fit] = field(default_factory=dict)

    def without(self, configuration: tuple[object, ...]) -> Corrections:
        """The same, had that configuration never been run."""
        return Corrections([run for run in self.runs if run.configuration != configuration])

    def corrected(
        self, setting: Setting, owners: Mapping[str, int], encodes: bool, margin: int
    ) -> tuple[dict[str, int], int]:
        """Bytes by owner and margin of one rank, moved to what was measured.

        Unchanged where this hardware and type have not been measured.
        """
        if setting not in self._fits:
            self._fits[setting] = self._fitted(setting)
        fit = self._fits[setting]
        if not fit.configurations:
            return dict(owners), margin
        found = {owner: size for owner, size in owners.items() if owner not in ESTIMATED}
        if "activations" in owners:
            found["activations"] = round(owners["activations"] * fit.activations)
        if "vae" in owners:
            found["vae"] = round(owners["vae"] * fit.vae)
        context = owners.get("context", 0)
        if fit.context is not None:
            # A CPU rank may be forked before the encoders' libraries are loaded, or after.
            context = max(fit.context, context) if setting.hardware == "cpu" else fit.context
        found["context"] = context
        found["other"] = owners.get("other", 0)
        more = fit.base + fit.encodes * encodes
        found["slack"] = max(0, round(owners.get("slack", 0) + more))
        found = {owner: size for owner, size in found.items() if size}
        if fit.configurations >= _ENOUGH:
            counted = sum(size for owner, size in found.items() if owner not in ESTIMATED)
            estimated = sum(found.values()) - counted
            margin = max(round(1.5 * fit.worst), round(_LEAST_MARGIN * estimated))
        return found, margin

    def _fitted(self, setting: Setting) -> _Fit:
        """From all runs on this hardware and type; those of the same setting say most."""
        kind = (setting.hardware, setting.dtype)
        alike = [run for run in self.runs if (run.setting.hardware, run.setting.dtype) == kind]
        ranks = [
            rank
            for run in alike
            for rank in run.ranks * (_SAME_SETTING if run.setting == setting else 1)
            if rank.peak
        ]
        return _fit(ranks, len({run.configuration for run in alike}))

    def seconds_per_block(
        self, setting: Setting, size: tuple[int, int], steps: int
    ) -> float | None:
        """Median of runs of this very placement, frame and number of steps; None without any.

        Those that reached the steady state, as long as there are any.
        """
        wanted = (setting, size, steps)
        alike = [run for run in self.runs if (run.setting, run.size, run.steps) == wanted]
        told = [run for run in alike if run.seconds_per_block]
        long = [run for run in told if run.clips > WARM_CLIPS]
        seconds = sorted(run.seconds_per_block or 0.0 for run in long or told)
        return seconds[len(seconds) // 2] if seconds else None


@dataclass(frozen=True)
class _Fit:
    vae: float = 1.0
    activations: float = 1.0
    base: float = 0.0
    encodes: float = 0.0
    context: int | None = None
    configurations: int = 0  # that it rests on
    worst: float = 0.0  # most that a measured peak was above the fit


def _fit(ranks: Sequence[RankRun], configurations: int) -> _Fit:
    if not ranks:
        return _Fit()
    contexts = sorted(rank.context for rank in ranks if rank.context)
    context = contexts[len(contexts) // 2] if contexts else None
    unit = float(1 << 20)
    rows: list[list[float]] = []
    rests: list[float] = []
    for rank in ranks:
        owners = rank.modelled
        vae, activations = owners.get("vae", 0) / unit, owners.get("activations", 0) / unit
        counted = sum(size for owner, size in owners.items() if owner not in ESTIMATED)
        beside = owners.get("other", 0) + owners.get("slack", 0)
        held = rank.context or context or owners.get("context", 0)
        rows.append([vae, activations, 1.0, float(rank.encodes)])
        # Departure from the model: all four numbers are then pulled towards nothing.
        rest = (rank.peak or 0) - counted - held - beside
        rests.append(rest / unit - vae - activations)
    change = _ridge(rows, rests)
    worst = max(
        rest - sum(a * b for a, b in zip(row, change, strict=True))
        for row, rest in zip(rows, rests, strict=True)
    )
    return _Fit(
        vae=max(0.0, 1 + change[0]),
        activations=max(0.0, 1 + change[1]),
        base=change[2] * unit,
        encodes=change[3] * unit,
        context=context,
        configurations=configurations,
        worst=max(0.0, worst * unit),
    )


def _ridge(rows: Sequence[Sequence[float]], rests: Sequence[float]) -> list[float]:
    """Least squares with a pull to zero, each column in units of its own size."""
    width = len(rows[0])
    scale = [max((abs(row[n]) for row in rows), default=0.0) or 1.0 for n in range(width)]
    scaled = [[row[n] / scale[n] for n in range(width)] for row in rows]
    matrix = [
        [_dot(scaled, a, b) + (_PRIOR if a == b else 0.0) for b in range(width)]
        for a in range(width)
    ]
    right = [
        sum(row[n] * rest for row, rest in zip(scaled, rests, strict=True)) for n in range(width)
    ]
    return [value / size for value, size in zip(_solve(matrix, right), scale, strict=True)]


def _dot(rows: Iterable[Sequence[float]], a: int, b: int) -> float:
    return sum(row[a] * row[b] for row in rows)


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination; the matrix is positive definite, so no pivot vanishes."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for n in range(size):
        for m in range(n + 1, size):
            factor = rows[m][n] / rows[n][n]
            rows[m] = [x - factor * y for x, y in zip(rows[m], rows[n], strict=True)]
    found = [0.0] * size
    for n in reversed(range(size)):
        known = sum(rows[n][m] * found[m] for m in range(n + 1, size))
        found[n] = (rows[n][size] - known) / rows[n][n]
    return found

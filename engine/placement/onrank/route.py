"""Through which ranks a block travels, read off a plan's stages; plain data, no torch.

A step's layers may be cut over several ranks (ring, balanced) and a rank may hold parts of several
steps. ``Route`` lays the parts of all steps out in the order in which a block passes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from engine.placement.plan import Plan


@dataclass(frozen=True)
class Part:
    """A run of layers of one step on one rank, and where the step is cut."""

    step: int
    rank: int
    layers: tuple[int, int]


@dataclass(frozen=True)
class Run:
    """A run of layers that a rank conditions: all it holds without a gap.

    ``source`` is the run whose hidden states enter it (None: it begins with the embedding).
    ``taps`` are the layers before which (or after the last of which) its own states go to others,
    as (layer, rank).
    """

    rank: int
    layers: tuple[int, int]
    source: int | None = None  # index among the route's runs
    taps: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Route:
    """Parts in the order of a block's way, and runs in the order of layers.

    Raises ``ValueError`` (from ``of``) for a layer of a step that lies on no rank, or on two.
    """

    layers: int
    steps: int
    vae_rank: int
    parts: tuple[Part, ...]
    runs: tuple[Run, ...]
    _at: dict[int, tuple[int, int]] = field(default_factory=dict)  # step → its first, last part

    @classmethod
    def of(cls, plan: Plan) -> Route:
        layers = max(stage.layers[1] for stage in plan.stages)
        parts: list[Part] = []
        at: dict[int, tuple[int, int]] = {}
        for step in range(plan.sample_steps):
            way = _way(plan, step, layers)
            at[step] = len(parts), len(parts) + len(way) - 1
            parts += way
        hops = {(a.rank, b.rank) for a, b in pairwise(parts)}
        return cls(layers, plan.sample_steps, plan.vae_rank, tuple(parts), _runs(plan, hops), at)

    def first(self, step: int) -> Part:
        """The part that embeds the step's latent."""
        return self.parts[self._at[step][0]]

    def last(self, step: int) -> Part:
        """The part after which the latent takes its Euler step."""
        return self.parts[self._at[step][1]]

    def of_step(self, step: int) -> range:
        """Indices of a step's parts."""
        first, last = self._at[step]
        return range(first, last + 1)

    def latent_ranks(self, step: int) -> tuple[int, ...]:
        """Ranks that need the latent at ``step``: to embed it, and to step it on."""
        return tuple(sorted({self.first(step).rank, self.last(step).rank}))

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks that have a part."""
        return tuple(sorted({part.rank for part in self.parts}))

    @property
    def everyone(self) -> tuple[int, ...]:
        """Ranks that have a part, and the VAE's."""
        return tuple(sorted({*self.ranks, self.vae_rank}))

    def steps_on(self, rank: int) -> dict[int, tuple[int, ...]]:
        """Step → its layers on a rank."""
        found: dict[int, list[int]] = {}
        for part in self.parts:
            if part.rank == rank:
                found.setdefault(part.step, []).extend(range(*part.layers))
        return {step: tuple(sorted(layers)) for step, layers in found.items()}

    def layers_on(self, rank: int) -> tuple[int, ...]:
        """All layers that a rank holds, of whatever step."""
        return tuple(sorted({n for layers in self.steps_on(rank).values() for n in layers}))


def _way(plan: Plan, step: int, layers: int) -> list[Part]:
    cells = sorted(
        (stage.layers, stage.rank)
        for stage in plan.stages
        if stage.steps[0] <= step < stage.steps[1]
    )
    way: list[Part] = []
    reached = 0
    for (first, end), rank in cells:
        if first != reached or end <= first:
            raise ValueError(
                f"layers {first}-{end} of step {step} follow layer {reached}: every layer of a "
                "step lies on one rank"
            )
        if way and way[-1].rank == rank:
            way[-1] = Part(step, rank, (way[-1].layers[0], end))
        else:
            way.append(Part(step, rank, (first, end)))
        reached = end
    if reached != layers:
        raise ValueError(f"layers {reached}-{layers} of step {step} lie on no rank")
    return way


def _runs(plan: Plan, hops: set[tuple[int, int]]) -> tuple[Run, ...]:
    held: dict[int, set[int]] = {}
    for stage in plan.stages:
        held.setdefault(stage.rank, set()).update(range(*stage.layers))
    spans = sorted((span, rank) for rank, layers in held.items() for span in _spans(sorted(layers)))
    sources: list[int | None] = []
    taps: list[list[tuple[int, int]]] = [[] for _ in spans]
    for (first, _), rank in spans:
        if first == 0:
            sources.append(None)
            continue
        # A neighbour that blocks come from anyway, else the lowest rank.
        source = min(
            (
                n
                for n, ((begin, end), other) in enumerate(spans)
                if other != rank and begin < first <= end
            ),
            key=lambda n: ((spans[n][1], rank) not in hops, spans[n][1]),
        )
        sources.append(source)
        taps[source].append((first, rank))
    return tuple(
        Run(rank, span, sources[n], tuple(sorted(taps[n]))) for n, (span, rank) in enumerate(spans)
    )


def _spans(layers: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges without a gap: 0 1 2 5 6 → (0, 3), (5, 7)."""
    spans: list[tuple[int, int]] = []
    for n in layers:
        if spans and spans[-1][1] == n:
            spans[-1] = spans[-1][0], n + 1
        else:
            spans.append((n, n + 1))
    return spans

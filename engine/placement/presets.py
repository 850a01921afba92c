"""The modes as presets of one type: who owns which steps and layers, and how weights get there.

Pure arithmetic on counts: nothing here knows bytes (``memory``) or verdicts (``verdict``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.checkpoint.expected import Wrap
from engine.placement.plan import (
    DType,
    HostStream,
    Lead,
    Mode,
    PeerGather,
    Resident,
    Stage,
    Variant,
    Weights,
)

#: What a finished block costs the VAE's rank, in denoising steps. At the shape of the 14B decoding
#: alone was measured at 70 ms beside steps of 208 ms; the frames are copied and handed on besides.
VAE_STEPS: Final = 0.4
#: Layers that lie on the device at once when weights are streamed: one computes, two are copied.
SLOTS: Final = 3


@dataclass(frozen=True)
class Choice:
    """One way to place a request. ``resident_layers`` None: as many as fit.

    ``vae_share`` scales the work that the VAE's rank is spared for it, where cuts are free.
    """

    mode: Mode
    dit_ranks: int
    dtype: DType
    kv_dtype: DType
    own_vae: bool = False
    variant: Variant = ""
    kv: Literal["device", "host"] = "device"
    wrap: Wrap = "block"
    slots: int = SLOTS
    resident_layers: int | None = None
    vae_share: float = 1.0
    lead: Lead = "own"

    @property
    def streams(self) -> bool:
        """Whether weights come from the host."""
        return self.mode == "offload" or self.variant == "streamed"

    @property
    def world(self) -> int:
        return self.dit_ranks + self.own_vae


@dataclass(frozen=True)
class Layout:
    """A preset applied: the parts of a plan that are not bytes."""

    stages: tuple[Stage, ...]
    weights: Weights
    vae_rank: int
    encoder_rank: int
    order: Literal["sequential", "diagonal"]


def lay_out(choice: Choice, steps: int, layers: int) -> Layout:
    """Stages, weights and roles of ``choice`` for ``steps`` and a DiT of ``layers``."""
    ranks = choice.dit_ranks
    spared = 0.0 if choice.own_vae else VAE_STEPS * layers * choice.vae_share
    match choice.mode, choice.variant:
        case "tpp", "ring":
            stages = cut_layers(steps, ranks, layers, spared)
        case "tpp", "balanced":
            stages = cut_cells(steps, ranks, layers, spared)
        case "tpp", "streamed" if ranks > steps:
            stages = cut_cells(steps, ranks, layers, spared)
        case _:
            stages = cut_steps(steps, ranks, layers)
    weights: Weights = Resident()
    if choice.streams:
        weights = HostStream(slots=choice.slots, resident_layers=choice.resident_layers or 0)
    elif choice.mode == "fsdp":
        weights = PeerGather(tuple(range(ranks)), choice.wrap)
    vae_rank = ranks if choice.own_vae else stages[-1].rank
    return Layout(
        stages=stages,
        weights=weights,
        vae_rank=vae_rank,
        encoder_rank=vae_rank if choice.own_vae else 0,
        order="sequential" if choice.mode == "single" else "diagonal",
    )


def cut_steps(steps: int, ranks: int, layers: int) -> tuple[Stage, ...]:
    """Contiguous stages, as even as they can be; earlier ranks take what is left over.

    Ranks beyond the number of steps get no stage: they are ghosts.
    """
    stages, first = [], 0
    for rank in range(min(steps, ranks)):
        count = steps // ranks + (rank < steps % ranks)
        stages.append(Stage(rank, (first, first + count), (0, layers)))
        first += count
    return tuple(stages)


def cut_cells(steps: int, ranks: int, layers: int, spared: float = 0.0) -> tuple[Stage, ...]:
    """The walk of all steps' layers, laid end to end, cut into even runs.

    ``spared``: cells of work (one layer of one step) that the last rank does beside them.
    """
    stages = []
    for rank, (begin, end) in enumerate(_runs(steps * layers, ranks, spared)):
        while begin < end:
            step, layer = divmod(begin, layers)
            if layer == 0 and end - begin >= layers:  # whole steps make one stage
                whole = (end - begin) // layers
                stages.append(Stage(rank, (step, step + whole), (0, layers)))
                begin += whole * layers
            else:
                until = min(layers, layer + end - begin)
                stages.append(Stage(rank, (step, step + 1), (layer, until)))
                begin += until - layer
    return tuple(stages)


def cut_layers(steps: int, ranks: int, layers: int, spared: float = 0.0) -> tuple[Stage, ...]:
    """Each rank a range of layers for all steps; ``spared`` counts cells as in ``cut_cells``."""
    return tuple(
        Stage(rank, (0, steps), run)
        for rank, run in enumerate(_runs(layers, ranks, spared / steps))
        if run[0] < run[1]
    )


def _runs(total: int, ranks: int, spared: float) -> list[tuple[int, int]]:
    """``total`` units in ``ranks`` contiguous runs; the last is shorter by up to ``spared``.

    Every rank gets at least one unit where there are enough.
    """
    last = 0 if ranks == 1 else max(0.0, (total + spared) / ranks - spared)
    each = total if ranks == 1 else (total - last) / (ranks - 1)
    ends = [round(each * (rank + 1)) for rank in range(ranks - 1)]
    if total >= ranks:
        ends = [min(max(end, n + 1), total - (ranks - 1 - n)) for n, end in enumerate(ends)]
    ends.append(total)
    return list(zip([0, *ends[:-1]], ends, strict=True))


def cells_of(stages: Sequence[Stage], rank: int) -> int:
    """(step, layer) pairs that a rank computes."""
    return sum(
        (s.steps[1] - s.steps[0]) * (s.layers[1] - s.layers[0]) for s in stages if s.rank == rank
    )


def layers_of(stages: Sequence[Stage], rank: int) -> tuple[int, ...]:
    """The layers that a rank walks, in order."""
    return tuple(sorted({n for s in stages if s.rank == rank for n in range(*s.layers)}))

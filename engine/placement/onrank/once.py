"""What a job needs of some weights once: computed while loading, then the weights go.

The prompt's keys and values in every layer, and the modulation of every timestep, do not change
while a job runs. Their weights (a seventh of a layer, three quarters of what is not a layer) are
loaded one after another, used, and taken out of the network, so that they are neither held nor
streamed nor gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from engine.model.caches import JobMemory
from engine.model.dit import DiT
from engine.model.layers import Layer
from engine.placement.plan import Plan


class Source(Protocol):
    """Where weights come from (``engine.checkpoint.onrank.load.DiTSource``)."""

    def fill(self, modules: nn.Module | list[nn.Module], device: torch.device | str) -> int: ...


@dataclass(frozen=True)
class Once:
    """What is computed once: from the prompt's embedding ``[L, text_dim]``, and for timesteps."""

    context: Tensor
    timesteps: Sequence[float]


def leaves_nothing_behind(plan: Plan) -> bool:
    """Whether a plan's ranks compute it while loading. The reference's wrapping keeps all."""
    return plan.weights.kind != "peer_gather" or plan.weights.wrap == "block"


def compute(
    dit: DiT, source: Source, once: Once, layers: Iterable[int], device: torch.device
) -> JobMemory:
    """Keys and values of ``layers`` (those of this rank), and the timesteps' modulation.

    ``dit`` is on meta. Afterwards it lacks the modules that were used, in every layer.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    cfg, numerics = dit.cfg, dit.numerics
    own = tuple(layers)
    job = JobMemory(own, cfg.text_len, cfg.num_heads, cfg.head_dim, numerics.compute, device)
    if own:
        source.fill([dit.time_embedding, dit.time_projection], device)
        for t in (0.0, *once.timesteps):  # conditioning has time 0
            job.times[t] = dit.embed_time(t)
        source.fill(dit.text_embedding, device)
        text = dit.text(once.context.to(device))
        for n in own:
            attention = cast(Layer, dit.blocks[n]).cross_attn
            source.fill([attention.k, attention.v, attention.norm_k], device)
            job.fill(n, attention.keys(text), attention.values(text))
            _remove(attention, "k", "v", "norm_k")
    _remove(dit, "time_embedding", "time_projection", "text_embedding")
    for layer in dit.blocks:
        _remove(cast(Layer, layer).cross_attn, "k", "v", "norm_k")
    return job


def _remove(module: nn.Module, *names: str) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

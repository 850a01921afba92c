"""Loading what a plan gives to a rank: shards, its own layers, or layers that stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypedDict

import torch
from torch import nn

from engine.model.caches import JobMemory
from engine.model.dit import DiT
from engine.placement.onrank import streamed, unshards
from engine.placement.onrank.executor import layers_of
from engine.placement.onrank.groups import Groups, dit_ranks
from engine.placement.onrank.hostweights import HostMemory
from engine.placement.onrank.observe import Network
from engine.placement.onrank.once import Once, compute, leaves_nothing_behind
from engine.placement.onrank.unshards import OnUnit, UnshardMeter
from engine.placement.plan import HostStream, Plan


class Books(unshards.Books, Protocol):
    """The ledger, as loading books in it."""

    def book(self, owner: str, size: int) -> None: ...


class Source(unshards.Source, streamed.Source, Protocol):
    """``engine.checkpoint.onrank.load.DiTSource``."""


class Outline(TypedDict):
    """Arguments of ``Generation`` that say which caches a rank has."""

    local_steps: tuple[int, ...]
    layers: tuple[int, ...]
    ring_layers: dict[int, tuple[int, ...]]
    lean: bool


@dataclass
class Loaded:
    """A rank's network, what it takes of the host, and what could not be had."""

    network: Network
    device: torch.device
    memory: HostMemory | None = None
    job: JobMemory | None = None  # what was computed once, while loading

    @property
    def remark(self) -> str | None:
        """What the operator should know of how the weights lie."""
        if self.memory is None or self.memory.unpinned_because is None:
            return None
        return (
            f"streamed weights are not pinned ({self.memory.unpinned_because}): copies are slower"
        )

    def close(self) -> None:
        if self.memory is not None:
            self.memory.close(self.device)


def outline(plan: Plan, rank: int) -> Outline:
    """Steps and layers of a rank, as its generation needs them."""
    own = layers_of(plan, rank)
    held = tuple(_held(plan, rank))
    return {"local_steps": tuple(sorted(own)), "layers": held, "ring_layers": own, "lean": True}


def load_network(
    plan: Plan,
    rank: int,
    dit: DiT,
    source: Source,
    groups: Groups,
    device: torch.device,
    books: Books,
    meter: UnshardMeter,
    *,
    prefetch: int = 0,
    on_unit: OnUnit | None = None,
    once: Once | None = None,
) -> Loaded:
    """Fill ``dit`` (on meta) as far as this rank needs it. Every rank of the job calls this.

    Args:
        prefetch: units that sharded weights gather ahead.
        on_unit: told the unit's name, how many are done, and of how many.
        once: computes what is needed once, and leaves its weights out.

    Raises:
        CheckpointError: the weights cannot be read.
        OSError: no host memory for streamed ones.
    """
    job = None
    if once is not None and leaves_nothing_behind(plan):
        job = compute(dit, source, once, _held(plan, rank), device)
    loaded = _load(plan, rank, dit, source, groups, device, books, meter, prefetch, on_unit)
    return dataclasses.replace(loaded, job=job)


def _load(
    plan: Plan,
    rank: int,
    dit: DiT,
    source: Source,
    groups: Groups,
    device: torch.device,
    books: Books,
    meter: UnshardMeter,
    prefetch: int,
    on_unit: OnUnit | None,
) -> Loaded:
    if plan.weights.kind == "peer_gather":
        if groups.mesh is not None:
            from engine.placement.onrank.sharded import shard  # late: FSDP is slow to import

            size = shard(
                dit,
                source,
                groups.mesh,
                device,
                meter,
                prefetch=prefetch,
                wrap=plan.weights.wrap,
                on_unit=on_unit,
            )
            books.book("weights", size)
        elif rank in dit_ranks(plan):  # a group of one gathers nothing
            _fill(dit, source, device, books, range(dit.cfg.num_layers), on_unit)
        return Loaded(dit.eval(), device)
    if isinstance(plan.weights, HostStream):
        return _stream(plan, plan.weights, rank, dit, source, groups, device, books, on_unit)
    if own := _held(plan, rank):
        _fill(dit, source, device, books, own, on_unit)
    return Loaded(dit.eval(), device)


def _stream(
    plan: Plan,
    weights: HostStream,
    rank: int,
    dit: DiT,
    source: Source,
    groups: Groups,
    device: torch.device,
    books: Books,
    on_unit: OnUnit | None,
) -> Loaded:
    flowing = _flowing(plan, weights, rank)
    everyones = {n for walker in dit_ranks(plan) for n in _flowing(plan, weights, walker)}
    network, memory = streamed.stream(
        dit,
        source,
        groups,
        device,
        books,
        layers=flowing,
        everyones=sorted(everyones),
        slots=weights.slots,
        pinned=weights.pinned,
        on_unit=on_unit,
    )
    if own := _held(plan, rank):
        resident = [n for n in own if n not in flowing]
        _fill(dit, source, device, books, resident, on_unit)
    dit.eval()
    return Loaded(network, device, memory)


def _held(plan: Plan, rank: int) -> list[int]:
    return sorted({n for layers in layers_of(plan, rank).values() for n in layers})


def _flowing(plan: Plan, weights: HostStream, rank: int) -> list[int]:
    """Layers that a rank streams: all but its first ``resident_layers``."""
    return _held(plan, rank)[weights.resident_layers :]


def _fill(
    dit: DiT,
    source: Source,
    device: torch.device,
    books: Books,
    layers: Iterable[int],
    on_unit: OnUnit | None,
) -> None:
    """Layers with their injectors, then all that is neither: the root."""
    chosen = list(layers)
    size = 0
    for done, n in enumerate(chosen):
        size += source.fill(streamed.modules_of(dit, n), device)
        books.book("weights", size)
        if on_unit is not None:
            on_unit(f"layer {n}", done + 1, len(chosen) + 1)
    size += source.fill(_root(dit), device)
    books.book("weights", size)
    if on_unit is not None:
        on_unit("root", len(chosen) + 1, len(chosen) + 1)


def _root(dit: DiT) -> list[nn.Module]:
    """Everything but layers and injectors."""
    return [m for name, m in dit.named_children() if name not in ("blocks", "audio_injector")]


__all__ = ["Loaded", "Outline", "load_network", "outline"]

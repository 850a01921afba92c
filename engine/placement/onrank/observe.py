"""What executors are given and what they give: the network, an observer, finished blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from engine.model.config import BLOCK_LATENTS
from engine.model.dit import Item
from engine.model.generate import Generation
from engine.model.layers import State
from engine.placement.onrank.groups import Groups
from engine.placement.onrank.schedule import Tick, Work
from engine.placement.plan import Plan


class Network(Protocol):
    """The DiT as executors call it: whole, or layer by layer (``engine.model.dit.DiT``)."""

    def __call__(self, items: Sequence[Item]) -> list[Tensor | None]: ...
    def embed(self, items: Sequence[Item]) -> list[State]: ...
    def run_layer(self, n: int, states: Sequence[State]) -> None: ...
    def finish(self, states: Sequence[State]) -> list[Tensor | None]: ...


class Observer(Protocol):
    """What is told while an executor works."""

    def window(self, label: str) -> AbstractContextManager[None]:
        """Entered around every walk over layers."""
        ...

    def caches(self, generation: Generation) -> None:
        """Caches were made or dropped for the walk that follows; told within its window."""
        ...

    def tick_done(self, tick: Tick, mine: tuple[Work, ...], seconds: float) -> None:
        """One walk ended on this rank; ``mine`` are the steps whose layers it computed.

        All layers of them, or its own where a step is cut over ranks: each says its part.
        ``seconds`` is the time of this rank's work on all of them together.
        """
        ...

    def done(self, step: int, block: int, latent: Tensor | None) -> None:
        """This rank's layers of one step of one block are computed, all of them.

        ``latent`` is what the step made of the block, on the rank that ended it.
        """
        ...


class Quiet:
    """An observer that looks at nothing."""

    def window(self, label: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def caches(self, generation: Generation) -> None:
        """Nothing is booked."""

    def tick_done(self, tick: Tick, mine: tuple[Work, ...], seconds: float) -> None:
        """Nothing is noted."""

    def done(self, step: int, block: int, latent: Tensor | None) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class Finished:
    """A block's final latent ``[16,3,h,w]``, on the VAE's rank."""

    block: int
    latent: Tensor


@dataclass(frozen=True)
class Duty:
    """One rank's part in one video: what every executor begins with.

    ``generation`` holds the rings of this rank's steps and layers (``executor.steps_of``,
    ``layers_of``). ``network`` is the DiT, with the layers of this rank at the least; with sharded
    weights every rank of the DiT calls it in every walk, with an empty list if need be. ``frame``
    is latent height and width. ``stop`` is asked at boundaries, on the first rank; True ends the
    video after the clip in progress.
    """

    plan: Plan
    rank: int
    generation: Generation
    network: Network
    groups: Groups
    frame: tuple[int, int]
    stop: Callable[[], bool]
    observer: Observer

    @property
    def latent(self) -> tuple[int, int, int, int]:
        """The shape of a block's latent."""
        return (self.generation.cfg.out_dim, BLOCK_LATENTS, *self.frame)


class Executor(Protocol):
    """One rank's part in one video (``executor.executor_for``)."""

    @property
    def clips(self) -> int:
        """Clips that will be made, as things stand (a stop lowers it)."""
        ...

    def run(self) -> Iterator[Finished]:
        """Work until the video is done. Yields finished blocks in order on the VAE's rank."""
        ...

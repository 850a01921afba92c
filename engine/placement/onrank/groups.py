"""Who talks with whom in a group of ranks, made from the plan once.

Every rank makes every group, in the same order, members or not: beside a bound NCCL device torch
splits the world's communicator for each, which all ranks must take part in. For the same reason
gloo groups hold every rank: a rank outside one would wait for a split that its members never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from engine.placement.plan import Plan

#: A pipeline may be idle for long; dead peers are noticed by their closed connections.
_IDLE: Final = timedelta(days=30)


@dataclass(frozen=True)
class Groups:
    """Process groups of one rank. ``None`` where there is nobody to talk with.

    ``world`` is a gloo group of all ranks, for host tensors; ``notes`` another, whose messages may
    be waited for without a limit. ``walkers`` are the ranks of the DiT. ``mesh`` shards the
    weights.
    """

    rank: int
    walkers: tuple[int, ...]
    world: dist.ProcessGroup | None = None
    notes: dist.ProcessGroup | None = None
    mesh: DeviceMesh | None = None

    def barrier(self, *, patient: bool = False) -> None:
        """Wait for every rank of the job; ``patient``: without a limit, as others may work on."""
        if self.world is not None:
            dist.barrier(group=self.notes if patient else self.world)

    def from_rank(self, src: int, tensor: Tensor) -> Tensor:
        """``tensor`` (host memory, equal shape on all ranks) as rank ``src`` has it."""
        if self.world is not None:
            dist.broadcast(tensor, src, group=self.world)
        return tensor

    def agree(self, word: int) -> int:
        """The first walker's ``word``, on every walker."""
        if self.world is None or len(self.walkers) == 1:
            return word
        # Not a broadcast in a group of the walkers: see the module's first words.
        first, *rest = self.walkers
        box = torch.tensor([word], dtype=torch.int64)
        if self.rank == first:
            for rank in rest:
                dist.send(box, rank, group=self.world)
        else:
            dist.recv(box, first, group=self.world)
        return int(box.item())


def dit_ranks(plan: Plan) -> tuple[int, ...]:
    """Ranks that hold weights of the DiT, ghosts included."""
    if plan.weights.kind == "peer_gather":
        return plan.weights.group
    return tuple(sorted({stage.rank for stage in plan.stages}))


def make_groups(plan: Plan, rank: int, device: torch.device, seconds: float) -> Groups:
    """Make the groups of ``plan``; every rank of an initialised world must call this.

    Args:
        seconds: time limit of every collective.
    """
    walkers = dit_ranks(plan)
    if plan.world_size == 1:
        return Groups(rank, walkers)
    limit = timedelta(seconds=seconds)
    everyone = list(range(plan.world_size))
    world = dist.new_group(everyone, timeout=limit, backend="gloo")
    notes = dist.new_group(everyone, timeout=_IDLE, backend="gloo")
    mesh = None
    if plan.weights.kind == "peer_gather":
        # Where all ranks shard, the world's own communicator serves: each costs device memory.
        shards = dist.group.WORLD
        if len(walkers) < plan.world_size:
            shards = dist.new_group(list(walkers), timeout=limit)
        if rank in walkers:
            assert shards is not None  # the world is initialised
            mesh = DeviceMesh.from_group(shards, device.type)
    return Groups(rank, walkers, world, notes, mesh)

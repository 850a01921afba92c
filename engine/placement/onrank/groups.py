"""Who talks with whom in a group of ranks, made from the plan once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from engine.placement.plan import Plan, Resident


@dataclass(frozen=True)
class Groups:
    """Process groups of one rank. ``None`` where there is nobody to talk with.

    ``world`` is a gloo group of all ranks, for small host tensors. ``walkers`` are the ranks of
    the DiT. ``mesh`` shards the weights. ``sink`` joins the last stage and a VAE rank of its own.
    """

    rank: int
    walkers: tuple[int, ...]
    world: dist.ProcessGroup | None
    mesh: DeviceMesh | None
    sink: dist.ProcessGroup | None

    def barrier(self) -> None:
        """Wait for every rank of the job."""
        if self.world is not None:
            dist.barrier(group=self.world)

    def from_rank(self, src: int, tensor: Tensor) -> Tensor:
        """``tensor`` (host memory, equal shape on all ranks) as rank ``src`` has it."""
        if self.world is not None:
            dist.broadcast(tensor, src, group=self.world)
        return tensor

    def agree(self, word: int) -> int:
        """The first walker's ``word``, on every walker."""
        if self.world is None or len(self.walkers) == 1:
            return word
        # Not a broadcast in a group of the walkers: beside a bound NCCL device, torch makes ranks
        # outside a new gloo group wait for a communicator that nobody else makes.
        first, *rest = self.walkers
        box = torch.tensor([word], dtype=torch.int64)
        if self.rank == first:
            for rank in rest:
                dist.send(box, rank, group=self.world)
        else:
            dist.recv(box, first, group=self.world)
        return int(box.item())


def dit_ranks(plan: Plan) -> tuple[int, ...]:
    """Ranks that walk the DiT's layers, ghosts included."""
    if isinstance(plan.weights, Resident):
        return tuple(sorted({stage.rank for stage in plan.stages}))
    if plan.weights.kind == "peer_gather":
        return plan.weights.group
    raise ValueError(f"weights of kind {plan.weights.kind} are not built")


def make_groups(plan: Plan, rank: int, device: torch.device, seconds: float) -> Groups:
    """Make the groups of ``plan``; every rank of an initialised world must call this.

    Args:
        seconds: time limit of every collective.
    """
    walkers = dit_ranks(plan)
    if plan.world_size == 1:
        return Groups(rank, walkers, None, None, None)
    limit = timedelta(seconds=seconds)
    everyone = list(range(plan.world_size))
    world = dist.new_group(everyone, timeout=limit, backend="gloo")
    # Where all ranks shard, the world's own communicator serves: each costs device memory.
    shards, sink = dist.group.WORLD, None
    if plan.vae_rank not in walkers:
        shards = dist.new_group(list(walkers), timeout=limit)
        sink = dist.new_group([plan.stages[-1].rank, plan.vae_rank], timeout=limit)
    mesh = None
    if rank in walkers and plan.weights.kind == "peer_gather":
        assert shards is not None  # the world is initialised
        mesh = DeviceMesh.from_group(shards, device.type)
    return Groups(rank, walkers, world, mesh, sink)

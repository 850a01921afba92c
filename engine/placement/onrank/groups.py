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

    ``world`` and ``control`` are gloo groups for small host tensors (all ranks; the ranks of the
    DiT). ``mesh`` shards the weights. ``sink`` joins the last stage and a VAE rank of its own.
    """

    world: dist.ProcessGroup | None
    control: dist.ProcessGroup | None
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
        """Rank 0's ``word``, on every rank of the DiT."""
        if self.control is None:
            return word
        box = torch.tensor([word], dtype=torch.int64)
        dist.broadcast(box, 0, group=self.control)
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
    if plan.world_size == 1:
        return Groups(None, None, None, None)
    limit = timedelta(seconds=seconds)
    walkers = dit_ranks(plan)
    everyone = list(range(plan.world_size))
    world = dist.new_group(everyone, timeout=limit, backend="gloo")
    control = dist.new_group(list(walkers), timeout=limit, backend="gloo")
    shards = dist.new_group(list(walkers), timeout=limit)
    sink = None
    if plan.vae_rank not in walkers:
        sink = dist.new_group([plan.stages[-1].rank, plan.vae_rank], timeout=limit)
    mesh = None
    if rank in walkers and plan.weights.kind == "peer_gather":
        mesh = DeviceMesh.from_group(shards, device.type)
    return Groups(world, control if rank in walkers else None, mesh, sink)

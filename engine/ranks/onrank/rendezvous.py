"""How the ranks of one group find each other."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist

from engine.ranks.protocol import RankSpec

_BACKLOG: Final = 256
#: Bytes of each of NCCL's many buffers where memory is short; its default is four times as much.
_SMALL_BUFFERS: Final = str(1 << 20)


def init_group(spec: RankSpec, *, timeout: float = 120.0) -> None:
    """Join the process group of this job; a world of one needs none.

    Rank 0 serves the store on ``spec.master_addr`` alone: torch's own listener would be open on
    every interface, to anybody. ``timeout`` (seconds) bounds the rendezvous and every collective.

    Raises:
        torch.distributed.DistError: a peer did not come, or the port is taken.
        OSError: the port cannot be listened on.
    """
    if spec.world_size == 1:
        return
    if spec.gpu_memory_cap is not None:
        os.environ.setdefault("NCCL_BUFFSIZE", _SMALL_BUFFERS)
    wait = timedelta(seconds=timeout)
    listener: int | None = None
    if spec.rank == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            # The engine holds this port bound, not listening, so that nobody else gets it.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((spec.master_addr, spec.master_port))
            server.listen(_BACKLOG)
            listener = server.detach()
    store = dist.TCPStore(  # type: ignore[attr-defined]
        spec.master_addr,
        spec.master_port,
        spec.world_size,
        is_master=spec.rank == 0,
        timeout=wait,
        master_listen_fd=listener,
    )
    device = torch.device(spec.device) if spec.backend == "nccl" else None
    dist.init_process_group(
        spec.backend,
        store=store,
        rank=spec.rank,
        world_size=spec.world_size,
        timeout=wait,
        device_id=device,
    )


def leave_group() -> None:
    """Give up the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()

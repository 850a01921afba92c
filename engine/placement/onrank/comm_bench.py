"""How long a hop and an all-reduce take between these ranks: medians over many repetitions.

Each operation is timed alone on every rank and the slowest rank's median counts. A hop is half of
a round trip between two neighbours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import torch
import torch.distributed as dist

from engine.ranks.onrank.rendezvous import init_group, leave_group
from engine.ranks.onrank.report import Control, Reporter
from engine.ranks.protocol import RankSpec

#: Bytes: a note, a block's latents of a small picture, one of a large one.
SIZES: Final = (4 << 10, 256 << 10, 4 << 20)
_WARM: Final = 5
_TIMES: Final = 40
_LIMIT_SECONDS: Final = 60.0


def run(spec: RankSpec, report: Reporter, control: Control) -> None:  # noqa: ARG001
    """A rank's job: reports ``latency``, seconds by "operation bytes"; needs two ranks or more."""
    init_group(spec, timeout=_LIMIT_SECONDS)
    device = torch.device(spec.device)
    report.phase("running")
    found: dict[str, float] = {}
    for size in SIZES:
        tensor = torch.zeros(size // 4, dtype=torch.float32, device=device)
        found[f"all_reduce {size}"] = _median(partial(dist.all_reduce, tensor), device)
        hop = _median(partial(_round_trip, tensor, spec.rank), device) / 2
        if spec.rank < 2:
            found[f"hop {size}"] = hop
    report.send("result", latency=found)
    leave_group()


def _round_trip(tensor: torch.Tensor, rank: int) -> None:
    """There and back between ranks 0 and 1; the others have no part in it."""
    if rank == 0:
        dist.send(tensor, 1)
        dist.recv(tensor, 1)
    elif rank == 1:
        dist.recv(tensor, 0)
        dist.send(tensor, 0)


def _median(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call; every rank begins together."""
    spans = []
    for number in range(_WARM + _TIMES):
        dist.barrier()
        _settle(device)
        begun = time.perf_counter()
        work()
        _settle(device)
        if number >= _WARM:
            spans.append(time.perf_counter() - begun)
    return statistics.median(spans)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

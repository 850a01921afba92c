"""Weights sharded over ranks by FSDP2 (its public API alone), every unshard measured.

A unit is a transformer block, an injector with its AdaIN layer, or the root. One call of the DiT
gathers each unit once, runs all of the rank's work items through it, and gives it up again; ranks
without items take part all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from engine.checkpoint.expected import Wrap
from engine.model.dit import DiT
from engine.placement.onrank.unshards import OnUnit, Source, UnshardMeter

# torch 2.13 renames the collective and warns of the older name.
_all_gather: Callable[..., Any] = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


class MeasuredAllGather:
    """The all-gather of one unit, for ``FSDPModule.set_custom_all_gather``."""

    def __init__(self, unit: str, meter: UnshardMeter) -> None:
        self.unit = unit
        self.meter = meter

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        self.meter.begin(self.unit)
        buffer = torch.empty(tuple(size), dtype=dtype, device=device)
        self.meter.buffer(buffer)
        return buffer

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        async_op: bool = False,
    ) -> Any:
        events = None
        if output_tensor.is_cuda:
            events = _event(), _event()
            events[0].record()
        began = time.perf_counter()
        work = _all_gather(output_tensor, input_tensor, group=group, async_op=async_op)
        if events is not None:
            events[1].record()
        self.meter.gathered(self.unit, time.perf_counter() - began, events)
        return work


def shard(
    dit: DiT,
    source: Source,
    mesh: DeviceMesh,
    device: torch.device,
    meter: UnshardMeter,
    *,
    prefetch: int,
    wrap: Wrap = "block",
    on_unit: OnUnit | None = None,
) -> int:
    """Shard ``dit`` (on meta) unit by unit, then fill this rank's shards: none is ever whole.

    Args:
        prefetch: units gathered ahead of their use; 0 gathers each when it is needed.
        wrap: "reference" leaves all but the layers in one unit, as the reference does.
        on_unit: told the unit's name, how many are done, and of how many.

    Returns the bytes of this rank's shards, padding included.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    units = source.units(dit)
    if wrap == "reference":
        units = [unit for unit in units if not unit[0].startswith("injector")]
    ranks, size = mesh.size(), 0
    names = {id(p): name for name, p in dit.named_parameters()}
    inside: list[tuple[str, list[str]]] = []
    for name, modules in units:
        params = {
            id(p): p
            for module in modules
            for p in module.parameters()
            if not hasattr(p, "to_local")  # those of inner units are sharded already
        }
        inside.append((name, [names[one] for one in params]))
        size += _shard_unit(name, modules, list(params.values()), mesh, meter) // ranks
    dit.to_empty(device=device)
    for number, (name, own) in enumerate(inside):
        shares = {path: _local(dit.get_parameter(path)) for path in own}
        source.fill_share(shares, mesh.get_local_rank(), ranks)
        if on_unit is not None:
            on_unit(name, number + 1, len(units))
    _order_prefetch(dit, prefetch)
    dit.eval()
    return size


def _local(parameter: Tensor) -> Tensor:
    """The rows of a sharded parameter that this rank has, of which there may be none."""
    assert isinstance(parameter, DTensor)
    return parameter.to_local()


def _shard_unit(
    name: str,
    modules: list[nn.Module],
    params: Sequence[Tensor],
    mesh: DeviceMesh,
    meter: UnshardMeter,
) -> int:
    """Returns the unit's gathered bytes, padding included."""
    ranks = mesh.size()
    size = sum(p.nbytes for p in params)
    padded = sum(-(-len(p) // ranks) * ranks * (p.nbytes // len(p)) for p in params)
    # Two modules that are used one after the other make one unit.
    target: Any = modules if len(modules) > 1 else modules[0]
    fully_shard(target, mesh=mesh, reshard_after_forward=True)
    first, last = modules[0], modules[-1]
    assert isinstance(first, FSDPModule)
    gather: Any = MeasuredAllGather(name, meter)
    first.set_custom_all_gather(gather)
    first.register_forward_pre_hook(lambda *_: meter.ready(name, size, padded))
    last.register_forward_hook(lambda *_: meter.over(padded))
    return padded


def _order_prefetch(dit: DiT, depth: int) -> None:
    """Tell every unit which ones to gather ahead, in the order of the walk."""
    walk: list[Any] = [dit]
    for n, layer in enumerate(dit.blocks):
        walk.append(layer)
        if (k := dit.cfg.injector_of(n)) is not None:
            injector = dit.audio_injector.injector_adain_layers[k]
            if isinstance(injector, FSDPModule):  # not where it is of the root's unit
                walk.append(injector)
    for at, unit in enumerate(walk):
        # A unit already on its way is not gathered twice, so overlapping lists do no harm.
        unit.set_modules_to_forward_prefetch(walk[at + 1 : at + 1 + depth])

"""Slabs: a unit's parameters in one piece of memory, each starting at a multiple of 256 bytes.

Equal alignment everywhere makes kernels choose equally, whatever the mode: tensors as they lie in
a mapped safetensors file are not aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

ALIGNMENT: Final = 256

#: ``allocate(bytes, device)`` → uint8 tensor ``[bytes]`` that starts on the alignment.
Allocator = Callable[[int, torch.device], Tensor]


@dataclass(frozen=True)
class Spec:
    """dtype and shape of one tensor to be."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def allocate(size: int, device: torch.device) -> Tensor:
    """Uninitialised memory ``[size]`` uint8 on ``device``, its start aligned."""
    raw = torch.empty(size + ALIGNMENT, dtype=torch.uint8, device=device)
    start = -raw.data_ptr() % ALIGNMENT
    return raw[start : start + size]


def slab_bytes(specs: Mapping[str, Spec]) -> int:
    """Bytes of a slab that holds ``specs``, padding between them included."""
    return sum(spec.bytes + -spec.bytes % ALIGNMENT for spec in specs.values())


def carve(
    specs: Mapping[str, Spec], device: torch.device, allocator: Allocator = allocate
) -> dict[str, Tensor]:
    """One slab and the tensors of ``specs`` as aligned views of it, in their order."""
    slab = allocator(slab_bytes(specs), device)
    views: dict[str, Tensor] = {}
    at = 0
    for name, spec in specs.items():
        views[name] = slab[at : at + spec.bytes].view(spec.dtype).view(spec.shape)
        at += spec.bytes + -spec.bytes % ALIGNMENT
    return views

"""Linears with fp8 weights: one scale per output row, inputs quantised per token.

Weights are ``float8_e4m3fn`` with a float32 scale for each row; what enters is scaled token by
token to the same format, and the product leaves in the compute dtype. On a GPU from sm_89 on it is
one call (``torch._scaled_mm``, row-wise scales); elsewhere the same numbers are multiplied in
float32, so that a CPU rank computes what is meant, only slowly.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.accel import kernels_for
from engine.model.config import FP8, FP8_MAX, FP8_TINY

#: Oldest compute capability with fp8 products.
CAPABILITY = (8, 9)

#: What the scales of a parameter ``weight`` are called: its name with this at the end.
SCALE = "_scale"

# Rows of a weight that are quantised at once.
_ROWS = 1024
# Both sides of a matrix must be multiples of this for the GPU's product.
_TILE = 16


class Rows8(NamedTuple):
    """``data [L, C]`` in fp8 with ``scale [L, 1]`` float32; stands for a tensor of ``dtype``."""

    data: Tensor
    scale: Tensor
    dtype: torch.dtype


def quantise_rows(x: Tensor) -> Rows8:
    """Each row of ``x [L, C]`` scaled so that its largest element is fp8's."""
    kernels = kernels_for(x)
    data, scale = quantise_weight(x) if kernels is None else kernels.quantise(x, gelu=False)
    return Rows8(data, scale, x.dtype)


def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight ``[N, K]`` → fp8 and its scales ``[N, 1]`` float32, one per output row."""
    wide = weight.float()
    scale = wide.abs().amax(dim=1, keepdim=True).clamp_min(FP8_TINY) / FP8_MAX
    return (wide / scale).clamp_(-FP8_MAX, FP8_MAX).to(FP8), scale


def quantise_into(weight: Tensor, data: Tensor, scale: Tensor) -> None:
    """``quantise_weight`` of ``weight [N, K]`` into ``data [N, K]`` and ``scale [N]``.

    Some rows at a time: float32 copies of a whole weight would be the largest tensors of a load.
    """
    for rows, to, scales in zip(
        *(torch.split(t, _ROWS) for t in (weight, data, scale)), strict=True
    ):
        made, found = quantise_weight(rows)
        to.copy_(made)
        scales.copy_(found[:, 0])


def product(x: Rows8, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """``x [L, K]`` times the transpose of ``weight [N, K]`` with ``scale [N]`` → ``[L, N]``."""
    if bias is not None:
        bias = bias.to(x.dtype)
    if x.data.is_cuda and _tiles(weight) and _capable(x.data.device.index):
        # With scales per row its results come in bfloat16 alone.
        out = torch._scaled_mm(
            x.data,
            weight.t(),
            scale_a=x.scale,
            scale_b=scale[None],
            bias=None if bias is None else bias.to(torch.bfloat16),
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return out.to(x.dtype)
    wide = F.linear(x.data.float(), weight.float()) * x.scale * scale
    return (wide if bias is None else wide + bias).to(x.dtype)


@functools.cache
def _capable(index: int | None) -> bool:
    return torch.cuda.get_device_capability(index) >= CAPABILITY


def _tiles(weight: Tensor) -> bool:
    return all(side % _TILE == 0 for side in weight.shape)


class Linear8(nn.Module):
    """A linear layer with an fp8 weight, named as the plain one's, and ``weight_scale [N]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, dtype=FP8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.ones(outputs), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)

    def forward(self, x: Tensor | Rows8) -> Tensor:
        """``x […, K]``, or rows already quantised, → ``[…, N]`` in the dtype it stands for."""
        if isinstance(x, Rows8):
            return product(x, self.weight, self.weight_scale, self.bias)
        rows = quantise_rows(x.reshape(-1, x.shape[-1]))
        out = product(rows, self.weight, self.weight_scale, self.bias)
        return out.reshape(*x.shape[:-1], -1)

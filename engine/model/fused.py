"""The layer's memory-bound operations: what each computes, and the kernel that does it in one pass.

The definitions in torch are what runs on CPU ranks. On a GPU ``engine.model.kernels`` computes
the same with the same roundings between; the results differ by the order of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.accel import kernels_for
from engine.model.fp8 import Rows8, quantise_rows
from engine.model.rope import rotate


def plain_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm without weights, computed in float32, result in ``x``'s dtype."""
    return F.layer_norm(x.float(), (x.shape[-1],), None, None, eps).to(x.dtype)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x·(1 + scale) + shift`` in the modulation's dtype."""
    return x * (1 + scale) + shift


@dataclass(frozen=True)
class Modulated:
    """Norm without weights, then ``·(1 + scale) + shift``.

    Scale and shift are ``[C]``, or ``[G, C]`` for G groups of as many rows each.
    """

    scale: Tensor
    shift: Tensor
    eps: float

    def plain(self, x: Tensor) -> Tensor:
        z = plain_norm(x, self.eps)
        if self.scale.dim() == 1:
            return modulate(z, self.scale, self.shift)
        grouped = z.reshape(len(self.scale), -1, z.shape[-1])
        return modulate(grouped, self.scale[:, None], self.shift[:, None]).flatten(0, 1)


@dataclass(frozen=True)
class Affine:
    """Norm with weight and bias ``[C]`` of its input rounded to ``rounded``."""

    weight: Tensor
    bias: Tensor
    eps: float
    rounded: torch.dtype

    def plain(self, x: Tensor) -> Tensor:
        y = F.layer_norm(
            x.to(self.rounded).float(),
            (x.shape[-1],),
            self.weight.float(),
            self.bias.float(),
            self.eps,
        )
        return y.to(self.rounded)


Norm = Modulated | Affine


def norm(x: Tensor, how: Norm, out: torch.dtype, *, fp8: bool = False) -> Tensor | Rows8:
    """Norm of ``x [L, C]`` in ``out``'s dtype, or of that in fp8."""
    kernels = kernels_for(x)
    if kernels is None:
        z = how.plain(x).to(out)
        return quantise_rows(z) if fp8 else z
    found = kernels.add_norm(
        x, None, None, *_kernel(how), keep=None, rounded=_rounded(how, x), out=out, quantise=fp8
    )
    return _normed(found, out)


def add_norm(
    x: Tensor, y: Tensor, gate: Tensor | None, how: Norm, out: torch.dtype, *, fp8: bool = False
) -> tuple[Tensor, Tensor | Rows8]:
    """``x + y·gate`` in float32, and its norm in ``out``'s dtype, or of that in fp8.

    A ``gate [C]`` of None is 1; without one the sum has the wider dtype of ``x`` and ``y``.
    """
    kernels = kernels_for(x)
    total_dtype = torch.promote_types(x.dtype, y.dtype)
    if gate is not None:
        total_dtype = torch.promote_types(total_dtype, gate.dtype)
    if kernels is None:
        total = x + (y if gate is None else y * gate)
        z = how.plain(total).to(out)
        return total, quantise_rows(z) if fp8 else z
    rounded = how.rounded if isinstance(how, Affine) else total_dtype
    found = kernels.add_norm(
        x, y, gate, *_kernel(how), keep=total_dtype, rounded=rounded, out=out, quantise=fp8
    )
    return found[0], _normed(found, out)


def add(x: Tensor, y: Tensor, gate: Tensor, out: torch.dtype) -> Tensor:
    """``x + y·gate`` rounded once to ``out``."""
    kernels = kernels_for(x)
    if kernels is None:
        return (x + y * gate).to(out)
    total: Tensor = kernels.add_norm(
        x, y, gate, None, 0.0, keep=out, rounded=out, out=out, quantise=False
    )[0]
    return total


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the whole width, computed in float32, result in ``x``'s dtype."""
    y = F.rms_norm(x.float(), (x.shape[-1],), None, eps).to(x.dtype)
    return y * weight.to(x.dtype)


def norm_heads(
    x: Tensor, weight: Tensor, eps: float, heads: int, table: Tensor | None = None
) -> Tensor:
    """Root-mean-square norm over the full width of ``x […, C]``, split into heads, rotated.

    ``table [L, D/2]`` holds the rotations of ``x [L, C]``. Returns ``[…, H, D]``.
    """
    split = (*x.shape[:-1], heads, x.shape[-1] // heads)
    kernels = kernels_for(x)
    if kernels is None:
        y = rms_norm(x, weight, eps).reshape(split)
        return y if table is None else rotate(y, table)
    rows = x.reshape(-1, x.shape[-1])
    out: Tensor = kernels.norm_rotate(rows, weight, table, eps, split[-1])
    return out.reshape(split)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``gelu(x·weightᵀ + bias)`` in ``x``'s dtype; on a GPU within the product, in half types."""
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if x.is_cuda and x.dtype in (torch.bfloat16, torch.float16):
        return torch._addmm_activation(bias, x, weight.t(), use_gelu=True)
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def gelu_rows(x: Tensor) -> Rows8:
    """GELU of ``x [L, C]`` in its tanh form, rounded to ``x``'s dtype, then in fp8."""
    kernels = kernels_for(x)
    if kernels is not None:
        data, scale = kernels.quantise(x, gelu=True)
        return Rows8(data, scale, x.dtype)
    return quantise_rows(F.gelu(x, approximate="tanh"))


def _kernel(how: Norm) -> tuple[tuple[Tensor, Tensor, bool], float]:
    if isinstance(how, Affine):
        return (how.weight, how.bias, True), how.eps
    return (how.scale, how.shift, False), how.eps


def _rounded(how: Norm, x: Tensor) -> torch.dtype:
    return how.rounded if isinstance(how, Affine) else x.dtype


def _normed(
    found: tuple[Tensor | None, Tensor | None, Tensor | None], out: torch.dtype
) -> Tensor | Rows8:
    _, normed, scales = found
    assert normed is not None  # it was asked for
    return normed if scales is None else Rows8(normed, scales, out)

"""Two memory-bound steps of the VAE, each in one pass over a GPU's memory, with gradients.

Import only where Triton is. Rows are pixels, ``[…, C]`` with the channels last.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx

#: Elements that one program holds, and programs that share a gradient's sum.
TILE, PROGRAMS = 4096, 1056


@triton.jit
def _activate(x, bias, gamma, out, rows, width: tl.constexpr, block: tl.constexpr,
              many: tl.constexpr):  # fmt: skip
    c = tl.arange(0, block)
    r = tl.program_id(0).to(tl.int64) * many + tl.arange(0, many)
    inside = (r[:, None] < rows) & (c[None, :] < width)
    at = r[:, None] * width + c[None, :]
    b = tl.load(bias + c, mask=c < width, other=0.0)
    g = tl.load(gamma + c, mask=c < width, other=0.0)
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + b[None, :]
    v = tl.where(inside, v, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(v * v, 1) / width + 1e-8)
    n = v * scale[:, None] * g[None, :]
    tl.store(out + at, (n * tl.sigmoid(n)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _activate_back(x, bias, gamma, up, down, partial_b, partial_g, rows,
                   width: tl.constexpr, block: tl.constexpr, many: tl.constexpr,
                   programs: tl.constexpr, turns: tl.constexpr):  # fmt: skip
    c = tl.arange(0, block)
    b = tl.load(bias + c, mask=c < width, other=0.0)
    g = tl.load(gamma + c, mask=c < width, other=0.0)
    sum_b = tl.zeros([block], tl.float32)
    sum_g = tl.zeros([block], tl.float32)
    for turn in range(turns):
        tile = tl.program_id(0).to(tl.int64) + turn * programs
        r = tile * many + tl.arange(0, many)
        inside = (r[:, None] < rows) & (c[None, :] < width)
        at = r[:, None] * width + c[None, :]
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + b[None, :]
        v = tl.where(inside, v, 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(v * v, 1) / width + 1e-8)
        bare = v * scale[:, None]
        n = bare * g[None, :]
        s = tl.sigmoid(n)
        d = tl.load(up + at, mask=inside, other=0.0).to(tl.float32) * s * (1.0 + n * (1.0 - s))
        sum_g += tl.sum(d * bare, 0)
        d = d * g[None, :]
        d = scale[:, None] * (d - bare * (tl.sum(d * bare, 1) / width)[:, None])
        d = tl.where(inside, d, 0.0)
        sum_b += tl.sum(d, 0)
        tl.store(down + at, d.to(down.dtype.element_ty), mask=inside)
    at = tl.program_id(0) * width + c
    tl.store(partial_b + at, sum_b, mask=c < width)
    tl.store(partial_g + at, sum_g, mask=c < width)


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, bias: Tensor, gamma: Tensor) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1]
        rows, block = x.numel() // width, triton.next_power_of_2(width)
        many = TILE // block
        out = torch.empty_like(x)
        _activate[(triton.cdiv(rows, many),)](x, bias, gamma, out, rows, width, block, many)
        ctx.save_for_backward(x, bias, gamma)
        return out

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, gamma = ctx.saved_tensors
        width = x.shape[-1]
        rows, block = x.numel() // width, triton.next_power_of_2(width)
        many = TILE // block
        tiles = triton.cdiv(rows, many)
        down = torch.empty_like(x)
        programs = min(PROGRAMS, tiles)
        partial = x.new_empty((2, programs, width), dtype=torch.float32)
        _activate_back[(programs,)](x, bias, gamma, up[0].contiguous(), down, partial[0],
                                    partial[1], rows, width, block, many, programs,
                                    triton.cdiv(tiles, programs))  # fmt: skip
        both = partial.sum(1)
        return down, both[0], both[1]


def activation(x: Tensor, gamma: Tensor, bias: Tensor | None) -> Tensor:
    """SiLU of the RMS norm of ``x + bias``, statistics in float32."""
    if bias is None:
        bias = torch.zeros_like(gamma)
    found: Tensor = _Activation.apply(x, bias, gamma)  # type: ignore[no-untyped-call]
    return found


@triton.jit
def _shift(x, out, total, frames, area, width: tl.constexpr, back: tl.constexpr,
           size: tl.constexpr):  # fmt: skip
    """``out[t]`` holds x[t-2], x[t-1], x[t] side by side; ``back`` sums what went there."""
    at = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)
    inside = at < total
    c = at % width
    row = at // width
    t = (row // area) % frames
    if back:
        found = tl.load(x + row * 3 * width + 2 * width + c, mask=inside, other=0.0)
        found = found.to(tl.float32)
        for k in tl.static_range(2):
            ahead = 2 - k
            there = (row + ahead * area) * 3 * width + k * width + c
            found += tl.load(x + there, mask=inside & (t + ahead < frames), other=0.0).to(
                tl.float32
            )
        tl.store(out + at, found.to(out.dtype.element_ty), mask=inside)
    else:
        for k in tl.static_range(3):
            behind = 2 - k
            there = at - behind * area * width
            found = tl.load(x + there, mask=inside & (t >= behind), other=0.0)
            tl.store(out + row * 3 * width + k * width + c, found, mask=inside)


class _Windows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        b, t, h, w, c = ctx.shape = x.shape
        out = x.new_empty(b, t, h, w, 3 * c)
        _shift[(triton.cdiv(x.numel(), TILE),)](x, out, x.numel(), t, h * w, c, False, TILE)
        return out

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> Tensor:
        _, t, h, w, c = ctx.shape
        down = up[0].new_empty(ctx.shape)
        _shift[(triton.cdiv(down.numel(), TILE),)](
            up[0].contiguous(), down, down.numel(), t, h * w, c, True, TILE
        )
        return down


def windows(x: Tensor) -> Tensor:
    """``[B, T, H, W, C]`` → ``[B, T, H, W, 3·C]``: the two frames before, then the frame."""
    found: Tensor = _Windows.apply(x)  # type: ignore[no-untyped-call]
    return found

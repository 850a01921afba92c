"""Triton kernels of the hot path. Import only where triton is; ``accel.kernels_for`` decides.

One program handles one row (one token), which fits a multiprocessor's registers whole: each tensor
is read once and written once. Launch shapes follow from the width alone (nothing is timed), so a
kernel gives the same bits wherever its operands lie. Sums are in float32; intermediate roundings
are those of the plain definitions in ``engine.model.fused``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.config import FP8, FP8_MAX, FP8_TINY

_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_LARGEST = tl.constexpr(FP8_MAX)
_TINY = tl.constexpr(FP8_TINY)


def _launch(width: int) -> dict[str, int]:
    """Block size and warps for rows of ``width``: 32 elements per thread at most."""
    block = triton.next_power_of_2(width)
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 1024))}


@triton.jit
def _store_row8(z, out_ptr, scale_ptr, row, at, inside, WIDTH: tl.constexpr):
    """One row in fp8 with its scale."""
    scale = tl.maximum(tl.max(tl.abs(z), axis=0), _TINY) / _LARGEST
    z = tl.minimum(tl.maximum(z / scale, -_LARGEST), _LARGEST)
    tl.store(out_ptr + row * WIDTH + at, z.to(tl.float8e4nv), mask=inside)
    tl.store(scale_ptr + row, scale)


@triton.jit
def _add_norm(
    x_ptr,
    y_ptr,
    gate_ptr,
    sum_ptr,
    scale_ptr,
    shift_ptr,
    out_ptr,
    out_scale_ptr,
    group_rows,
    eps,
    ADD: tl.constexpr,
    GATE: tl.constexpr,
    KEEP: tl.constexpr,
    NORM: tl.constexpr,  # 0: none, 1: scaled by 1 + scale and shifted, 2: weight and bias
    ROUND: tl.constexpr,
    TYPE: tl.constexpr,
    QUANTISE: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    x = tl.load(x_ptr + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        y = tl.load(y_ptr + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
        if GATE:
            y *= tl.load(gate_ptr + at, mask=inside, other=0.0)
        x += y
    if KEEP:
        tl.store(sum_ptr + row * WIDTH + at, x.to(sum_ptr.dtype.element_ty), mask=inside)
    if NORM:
        x = x.to(ROUND).to(tl.float32)
        mean = tl.sum(x, axis=0) / WIDTH
        centred = tl.where(inside, x - mean, 0.0)
        z = centred * tl.rsqrt(tl.sum(centred * centred, axis=0) / WIDTH + eps)
        group = (row // group_rows) * WIDTH
        scale = tl.load(scale_ptr + group + at, mask=inside, other=0.0).to(tl.float32)
        shift = tl.load(shift_ptr + group + at, mask=inside, other=0.0).to(tl.float32)
        if NORM == 1:
            z = z.to(ROUND).to(tl.float32) * (1.0 + scale) + shift
        else:
            z = (z * scale + shift).to(ROUND).to(tl.float32)
        if QUANTISE:
            z = tl.where(inside, z.to(TYPE).to(tl.float32), 0.0)
            _store_row8(z, out_ptr, out_scale_ptr, row, at, inside, WIDTH)
        else:
            tl.store(out_ptr + row * WIDTH + at, z.to(TYPE), mask=inside)


def add_norm(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    norm: tuple[Tensor, Tensor, bool] | None,
    eps: float,
    *,
    keep: torch.dtype | None,
    rounded: torch.dtype,
    out: torch.dtype,
    quantise: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """``x + y·gate`` and its norm in one pass over ``[L, C]``.

    Args:
        norm: scale, shift and whether they are weight and bias; scale and shift may be ``[G, C]``
            for G groups of L/G rows. None leaves the norm out.
        keep: dtype of the sum, None if it is not wanted.
        rounded: what the norm's input and result are rounded to.
        quantise: give the norm in fp8.

    Returns the sum, the norm, and the norm's scales ``[L, 1]``; None for what was not asked.
    """
    x = x.contiguous()
    rows, width = x.shape
    total = None if keep is None else torch.empty_like(x, dtype=keep)
    scale = shift = normed = scales = None
    affine, groups = False, 1
    if norm is not None:
        scale, shift, affine = norm[0].contiguous(), norm[1].contiguous(), norm[2]
        groups = scale.numel() // width
        normed = torch.empty_like(x, dtype=FP8 if quantise else out)
        if quantise:
            scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    _add_norm[(rows,)](
        x,
        None if y is None else y.contiguous(),
        None if gate is None else gate.contiguous(),
        total,
        scale,
        shift,
        normed,
        scales,
        rows // groups,
        eps,
        ADD=y is not None,
        GATE=gate is not None,
        KEEP=keep is not None,
        NORM=0 if norm is None else 2 if affine else 1,
        ROUND=_TYPES[rounded],
        TYPE=_TYPES[out],
        QUANTISE=quantise,
        WIDTH=width,
        **_launch(width),
    )
    return total, normed, scales


@triton.jit
def _norm_rotate(
    x_ptr,
    weight_ptr,
    table_ptr,
    out_ptr,
    eps,
    NORM: tl.constexpr,
    ROTATE: tl.constexpr,
    HALF: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    kind = out_ptr.dtype.element_ty
    x = tl.load(x_ptr + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        x *= tl.rsqrt(tl.sum(x * x, axis=0) / WIDTH + eps)
        weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(kind).to(tl.float32)
        x = (x.to(kind).to(tl.float32) * weight).to(kind).to(tl.float32)
    if ROTATE:
        even, odd = tl.split(tl.reshape(x, (BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        turn = table_ptr + (row * HALF + pair % HALF) * 2
        cos = tl.load(turn)
        sin = tl.load(turn + 1)
        x = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (BLOCK,))
    tl.store(out_ptr + row * WIDTH + at, x.to(kind), mask=inside)


def norm_rotate(
    x: Tensor, weight: Tensor | None, table: Tensor | None, eps: float, head_dim: int
) -> Tensor:
    """Root-mean-square norm of ``x [L, C]`` and rotation by ``table [L, head_dim/2]``.

    Either is left out where its argument is None. Keeps dtype.
    """
    x = x.contiguous()
    rows, width = x.shape
    out = torch.empty_like(x)
    if rows:
        _norm_rotate[(rows,)](
            x,
            weight,
            None if table is None else torch.view_as_real(table.contiguous()),
            out,
            eps,
            NORM=weight is not None,
            ROTATE=table is not None,
            HALF=head_dim // 2,
            WIDTH=width,
            **_launch(width),
        )
    return out


@triton.jit
def _quantise(
    x_ptr, out_ptr, scale_ptr, GELU: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    x = tl.load(x_ptr + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    if GELU:  # the tanh form, written by the logistic function
        x *= tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        x = x.to(x_ptr.dtype.element_ty).to(tl.float32)
    _store_row8(x, out_ptr, scale_ptr, row, at, inside, WIDTH)


def quantise(x: Tensor, *, gelu: bool) -> tuple[Tensor, Tensor]:
    """``x [L, C]``, after GELU if asked, in fp8 with scales ``[L, 1]``."""
    x = x.contiguous()
    rows, width = x.shape
    out = torch.empty_like(x, dtype=FP8)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    _quantise[(rows,)](x, out, scales, GELU=gelu, WIDTH=width, **_launch(width))
    return out, scales


@triton.jit
def _channel_norm(
    x_ptr,
    gamma_ptr,
    out_ptr,
    rows,
    factor,
    SILU: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (at < WIDTH)[None, :]
    where = row[:, None] * WIDTH + at[None, :]
    kind = out_ptr.dtype.element_ty
    x = tl.load(x_ptr + where, mask=inside, other=0.0).to(tl.float32)
    gamma = tl.load(gamma_ptr + at, mask=at < WIDTH, other=0.0).to(tl.float32)
    norm = tl.maximum(tl.sqrt(tl.sum(x * x, axis=1)), 1e-12)
    y = (x * (factor / norm)[:, None] * gamma[None, :]).to(kind).to(tl.float32)
    if SILU:
        y *= tl.sigmoid(y)
    tl.store(out_ptr + where, y.to(kind), mask=inside)


def channel_norm(x: Tensor, gamma: Tensor, out: Tensor, *, silu: bool) -> None:
    """``x / ‖x‖ · √C · gamma`` over the channels into ``out``, then SiLU if asked.

    Both are ``[…, C]`` in memory: channels last, rows one after the other.
    """
    width = gamma.numel()
    rows = x.numel() // width
    block = triton.next_power_of_2(width)
    together = max(1, 4096 // block)
    _channel_norm[(triton.cdiv(rows, together),)](
        x,
        gamma,
        out,
        rows,
        width**0.5,
        SILU=silu,
        WIDTH=width,
        BLOCK=block,
        ROWS=together,
        num_warps=4,
    )

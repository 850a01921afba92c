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


@triton.jit(do_not_specialize=["group_rows"])
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


@triton.jit(do_not_specialize=["area", "frames"])
def _causal(
    x_ptr,
    bias_ptr,
    gamma_ptr,
    past_ptr,
    out_ptr,
    keep_ptr,
    area,
    frames,
    factor,
    BIAS: tl.constexpr,
    NORM: tl.constexpr,
    PAST: tl.constexpr,
    TAPS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    spot = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    frame = tl.program_id(1).to(tl.int64)  # of the two remembered ones and the present ones
    at = tl.arange(0, BLOCK)
    inside = (spot < area)[:, None] & (at < WIDTH)[None, :]
    here = spot[:, None] * WIDTH + at[None, :]
    size = area * WIDTH
    kind = out_ptr.dtype.element_ty
    y = tl.zeros([ROWS, BLOCK], tl.float32)
    if frame >= 2:
        y = tl.load(x_ptr + (frame - 2) * size + here, mask=inside, other=0.0).to(tl.float32)
        if BIAS:
            bias = tl.load(bias_ptr + at, mask=at < WIDTH, other=0.0).to(tl.float32)
            y = (y + bias[None, :]).to(kind).to(tl.float32)
        if NORM:
            gamma = tl.load(gamma_ptr + at, mask=at < WIDTH, other=0.0).to(tl.float32)
            length = tl.maximum(tl.sqrt(tl.sum(y * y, axis=1)), 1e-12)
            y = (y * (factor / length)[:, None] * gamma[None, :]).to(kind).to(tl.float32)
            y *= tl.sigmoid(y)
    else:
        if PAST:
            y = tl.load(past_ptr + frame * size + here, mask=inside, other=0.0).to(tl.float32)
    z = y.to(kind)
    if TAPS == 1:
        tl.store(out_ptr + frame * size + here, z, mask=inside)
    else:
        for tap in tl.static_range(TAPS):
            to = frame - tap
            if (to >= 0) & (to < frames):
                where = ((to * area + spot) * TAPS + tap)[:, None] * WIDTH + at[None, :]
                tl.store(out_ptr + where, z, mask=inside)
    if frame >= frames:
        tl.store(keep_ptr + (frame - frames) * size + here, z, mask=inside)


def causal(
    x: Tensor, bias: Tensor | None, gamma: Tensor | None, past: Tensor | None, *, unrolled: bool
) -> tuple[Tensor, Tensor]:
    """What a causal convolution over time reads, made of ``x [1, C, T, H, W]`` in one pass.

    All tensors have the channels last in memory. ``x`` (plus ``bias``) goes through the norm with
    ``gamma`` and SiLU, if there is one; two frames of ``past`` (zeros if None) come in front.

    Returns that, ``[1, C, T + 2, H, W]``, and its last two frames. ``unrolled`` gives each frame
    with the two before it side by side instead, ``[T, 3·C, H, W]``, oldest first.
    """
    x = x.contiguous(memory_format=torch.channels_last_3d)
    _, width, frames, height, columns = x.shape
    area = height * columns
    keep = x.new_empty(1, 2, height, columns, width)
    if unrolled:
        out = x.new_empty(frames, height, columns, 3 * width)
    else:
        out = x.new_empty(1, frames + 2, height, columns, width)
    if past is not None:  # one that was kept in a file lies otherwise
        past = past.contiguous(memory_format=torch.channels_last_3d)
    block = triton.next_power_of_2(width)
    rows = max(1, 4096 // block)
    _causal[(triton.cdiv(area, rows), frames + 2)](
        x,
        bias,
        gamma,
        past,
        out,
        keep,
        area,
        frames,
        width**0.5,
        BIAS=bias is not None,
        NORM=gamma is not None,
        PAST=past is not None,
        TAPS=3 if unrolled else 1,
        WIDTH=width,
        BLOCK=block,
        ROWS=rows,
        num_warps=4,
    )
    made = out.permute(0, 3, 1, 2) if unrolled else out.permute(0, 4, 1, 2, 3)
    return made, keep.permute(0, 4, 1, 2, 3)


@triton.jit
def _add_bias(
    x_ptr, bias_ptr, y_ptr, count, ADD: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(bias_ptr + at % WIDTH).to(tl.float32)
    if ADD:
        x += tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(x_ptr + at, x.to(x_ptr.dtype.element_ty), mask=inside)


def add_bias(x: Tensor, bias: Tensor, y: Tensor | None = None) -> Tensor:
    """``x + bias + y``, rounded once; channels last in memory, in place if ``x`` has them so."""
    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    x = x.contiguous(memory_format=last)
    if y is not None:
        y = y.contiguous(memory_format=last)
    block = 4096
    _add_bias[(triton.cdiv(x.numel(), block),)](
        x,
        bias,
        y,
        x.numel(),
        ADD=y is not None,
        WIDTH=bias.numel(),
        BLOCK=block,
        num_warps=8,
    )
    return x


@triton.jit(do_not_specialize=["columns", "count"])
def _double(
    x_ptr, out_ptr, columns, count, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    spot = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, BLOCK)
    inside = (spot < count)[:, None] & (at < WIDTH)[None, :]
    x = tl.load(x_ptr + spot[:, None] * WIDTH + at[None, :], mask=inside, other=0.0)
    corner = (spot // columns) * 4 * columns + (spot % columns) * 2
    for row in tl.static_range(2):
        for column in tl.static_range(2):
            where = corner + row * 2 * columns + column
            tl.store(out_ptr + where[:, None] * WIDTH + at[None, :], x, mask=inside)


def double(x: Tensor) -> Tensor:
    """Images ``[N, C, H, W]``, channels last in memory, at twice their sides, pixels repeated."""
    x = x.contiguous(memory_format=torch.channels_last)
    images, width, height, columns = x.shape
    out = x.new_empty(images, 2 * height, 2 * columns, width).permute(0, 3, 1, 2)
    block = triton.next_power_of_2(width)
    rows = max(1, 4096 // block)
    count = images * height * columns
    _double[(triton.cdiv(count, rows),)](
        x, out, columns, count, WIDTH=width, BLOCK=block, ROWS=rows, num_warps=4
    )
    return out

"""Rotary positions over time, rows and columns, without tables that could run out.

Angles are computed in float64 when they are needed, so a stream may be of any length; the
rotation itself is one complex multiplication in float32. Sources: RoFormer (arXiv:2104.09864) and
the three-axis split of Wan 2.1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.model.accel import kernels_for

#: Time position of the reference image before any shift.
REFERENCE_TIME = 30


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that rotate with time, row and column."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def _rotations(positions: Tensor, dims: int, half: bool) -> Tensor:
    """``[n]`` float64 positions → ``[n, dims/2]`` complex64 unit rotations."""
    index = torch.arange(0, dims, 2, dtype=torch.float64, device=positions.device)
    angles = positions[:, None] * torch.pow(10000.0, -index / dims)
    cos, sin = angles.cos(), angles.sin()
    if half:  # the reference stores its tables as complex half
        cos, sin = cos.half(), sin.half()
    return torch.complex(cos.float(), sin.float())


def table(
    times: Tensor, rows: Tensor, columns: Tensor, head_dim: int, *, half: bool = False
) -> Tensor:
    """Rotations of a grid of tokens, time-major, then row, then column.

    ``times``, ``rows`` and ``columns`` are float64 positions on one device. Returns complex64
    ``[len(times)·len(rows)·len(columns), head_dim/2]``.
    """
    t, h, w = (
        _rotations(p, dims, half)
        for p, dims in zip((times, rows, columns), axis_dims(head_dim), strict=True)
    )
    grid = (len(t), len(h), len(w))
    parts = (t[:, None, None], h[None, :, None], w[None, None, :])
    return torch.cat([p.expand(*grid, -1) for p in parts], dim=-1).flatten(0, 2)


def span(start: int, count: int, device: torch.device) -> Tensor:
    """Positions ``start … start + count − 1`` made on the device, without a copy from the host."""
    return torch.arange(start, start + count, dtype=torch.float64, device=device)


def spread(last: int, count: int, device: torch.device) -> Tensor:
    """``count`` positions from 0 to ``last`` evenly spaced and cut towards zero."""
    return torch.from_numpy(np.trunc(np.linspace(0.0, last, count))).to(device)


def block_table(
    first: int,
    frames: int,
    rows: int,
    columns: int,
    head_dim: int,
    device: torch.device,
    half: bool,
) -> Tensor:
    """Rotations of ``frames`` whole latent frames that begin at time ``first``."""
    return table(
        span(first, frames, device),
        span(0, rows, device),
        span(0, columns, device),
        head_dim,
        half=half,
    )


def reference_shift(first: int, relative_dist: int) -> int:
    """How far the reference moves along time for a block at latent frame ``first``."""
    return max(0, first - (REFERENCE_TIME - relative_dist))


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of ``x [L, H, D]`` by ``rotations [L, D/2]``; keeps dtype."""
    if (kernels := kernels_for(x)) is not None:
        out: Tensor = kernels.norm_rotate(x.flatten(1), None, rotations, 0.0, x.shape[-1])
        return out.view(x.shape)
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotations[:, None]).flatten(-2).to(x.dtype)

"""Pieces of the DiT over batches: what the engine computes for one item at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.framepack import PatchEmbed


def patches(m: PatchEmbed, x: Tensor) -> Tensor:
    """``x [B, channels, F, h, w]`` → tokens ``[B, L, dim]``."""
    b, c, f, h, w = x.shape
    pt, ph, pw = m.patch
    x = x.reshape(b, c, f // pt, pt, h // ph, ph, w // pw, pw)
    x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, -1, c * pt * ph * pw)
    return F.linear(x, m.weight.flatten(1), m.bias)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """``x [B, L, H, D]`` by ``table [B or 1, L, D/2]``, complex."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * table[:, :, None]).flatten(-2).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``q [B, L, H, D]`` over ``k, v [B, T, H, D]`` → ``[B, L, H·D]``."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).flatten(2)

"""Attention, each operation in one place, so that a tuned one can take its place."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unmasked attention of ``q [L, H, D]`` over ``k, v [T, H, D]`` → ``[L, H·D]``."""
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], k.transpose(0, 1)[None], v.transpose(0, 1)[None]
    )
    return out[0].transpose(0, 1).flatten(1)


def attend_frames(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention inside each frame: ``q [F,S,H,D]`` over ``k, v [F,T,H,D]`` → ``[F·S, H·D]``."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).flatten(2).flatten(0, 1)

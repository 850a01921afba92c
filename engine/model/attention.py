"""Attention, each operation in one place, its backend pinned rather than left to be chosen.

Two backends sum in different orders. Which one computes follows from device, dtype and head size
alone, so every rank of a kind of hardware gives the same bits.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_HALF = (torch.bfloat16, torch.float16)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Unmasked attention of ``q [L, H, D]`` over ``k, v [T, H, D]`` → ``[L, H·D]``."""
    out = _attend(q.transpose(0, 1)[None], k.transpose(0, 1)[None], v.transpose(0, 1)[None])
    return out[0].transpose(0, 1).flatten(1)


def attend_frames(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention inside each frame: ``q [F,S,H,D]`` over ``k, v [F,T,H,D]`` → ``[F·S, H·D]``."""
    out = _attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), short=True)
    return out.transpose(1, 2).flatten(2).flatten(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, *, short: bool = False) -> Tensor:
    if not q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(list(backends(q.dtype, q.shape[-1], _capability(q.device.index), short))):
        return F.scaled_dot_product_attention(q, k, v)


def backends(
    dtype: torch.dtype, head_dim: int, capability: tuple[int, int], short: bool
) -> tuple[SDPBackend, ...]:
    """What computes attention on a GPU; a second one serves shapes that the first refuses.

    cuDNN's is the fastest from Hopper on, where keys are not ``short`` (a handful per query).
    """
    if dtype in _HALF and capability >= (8, 0) and head_dim <= 256:
        if capability >= (9, 0) and head_dim % 8 == 0 and head_dim <= 128 and not short:
            return (SDPBackend.CUDNN_ATTENTION,)
        return (SDPBackend.FLASH_ATTENTION,)
    return (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


@functools.cache
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)

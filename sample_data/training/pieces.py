"""The DiT's operations over batches, in torch's own kernels, so that they have gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.framepack import PatchEmbed
from engine.model.layers import Attention, Layer, RMSNorm

Rotation = tuple[Tensor, Tensor]


def patches(m: PatchEmbed, x: Tensor) -> Tensor:
    """``x [B, channels, F, h, w]`` → tokens ``[B, L, dim]``."""
    b, c, f, h, w = x.shape
    pt, ph, pw = m.patch
    x = x.reshape(b, c, f // pt, pt, h // ph, ph, w // pw, pw)
    x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, -1, c * pt * ph * pw)
    return F.linear(x, m.weight.flatten(1), m.bias)


def rotation(table: Tensor) -> Rotation:
    """A complex table ``[…, L, D/2]`` as cosines and sines ``[…, L, 1, D/2]``."""
    return table.real.unsqueeze(-2).contiguous(), table.imag.unsqueeze(-2).contiguous()


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """``x [B, L, H, D]``, adjacent pairs."""
    cos, sin = by
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)


def plain_norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x.float(), (x.shape[-1],), None, None, eps)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1)


def normed(x: Tensor, norm: RMSNorm, heads: int) -> Tensor:
    """``[…, C]`` → ``[…, H, D]``, normed over the whole width."""
    y = F.rms_norm(x.float(), (x.shape[-1],), norm.weight.float(), norm.eps).to(x.dtype)
    return _split(y, heads)


def feed(layer: Layer, x: Tensor) -> Tensor:
    """A layer's feed-forward part."""
    out: Tensor = layer.ffn[2](F.gelu(layer.ffn[0](x), approximate="tanh"))
    return out


def queries(attn: Attention, x: Tensor) -> Tensor:
    return normed(attn.q(x), attn.norm_q, attn.heads)


def keys(attn: Attention, x: Tensor) -> Tensor:
    return normed(attn.k(x), attn.norm_k, attn.heads)


def values(attn: Attention, x: Tensor) -> Tensor:
    return _split(attn.v(x), attn.heads)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``q [B, L, H, D]`` over ``k, v [B, T, H, D]`` → ``[B, L, H·D]``."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).flatten(2)

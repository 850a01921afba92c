"""Weights that the DiT's training begins with: it shows the portrait, still.

The first layer fetches the portrait's patches around a token by position alone; the head takes the
difference to the own patch. From there everything is learnt.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from engine.model.dit import DiT
from engine.model.rope import axis_dims

STEADY, MARK = 20.0, 6.0
#: Row and column offset that each head of layer 0 looks at; the first two share the own patch.
LOOKS = ((0, 0), (0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1))
SHARPNESS = 20.0


def start(dit: DiT, seed: int = 0) -> None:
    """Initial weights with which the untrained DiT shows the portrait, still.

    Channels 0–63 of a token carry its patch, 64–127 the portrait's patch at its place; two
    channels keep every token's norm steady and one marks the portrait's tokens.
    """
    g = torch.Generator().manual_seed(seed)
    cfg = dit.cfg
    c, patch, hd = cfg.dim, cfg.in_dim * 4, cfg.head_dim
    if len(LOOKS) != cfg.num_heads or 2 * hd != patch:
        raise ValueError("these initial weights are for 8 heads of 32 channels")
    for name, p in dit.named_parameters():
        if "norm" in name and name.endswith(".weight"):
            p.data.fill_(1.0)
        elif (
            p.dim() == 1
            or name.endswith(("bias", "modulation", "padding_tokens"))
            or "cross_attn.o" in name
            or "self_attn.o" in name
        ):
            p.data.zero_()
        else:
            fan = p[0].numel()
            p.data.copy_(torch.randn(p.shape, generator=g) / fan**0.5)
    dit.casual_audio_encoder.weights.data.fill_(0.05)
    dit.casual_audio_encoder.weights.data[:, -1] = 3.0
    cast(nn.Linear, dit.time_projection[1]).weight.data.mul_(0.05)
    cast(nn.Linear, dit.time_embedding[2]).weight.data.mul_(0.1)
    for injector, adain in zip(dit.audio_injector.injector,
                               dit.audio_injector.injector_adain_layers, strict=True):  # fmt: skip
        injector.o.weight.data.mul_(0.5)
        adain.linear.weight.data.mul_(0.1)
    for layer in dit.blocks:
        layer.modulation.data[:, 2] = 1.0
        layer.modulation.data[:, 5] = 1.0
        layer.ffn[2].weight.data.mul_(0.2)
    embed = dit.patch_embedding.weight.data.zero_()
    embed[:patch] = torch.eye(patch).reshape(patch, cfg.in_dim, 1, 2, 2)
    mask = dit.trainable_cond_mask.weight.data
    mask.zero_()
    mask[:, c - 1], mask[:, c - 2] = STEADY, -STEADY
    mask[:, c - 3] = torch.tensor([-MARK, MARK, -MARK])
    t_dim, s_dim, _ = axis_dims(hd)
    attn = dit.blocks[0].self_attn
    theta = torch.pow(10000.0, -torch.arange(0, s_dim, 2, dtype=torch.float64) / s_dim)
    for linear in (attn.q, attn.k):
        linear.weight.data.zero_()
        linear.bias.data.zero_()
    for head, look in enumerate(LOOKS):
        base = head * hd
        attn.q.bias.data[base + t_dim - 2] = 1.0
        attn.k.weight.data[base + t_dim - 2, c - 3] = 0.5
        for axis, offset in enumerate(look):
            begin = base + t_dim + axis * s_dim
            for pair in range(2):
                angle = float(theta[pair]) * offset
                attn.q.bias.data[begin + 2 * pair] = math.cos(angle)
                attn.q.bias.data[begin + 2 * pair + 1] = math.sin(angle)
                attn.k.bias.data[begin + 2 * pair] = 1.0
    # Scores are sharpness · Σ cos: undo the norms' scale and the attention's 1/√D.
    q_rms = float(attn.q.bias.square().mean().sqrt())
    k_rms = math.sqrt(float(attn.k.bias.square().mean()) + (0.5 * 3.3) ** 2 / hd)
    gain = math.sqrt(SHARPNESS * math.sqrt(hd))
    attn.norm_q.weight.data.fill_(gain * q_rms)
    attn.norm_k.weight.data.fill_(gain * k_rms)
    scale = steadiness(c, patch)
    attn.v.weight.data[: 2 * hd] = 0
    attn.v.weight.data[: 2 * hd, :patch] = scale * torch.eye(patch)
    attn.v.weight.data[2 * hd :] = 0
    attn.o.weight.data[patch : 2 * patch, : 2 * hd] = torch.eye(patch)
    free = c - 2 * patch - 3
    for k in range(c - 2 * hd):  # what the other heads fetch: mixed into the free channels
        attn.v.weight.data[2 * hd + k, :patch] = torch.randn(patch, generator=g) * scale / 8
        attn.o.weight.data[2 * patch + k % free, 2 * hd + k] = 0.8
    head_weight = dit.head.head.weight.data.zero_()
    rows = head_weight.view(1, 2, 2, cfg.out_dim, c)
    for ch in range(cfg.out_dim):
        for i in range(2):
            for j in range(2):
                k = ch * 4 + i * 2 + j
                rows[0, i, j, ch, k], rows[0, i, j, ch, patch + k] = scale, -scale


def steadiness(width: int, patch: int) -> float:
    """What the norm divides a token by, about: its steady channels outweigh the rest."""
    return math.sqrt((2 * STEADY**2 + MARK**2 + patch) / width)

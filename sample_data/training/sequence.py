"""The DiT over batches of several blocks at once: exactly what generating block by block gives.

All blocks of a sequence are at the same noise level. Each sees the conditioning, itself and the
blocks that the ring still holds, so one pass over a sequence is one denoising step of every block,
and its own results can be fed to the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import BLOCK_LATENTS, MOTION_BUCKETS, RING_LATENTS
from engine.model.dit import DiT
from engine.model.framepack import PatchEmbed, motion_table
from engine.model.layers import ADAIN_EPS, AdaIN, Attention, Injector, Layer, RMSNorm
from engine.model.rope import REFERENCE_TIME, block_table, reference_shift

#: Constant frames in front of a block's audio. Eight reach its first latent; the engine's 73 say
#: the same.
FRONT = 9
#: Blocks that a block sees, itself included.
WINDOW = RING_LATENTS // BLOCK_LATENTS

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


@dataclass
class Scene:
    """What a batch is conditioned on, layer by layer: keys un-rotated, and the prompt's."""

    k: list[Tensor]  # [B, reference + motion tokens, H, D]
    v: list[Tensor]
    text: list[tuple[Tensor, Tensor]]
    heard: tuple[Tensor, Tensor]  # global [B, F, C], local [B, F, n+1, C]
    motion: Rotation


@dataclass
class Places:
    """Rotations of a sequence's tokens and of the reference as each block sees it."""

    own: Rotation
    reference: Rotation  # [N, fs, 1, D/2]


def places(dit: DiT, first: int, distances: list[int], rows: int, columns: int) -> Places:
    """For a sequence that begins at latent frame ``first``; a distance per block."""
    d, device = dit.cfg.head_dim, dit.head.modulation.device
    count = len(distances)
    own = block_table(first, BLOCK_LATENTS * count, rows, columns, d, device, False)
    seen = []
    for n, distance in enumerate(distances):
        shift = reference_shift(first + BLOCK_LATENTS * n, distance)
        seen.append(block_table(REFERENCE_TIME + shift, 1, rows, columns, d, device, False))
    return Places(rotation(own), rotation(torch.stack(seen)))


def moments_of(dit: DiT, t: float) -> tuple[Tensor, Tensor]:
    """Embedding ``[1, C]`` and modulation ``[1, 6, C]`` of a timestep."""
    half = dit.cfg.freq_dim // 2
    index = torch.arange(half, dtype=torch.float64, device=dit.head.modulation.device)
    args = torch.pow(10000.0, -index / half) * t
    e = dit.time_embedding(torch.cat([args.cos(), args.sin()])[None].float())
    return e, dit.time_projection(e).unflatten(-1, (6, -1))


def _own_attention(layer: Layer, y: Tensor, own: Rotation) -> tuple[Tensor, Tensor, Tensor]:
    attn = layer.self_attn
    return rotate(queries(attn, y), own), keys(attn, y), values(attn, y)


def _rest(layer: Layer, x: Tensor, seen: Tensor, m: Tensor, tk: Tensor, tv: Tensor,
          dtype: torch.dtype) -> Tensor:  # fmt: skip
    """What follows a layer's self-attention, whose result is ``seen``."""
    x = x + layer.self_attn.o(seen) * m[:, 2, None]
    cross = layer.cross_attn
    norm3 = layer.norm3
    y = F.layer_norm(x, (x.shape[-1],), norm3.weight, norm3.bias, norm3.eps).to(dtype)
    x = x + cross.o(attend(queries(cross, y), tk, tv))
    y = modulate(plain_norm(x, layer.eps), m[:, 4, None], m[:, 3, None]).to(dtype)
    return x + feed(layer, y) * m[:, 5, None]


def condition_layer(layer: Layer, x: Tensor, time: Tensor, own: Rotation, tk: Tensor, tv: Tensor,
                    dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One layer over the conditioning's tokens; also its keys, un-rotated, and values."""
    m = layer.modulation + time
    y = modulate(plain_norm(x, layer.eps), m[:, 1, None], m[:, 0, None]).to(dtype)
    q, k, v = _own_attention(layer, y, own)
    return _rest(layer, x, attend(q, rotate(k, own), v), m, tk, tv, dtype), k, v


def block_layer(layer: Layer, x: Tensor, time: Tensor, at: Places, scene_k: Tensor,
                scene_v: Tensor, motion: Rotation, tk: Tensor, tv: Tensor,
                dtype: torch.dtype) -> Tensor:  # fmt: skip
    """One layer over the tokens ``x [B, N·3·fs, C]`` of N blocks."""
    m = layer.modulation + time
    y = modulate(plain_norm(x, layer.eps), m[:, 1, None], m[:, 0, None]).to(dtype)
    q, k, v = _own_attention(layer, y, at.own)
    k = rotate(k, at.own)
    fs = at.reference[0].shape[1]
    size = BLOCK_LATENTS * fs
    moved = rotate(scene_k[:, fs:], motion)
    seen = []
    for n in range(x.shape[1] // size):
        reference = rotate(scene_k[:, :fs], (at.reference[0][n], at.reference[1][n]))
        ring = slice(max(0, n + 1 - WINDOW) * size, (n + 1) * size)
        keys = torch.cat([reference, moved, k[:, ring]], dim=1)
        values = torch.cat([scene_v, v[:, ring]], dim=1)
        seen.append(attend(q[:, n * size : (n + 1) * size], keys, values))
    return _rest(layer, x, torch.cat(seen, dim=1), m, tk, tv, dtype)


def inject(adain: AdaIN, injector: Injector, x: Tensor, global_: Tensor, local: Tensor,
           dtype: torch.dtype) -> Tensor:  # fmt: skip
    """``x [B, F·fs, C]`` with the audio of its frames added."""
    b, frames = local.shape[:2]
    z = plain_norm(x, ADAIN_EPS).unflatten(1, (frames, -1))
    shift, scale = adain.linear(F.silu(global_)).chunk(2, dim=-1)
    y = modulate(z, scale[:, :, None], shift[:, :, None]).flatten(0, 1).to(dtype)
    heard = local.flatten(0, 1).to(dtype)
    out = attend(queries(injector, y), keys(injector, heard), values(injector, heard))
    return x + injector.o(out).unflatten(0, (b, frames)).flatten(1, 2)


class Walker:
    """Walks a DiT over batches. ``fast`` compiles a layer once for all layers."""

    def __init__(self, dit: DiT, fast: bool, dtype: torch.dtype = torch.float32) -> None:
        self.dit, self.dtype = dit, dtype
        dit.casual_audio_encoder.repeat = FRONT
        dit.casual_audio_encoder.drop = FRONT // 4 + 1
        self.condition_layer = condition_layer
        self.block_layer = block_layer
        self.inject = inject
        if fast:
            self.condition_layer = torch.compile(condition_layer)
            self.block_layer = torch.compile(block_layer)
            self.inject = torch.compile(inject)

    def scene(self, ref: Tensor, motion: Tensor, context: Tensor, audio: Tensor) -> Scene:
        """Conditioning of ``ref [B, 16, 1, h, w]``, ``motion [B, 16, 19, h, w]``, ``context
        [B, text_len, text_dim]`` and ``audio [B, N, states, dim, 12]``."""
        dit, cfg = self.dit, self.dit.cfg
        _, _, _, h, w = ref.shape
        device = ref.device
        mask = dit.trainable_cond_mask.weight
        first, second, third = MOTION_BUCKETS
        oldest, middle, newest = torch.split(motion, [third, second, first], dim=2)
        packer = dit.frame_packer
        packed = [patches(packer.proj, newest), patches(packer.proj_2x, middle),
                  patches(packer.proj_4x, oldest)]  # fmt: skip
        x = torch.cat([patches(dit.patch_embedding, ref) + mask[1],
                       torch.cat(packed, dim=1) + mask[2]], dim=1)  # fmt: skip
        table = motion_table(h, w, cfg, device, False)
        reference = block_table(REFERENCE_TIME, 1, h // 2, w // 2, cfg.head_dim, device, False)
        own = rotation(torch.cat([reference, table]))
        text = dit.text_embedding(context.to(self.dtype))
        _, time = moments_of(dit, 0.0)
        scene = Scene([], [], [], self._hear(audio), rotation(table))
        for module in dit.blocks:
            layer = cast(Layer, module)
            cross = layer.cross_attn
            scene.text.append((keys(cross, text), values(cross, text)))
            x, k, v = self.condition_layer(layer, x, time, own, *scene.text[-1], self.dtype)
            scene.k.append(k)
            scene.v.append(v)
        return scene

    def _hear(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        b, n = audio.shape[:2]
        found = self.dit.casual_audio_encoder(audio.flatten(0, 1), torch.float32)
        return found.global_.reshape(b, n * BLOCK_LATENTS, -1), found.local.reshape(
            b, n * BLOCK_LATENTS, *found.local.shape[2:]
        )

    def velocity(self, x: Tensor, t: float, scene: Scene, at: Places) -> Tensor:
        """``x [B, 16, 3·N, h, w]`` at timestep ``t`` → its velocity, float32."""
        dit = self.dit
        _, _, frames, h, w = x.shape
        e, time = moments_of(dit, t)
        tokens = patches(dit.patch_embedding, x)
        tokens = tokens + dit.cond_encoder.bias + dit.trainable_cond_mask.weight[0]
        injector = dit.audio_injector
        for n, module in enumerate(dit.blocks):
            tokens = self.block_layer(
                cast(Layer, module), tokens, time, at, scene.k[n], scene.v[n], scene.motion,
                *scene.text[n], self.dtype,
            )  # fmt: skip
            number = dit.cfg.injector_of(n)
            if number is not None:
                tokens = self.inject(
                    cast(AdaIN, injector.injector_adain_layers[number]),
                    cast(Injector, injector.injector[number]), tokens, *scene.heard, self.dtype,
                )  # fmt: skip
        shift, scale = (dit.head.modulation + e[:, None]).unbind(1)
        y = modulate(plain_norm(tokens, dit.head.eps), scale[:, None], shift[:, None])
        out = cast(nn.Linear, dit.head.head)(y)
        cells = out.reshape(len(x), frames, h // 2, w // 2, 2, 2, -1)
        return cells.permute(0, 6, 1, 2, 4, 3, 5).reshape(x.shape)

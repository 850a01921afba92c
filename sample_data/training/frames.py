"""The DiT over latent frames one by one: exactly what generating block by block gives.

The network is begun so that its first layer fetches the portrait's patches around a token by
position alone (``beginning``). That attention stays fixed and self-attention of the later layers
stays at zero, so a generated frame depends on portrait, sound and prompt and on no other generated
frame: frames can be trained one by one, and a video cannot drift.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.config import BLOCK_LATENTS
from engine.model.dit import DiT
from engine.model.layers import ADAIN_EPS, Layer
from engine.model.rope import REFERENCE_TIME, block_table
from sample_data.training.pieces import (
    attend,
    feed,
    keys,
    modulate,
    normed,
    patches,
    plain_norm,
    queries,
    rotate,
    rotation,
    values,
)

Heard = tuple[Tensor, Tensor]
#: Constant frames in front of a block's audio. Eight reach its first latent; the engine's 73 say
#: the same.
FRONT = 9


def frozen(name: str) -> bool:
    """Parameters that training leaves as ``beginning.start`` made them."""
    first = name.startswith(("blocks.0.self_attn.q", "blocks.0.self_attn.k",
                             "blocks.0.self_attn.norm"))  # fmt: skip
    later = ".self_attn." in name and not name.startswith("blocks.0.")
    unused = name.startswith(("casual_audio_encoder.weights", "frame_packer", "cond_encoder",
                              "patch_embedding", "trainable_cond_mask"))  # fmt: skip
    return first or later or unused


@dataclass
class Given:
    """What a batch's frames depend on."""

    seen: Tensor  # [B, 1, S, C] of the portrait, as the first layer fetches it
    heard: Heard  # global [B, 3, C], local [B, 3, n + 1, C]
    text: list[Heard]  # keys and values of the prompt, a pair per layer
    rest: Tensor | None  # log of how many rows each of the prompt's stands for


def timing(dit: DiT, t: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding ``[n, C]`` and modulation ``[n, 6, C]`` of timesteps ``t [n]``."""
    half = dit.cfg.freq_dim // 2
    index = torch.arange(half, dtype=torch.float64, device=t.device)
    args = t.double()[:, None] * torch.pow(10000.0, -index / half)
    e = dit.time_embedding(torch.cat([args.cos(), args.sin()], dim=-1).float())
    return e, dit.time_projection(e).unflatten(-1, (6, -1))


def listened(dit: DiT, audio: Tensor) -> Heard:
    """Global and local audio of mixed features ``[B, dim, 12]``."""
    front = audio[..., :1].expand(-1, -1, FRONT)
    global_, local = dit.casual_audio_encoder.encoder(torch.cat([front, audio], dim=-1))
    return global_[:, -BLOCK_LATENTS:], local[:, -BLOCK_LATENTS:]


@functools.cache
def _table(rows: int, columns: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return rotation(block_table(REFERENCE_TIME, 1, rows, columns, head_dim, device, False))


def cells(x: Tensor) -> Tensor:
    """Latents ``[B, 16, F, h, w]`` as tokens ``[B, F, fs, 64]``."""
    b, c, f, h, w = x.shape
    x = x.reshape(b, c, f, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6)
    return x.reshape(b, f, -1, 4 * c)


def latents(tokens: Tensor, columns: int) -> Tensor:
    """Undoes ``cells``, of pictures ``columns`` tokens wide."""
    x = tokens.unflatten(2, (-1, columns)).unflatten(-1, (-1, 2, 2))  # [B, F, r, c, 16, 2, 2]
    return x.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


def some(tokens: Tensor, chosen: Tensor | None) -> Tensor:
    """Of ``[B, F, fs, C]`` the tokens ``chosen [B, S]``, or all."""
    if chosen is None:
        return tokens
    at = chosen[:, None, :, None].expand(-1, tokens.shape[1], -1, tokens.shape[-1])
    return tokens.gather(2, at)


def given(dit: DiT, ref: Tensor, audio: Tensor, context: Tensor,
          chosen: Tensor | None = None) -> Given:  # fmt: skip
    """Of portraits ``[B, 16, 1, h, w]``, mixed features ``[B, dim, 12]`` and prompts' encodings
    ``[B, L, text_dim]`` for the tokens ``chosen [B, S]``; the last of L rows stands for those
    that ``text_len`` has beyond it, all alike."""
    cfg = dit.cfg
    b, _, _, h, w = ref.shape
    layer = cast(Layer, dit.blocks[0])
    attn = layer.self_attn
    _, still = timing(dit, torch.zeros(1, device=ref.device))
    m = (layer.modulation + still)[:, :, None].unbind(1)
    y = modulate(plain_norm(patches(dit.patch_embedding, ref) + dit.trainable_cond_mask.weight[1],
                            layer.eps), m[1], m[0])  # fmt: skip
    table = _table(h // 2, w // 2, cfg.head_dim, ref.device)
    k, v = keys(attn, y).float(), values(attn, y).float()
    q = normed(attn.q.bias.float(), attn.norm_q, cfg.num_heads).expand(b, h * w // 4, -1, -1)
    with torch.autocast(ref.device.type, enabled=False):  # sharp: it must hit its places
        fetched = attend(rotate(q, table), rotate(k, table), v)
    found = attn.o(fetched)
    text = dit.text_embedding(context)
    pairs = []
    for module in dit.blocks:
        cross = cast(Layer, module).cross_attn
        pairs.append((keys(cross, text), values(cross, text)))
    rest = None
    if (beyond := cfg.text_len - context.shape[1]) > 0:
        rest = torch.zeros(context.shape[1], device=ref.device)
        rest[-1:] += math.log(beyond + 1)
    return Given(some(found[:, None], chosen), listened(dit, audio), pairs, rest)


def _read(q: Tensor, k: Tensor, v: Tensor, rest: Tensor | None) -> Tensor:
    """``q [B, L, H, D]`` over a prompt → ``[B, L, H·D]``."""
    if rest is None:
        return attend(q, k, v)
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / q.shape[-1] ** 0.5 + rest
    return (scores.softmax(-1).to(v.dtype) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


def velocity(dit: DiT, x: Tensor, t: Tensor, on: Given) -> Tensor:
    """Velocity of tokens ``x [B, 3, S, 64]`` at timestep ``t [1]``."""
    e, at = timing(dit, t)
    embed = dit.patch_embedding
    tokens = F.linear(x, embed.weight.flatten(1), embed.bias) + dit.cond_encoder.bias
    tokens = tokens + dit.trainable_cond_mask.weight[0]
    for n, module in enumerate(dit.blocks):
        layer = cast(Layer, module)
        m = (layer.modulation + at)[:, :, None, None].unbind(1)
        if n == 0:
            tokens = tokens + on.seen * m[2]
        cross, norm3 = layer.cross_attn, layer.norm3
        y = F.layer_norm(tokens, tokens.shape[-1:], norm3.weight, norm3.bias, norm3.eps)
        y = cross.o(_read(queries(cross, y.flatten(1, 2)), *on.text[n], on.rest))
        tokens = tokens + y.view(tokens.shape)
        y = modulate(plain_norm(tokens, layer.eps), m[4], m[3])
        tokens = tokens + feed(layer, y) * m[5]
        number = dit.cfg.injector_of(n)
        if number is not None:
            adain = dit.audio_injector.injector_adain_layers[number].linear
            injector = dit.audio_injector.injector[number]
            shift, scale = adain(F.silu(on.heard[0]))[:, :, None].chunk(2, dim=-1)
            y = modulate(plain_norm(tokens, ADAIN_EPS), scale, shift).flatten(0, 1)
            local = on.heard[1].flatten(0, 1)
            y = attend(queries(injector, y), keys(injector, local), values(injector, local))
            tokens = tokens + injector.o(y).view(tokens.shape)
    shift, scale = (dit.head.modulation + e[:, None]).unbind(1)
    y = modulate(plain_norm(tokens, dit.head.eps), scale[:, None, None], shift[:, None, None])
    out = cast(Tensor, dit.head.head(y)).float()
    return out.unflatten(-1, (4, -1)).mT.flatten(-2)  # the head's channels come last

"""The transformer's layer and the audio injection that follows some of them.

``forward`` takes every work item of a rank at once, so that sharded weights are gathered once for
all of them. It may be an empty list: a rank without work still takes part in the gathering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.attention import attend, attend_frames
from engine.model.caches import Conditioning, RollingCache
from engine.model.config import DiTConfig, Numerics
from engine.model.rope import rotate

#: Epsilon of the norm under the audio's scale and shift; the other norms use the configuration's.
ADAIN_EPS = 1e-5


@dataclass
class BlockPart:
    """What only a noisy block has while it walks the layers."""

    kv: RollingCache
    start: int  # absolute token at which the block begins
    shift: int  # of the reference along time
    reference_table: Tensor  # complex64 [fs, D/2]
    head: Tensor  # float32 [C], the timestep's embedding
    audio_global: Tensor  # [A, 3, C]
    audio_local: Tensor  # [A, 3, n+1, C]
    mask: Tensor | None  # [A, 3·fs, 1] or None for one actor
    grid: tuple[int, int, int]  # frames, rows, columns of tokens
    adapted: list[Tensor] = field(default_factory=list)  # per actor [3·fs, C]


@dataclass
class State:
    """One work item between two layers. ``x [L, C]`` is all that changes."""

    x: Tensor
    modulation: Tensor  # float32 [6, C]
    table: Tensor  # complex64 [L, D/2], rotations of the item's own tokens
    cond: Conditioning
    block: BlockPart | None = None
    text: Tensor | None = None  # [text_len, C], in a prefill whose text is not yet known


class Linear(nn.Linear):
    """A linear layer that computes in its input's dtype, whatever the weights are stored in."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the whole width, computed in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x.float(), (x.shape[-1],), None, self.eps).to(x.dtype)
        return y * self.weight.to(x.dtype)


class LayerNorm(nn.Module):
    """Layer norm with weight and bias, computed in float32, result in ``x``'s dtype."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(
            x.float(), (x.shape[-1],), self.weight.float(), self.bias.float(), self.eps
        )
        return y.to(x.dtype)


def plain_norm(x: Tensor, eps: float) -> Tensor:
    """Layer norm without weights, computed in float32, result in ``x``'s dtype."""
    return F.layer_norm(x.float(), (x.shape[-1],), None, None, eps).to(x.dtype)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x·(1 + scale) + shift`` in the modulation's dtype."""
    return x * (1 + scale) + shift


class Attention(nn.Module):
    """Projections of one attention; ``q`` and ``k`` are normed over the full width."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.heads = cfg.num_heads
        self.q = Linear(cfg.dim, cfg.dim)
        self.k = Linear(cfg.dim, cfg.dim)
        self.v = Linear(cfg.dim, cfg.dim)
        self.o = Linear(cfg.dim, cfg.dim)
        self.norm_q = RMSNorm(cfg.dim, cfg.eps)
        self.norm_k = RMSNorm(cfg.dim, cfg.eps)

    def queries(self, x: Tensor) -> Tensor:
        return self._split(self.norm_q(self.q(x)))

    def keys(self, x: Tensor) -> Tensor:
        return self._split(self.norm_k(self.k(x)))

    def values(self, x: Tensor) -> Tensor:
        return self._split(self.v(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1)


class Layer(nn.Module):
    """Self-attention with memory, text attention, feed-forward; modulated by the timestep."""

    def __init__(self, cfg: DiTConfig, index: int, numerics: Numerics) -> None:
        super().__init__()
        self.index = index
        self.eps = cfg.eps
        self.compute = numerics.compute
        self.norm3_dtype = torch.bfloat16 if numerics.norm3_bf16 else numerics.compute
        self.modulation = nn.Parameter(torch.zeros(1, 6, cfg.dim))
        self.self_attn = Attention(cfg)
        self.cross_attn = Attention(cfg)
        self.norm3 = LayerNorm(cfg.dim, cfg.eps)
        self.ffn = nn.Sequential(
            Linear(cfg.dim, cfg.ffn_dim), nn.GELU(approximate="tanh"), Linear(cfg.ffn_dim, cfg.dim)
        )

    def forward(self, states: Sequence[State]) -> None:
        """Advance every state's ``x`` by this layer and update its caches."""
        for state in states:
            self._advance(state)

    def _advance(self, state: State) -> None:
        # Sums stay in float32 until the layer's end: rounding happens once per layer.
        m = (self.modulation[0].float() + state.modulation).unbind(0)
        x = state.x
        y = modulate(plain_norm(x, self.eps), m[1], m[0]).to(self.compute)
        x = x + self._self_attention(y, state) * m[2]
        x = x + self._text_attention(x, state)
        y = modulate(plain_norm(x, self.eps), m[4], m[3]).to(self.compute)
        x = x + self.ffn(y) * m[5]
        state.x = x.to(self.compute)

    def _self_attention(self, y: Tensor, state: State) -> Tensor:
        attn, n = self.self_attn, self.index
        q = rotate(attn.queries(y), state.table)
        k, v = attn.keys(y), attn.values(y)
        block = state.block
        if block is None:
            state.cond.fill(n, k, v)
            k = rotate(k, state.table)
        else:
            slot, active = block.kv.slot(block.start, len(y))
            block.kv.write(n, slot, rotate(k, state.table), v)
            block.kv.set_lead(n, state.cond, block.shift, block.reference_table)
            k, v = block.kv.window(n, active)
        out: Tensor = attn.o(attend(q, k, v))
        return out

    def _text_attention(self, x: Tensor, state: State) -> Tensor:
        attn, memory = self.cross_attn, state.cond.job
        if state.text is not None:
            memory.fill(self.index, attn.keys(state.text), attn.values(state.text))
        y = self.norm3(x.to(self.norm3_dtype)).to(self.compute)
        out: Tensor = attn.o(attend(attn.queries(y), memory.k[self.index], memory.v[self.index]))
        return out


class AdaIN(nn.Module):
    """Norm of each frame's tokens, scaled and shifted by that frame's audio, per actor."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.linear = Linear(cfg.dim, 2 * cfg.dim)

    def forward(self, states: Sequence[State]) -> None:
        """Leave ``adapted`` in every block's state; states without a block are passed over."""
        for state in states:
            block = state.block
            if block is None:
                continue
            frames = block.grid[0]
            z = plain_norm(state.x, ADAIN_EPS).reshape(frames, -1, state.x.shape[-1])
            for audio in block.audio_global:
                shift, scale = self.linear(F.silu(audio)).chunk(2, dim=-1)
                block.adapted.append(modulate(z, scale[:, None], shift[:, None]).flatten(0, 1))


class Injector(Attention):
    """Attention of each frame's tokens over that frame's audio tokens, added to ``x``."""

    def forward(self, states: Sequence[State]) -> None:
        """Add every actor's residual, weighted by its mask; uses up ``adapted``."""
        for state in states:
            block = state.block
            if block is None:
                continue
            frames = block.grid[0]
            total: Tensor | None = None
            for actor, z in enumerate(block.adapted):
                q = self.queries(z.reshape(frames, -1, z.shape[-1]))
                local = block.audio_local[actor]
                residual = self.o(attend_frames(q, self.keys(local), self.values(local)))
                if block.mask is not None:
                    residual = residual * block.mask[actor]
                total = residual if total is None else total + residual
            if total is not None:
                state.x = state.x + total
            block.adapted.clear()


class AudioInjector(nn.Module):
    """The injectors and their norms, numbered by rank among the layers they follow."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        count = len(cfg.audio_inject_layers)
        self.injector = nn.ModuleList(Injector(cfg) for _ in range(count))
        self.injector_adain_layers = nn.ModuleList(AdaIN(cfg) for _ in range(count))

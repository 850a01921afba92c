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
from engine.model.fp8 import Linear8, Rows8
from engine.model.fused import (
    Affine,
    Modulated,
    add,
    add_norm,
    gelu_rows,
    linear_gelu,
    norm,
    norm_heads,
    rms_norm,
)
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
    adapted: list[Tensor | Rows8] = field(default_factory=list)  # per actor [3·fs, C]


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
    """Root-mean-square norm over the whole width; before heads ``fused.norm_heads`` computes it."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class LayerNorm(nn.Module):
    """Weight and bias of a layer norm; ``fused.Affine`` computes it."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def of(self, rounded: torch.dtype) -> Affine:
        """This norm of an input rounded to ``rounded``."""
        return Affine(self.weight, self.bias, self.eps, rounded)


def linear(inputs: int, outputs: int, numerics: Numerics) -> nn.Module:
    """A linear layer of those that fp8 quantises."""
    return Linear8(inputs, outputs) if numerics.fp8 else Linear(inputs, outputs)


class Attention(nn.Module):
    """Projections of one attention; ``q`` and ``k`` are normed over the full width."""

    def __init__(self, cfg: DiTConfig, numerics: Numerics) -> None:
        super().__init__()
        self.heads = cfg.num_heads
        self.q = linear(cfg.dim, cfg.dim, numerics)
        self.k = linear(cfg.dim, cfg.dim, numerics)
        self.v = linear(cfg.dim, cfg.dim, numerics)
        self.o = linear(cfg.dim, cfg.dim, numerics)
        self.norm_q = RMSNorm(cfg.dim, cfg.eps)
        self.norm_k = RMSNorm(cfg.dim, cfg.eps)

    def queries(self, x: Tensor | Rows8, table: Tensor | None = None) -> Tensor:
        """``[…, H, D]``, rotated by ``table`` if there is one."""
        return norm_heads(self.q(x), self.norm_q.weight, self.norm_q.eps, self.heads, table)

    def keys(self, x: Tensor | Rows8, table: Tensor | None = None) -> Tensor:
        """``[…, H, D]``, rotated by ``table`` if there is one."""
        return norm_heads(self.k(x), self.norm_k.weight, self.norm_k.eps, self.heads, table)

    def values(self, x: Tensor | Rows8) -> Tensor:
        """``[…, H, D]``."""
        v: Tensor = self.v(x)
        return v.reshape(*v.shape[:-1], self.heads, -1)


class FeedForward(nn.Sequential):
    """Linear, GELU, linear; numbered as in the checkpoint."""

    def __init__(self, cfg: DiTConfig, numerics: Numerics) -> None:
        super().__init__(
            linear(cfg.dim, cfg.ffn_dim, numerics),
            nn.GELU(approximate="tanh"),
            linear(cfg.ffn_dim, cfg.dim, numerics),
        )

    def forward(self, y: Tensor | Rows8) -> Tensor:
        """``[L, C]`` → ``[L, C]``."""
        up, _, down = self
        inner: Tensor | Rows8
        if isinstance(up, Linear):
            assert isinstance(y, Tensor)
            inner = linear_gelu(y, up.weight, up.bias)
        else:
            inner = gelu_rows(up(y))
        out: Tensor = down(inner)
        return out


class Layer(nn.Module):
    """Self-attention with memory, text attention, feed-forward; modulated by the timestep."""

    def __init__(self, cfg: DiTConfig, index: int, numerics: Numerics) -> None:
        super().__init__()
        self.index = index
        self.eps = cfg.eps
        self.compute = numerics.compute
        self.fp8 = numerics.fp8
        self.norm3_dtype = torch.bfloat16 if numerics.norm3_bf16 else numerics.compute
        self.modulation = nn.Parameter(torch.zeros(1, 6, cfg.dim))
        self.self_attn = Attention(cfg, numerics)
        self.cross_attn = Attention(cfg, numerics)
        self.norm3 = LayerNorm(cfg.dim, cfg.eps)
        self.ffn = FeedForward(cfg, numerics)

    def forward(self, states: Sequence[State]) -> None:
        """Advance every state's ``x`` by this layer and update its caches."""
        for state in states:
            self._advance(state)

    def _advance(self, state: State) -> None:
        # Sums stay in float32 until the layer's end: rounding happens once per layer.
        m = (state.modulation + self.modulation[0]).unbind(0)
        kind, fp8 = self.compute, self.fp8
        y = norm(state.x, Modulated(m[1], m[0], self.eps), kind, fp8=fp8)
        z = self._self_attention(y, state)
        x, y = add_norm(state.x, z, m[2], self.norm3.of(self.norm3_dtype), kind, fp8=fp8)
        z = self._text_attention(y, state)
        x, y = add_norm(x, z, None, Modulated(m[4], m[3], self.eps), kind, fp8=fp8)
        state.x = add(x, self.ffn(y), m[5], kind)

    def _self_attention(self, y: Tensor | Rows8, state: State) -> Tensor:
        attn, n = self.self_attn, self.index
        q = attn.queries(y, state.table)
        v = attn.values(y)
        block = state.block
        if block is None:
            k = attn.keys(y)
            state.cond.fill(n, k, v)
            k = rotate(k, state.table)
        else:
            slot, active = block.kv.slot(block.start, len(v))
            block.kv.write(n, slot, attn.keys(y, state.table), v)
            block.kv.set_lead(n, state.cond, block.shift, block.reference_table)
            k, v = block.kv.window(n, active)
        out: Tensor = attn.o(attend(q, k, v))
        return out

    def _text_attention(self, y: Tensor | Rows8, state: State) -> Tensor:
        attn, memory = self.cross_attn, state.cond.job
        if state.text is not None:
            memory.fill(self.index, attn.keys(state.text), attn.values(state.text))
        out: Tensor = attn.o(attend(attn.queries(y), memory.k[self.index], memory.v[self.index]))
        return out


class AdaIN(nn.Module):
    """Norm of each frame's tokens, scaled and shifted by that frame's audio, per actor."""

    def __init__(self, cfg: DiTConfig, numerics: Numerics) -> None:
        super().__init__()
        self.fp8 = numerics.fp8
        self.linear = linear(cfg.dim, 2 * cfg.dim, numerics)

    def forward(self, states: Sequence[State]) -> None:
        """Leave ``adapted`` in every block's state; states without a block are passed over."""
        for state in states:
            block = state.block
            if block is None:
                continue
            for audio in block.audio_global:
                shift, scale = self.linear(F.silu(audio)).chunk(2, dim=-1)
                how = Modulated(scale, shift, ADAIN_EPS)
                block.adapted.append(norm(state.x, how, state.x.dtype, fp8=self.fp8))


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
                q = self.queries(z)
                q = q.reshape(frames, -1, *q.shape[1:])
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

    def __init__(self, cfg: DiTConfig, numerics: Numerics) -> None:
        super().__init__()
        count = len(cfg.audio_inject_layers)
        self.injector = nn.ModuleList(Injector(cfg, numerics) for _ in range(count))
        self.injector_adain_layers = nn.ModuleList(AdaIN(cfg, numerics) for _ in range(count))

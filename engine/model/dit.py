"""The causal DiT: work items in, velocities out; one walk over the layers serves all items.

Parameters carry the checkpoint's key names, so a file loads tensor by tensor without a map. Every
layer, injector and injector norm is called as a module with the whole list of items, which is
what sharding by ``fully_shard`` needs: one gathering per walk and unit, taken part in even by a
rank whose list is empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.audio_encoder import AudioEmbedding, CausalAudioEncoder
from engine.model.caches import Conditioning, RollingCache
from engine.model.config import BLOCK_LATENTS, DiTConfig, Numerics
from engine.model.framepack import FramePacker, PatchEmbed, motion_table
from engine.model.fused import modulate, plain_norm
from engine.model.layers import AudioInjector, BlockPart, Layer, Linear, State
from engine.model.rope import REFERENCE_TIME, block_table, reference_shift


@dataclass
class BlockAudio:
    """Speech features of one block, ``[A, states, audio_dim, 12]`` for A actors.

    ``embedding`` is filled by the first step that needs it and serves the block's other steps.
    """

    features: Tensor
    embedding: AudioEmbedding | None = None


@dataclass
class PrefillItem:
    """Fill ``cond`` from a reference latent ``[16,1,h,w]`` and motion latents ``[16,m,h,w]``.

    ``context [L, text_dim]`` is the prompt's embedding, L ≤ text_len; it is not looked at when
    ``cond.job`` is already filled.
    """

    ref: Tensor
    motion: Tensor
    context: Tensor
    cond: Conditioning


@dataclass
class BlockItem:
    """One denoising step of one block: ``x [16,3,h,w]`` at timestep ``t`` (0…1000).

    ``f0`` is the block's first latent frame in the whole video. ``pose [16,3,h,w]`` is optional.
    ``mask [A, ≥3, h/2, w/2, 1]`` says where each actor's audio acts; its first three frames are
    used for every block, as the reference does.
    """

    x: Tensor
    t: float
    audio: BlockAudio
    f0: int
    relative_dist: int
    kv: RollingCache
    cond: Conditioning
    pose: Tensor | None = None
    mask: Tensor | None = None


Item = PrefillItem | BlockItem


class Head(nn.Module):
    """Norm, modulation by the timestep, projection to patches; in float32."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.eps = cfg.eps
        self.head = Linear(cfg.dim, cfg.out_dim * math.prod(cfg.patch))
        self.modulation = nn.Parameter(torch.zeros(1, 2, cfg.dim))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        shift, scale = self.modulation[0].float() + e
        out: Tensor = self.head(modulate(plain_norm(x, self.eps), scale, shift))
        return out


class DiT(nn.Module):
    """The whole network. Build it under ``torch.device("meta")`` to load into place later."""

    def __init__(self, cfg: DiTConfig, numerics: Numerics | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        self.numerics = numerics or Numerics()
        c = cfg.dim
        self.patch_embedding = PatchEmbed(cfg.in_dim, c, cfg.patch)
        self.cond_encoder = PatchEmbed(cfg.in_dim, c, cfg.patch)
        # Given its weight, it is not initialised: on meta that alone would import torch._dynamo.
        self.trainable_cond_mask = nn.Embedding(3, c, _weight=torch.zeros(3, c))
        self.frame_packer = FramePacker(cfg)
        self.text_embedding = nn.Sequential(
            Linear(cfg.text_dim, c), nn.GELU(approximate="tanh"), Linear(c, c)
        )
        self.time_embedding = nn.Sequential(Linear(cfg.freq_dim, c), nn.SiLU(), Linear(c, c))
        self.time_projection = nn.Sequential(nn.SiLU(), Linear(c, 6 * c))
        self.casual_audio_encoder = CausalAudioEncoder(cfg)
        self.blocks = nn.ModuleList(Layer(cfg, n, self.numerics) for n in range(cfg.num_layers))
        self.audio_injector = AudioInjector(cfg, self.numerics)
        self.head = Head(cfg)
        self.requires_grad_(False)

    def forward(self, items: Sequence[Item]) -> list[Tensor | None]:
        """Walk all layers once. A block gives its velocity ``[16,3,h,w]``, a prefill None."""
        states = self.embed(items)
        for n in range(len(self.blocks)):
            self.run_layer(n, states)
        return self.finish(states)

    def embed(self, items: Sequence[Item]) -> list[State]:
        """Tokens, modulation, rotations and audio of every item."""
        return [
            self._embed_prefill(i) if isinstance(i, PrefillItem) else self._embed_block(i)
            for i in items
        ]

    def run_layer(self, n: int, states: Sequence[State]) -> None:
        """Layer ``n`` and, where one follows it, the audio injector; changes ``states``."""
        self.blocks[n](states)
        k = self.cfg.injector_of(n)
        if k is not None:
            self.audio_injector.injector_adain_layers[k](states)
            self.audio_injector.injector[k](states)

    def finish(self, states: Sequence[State]) -> list[Tensor | None]:
        """Head and unpatchify."""
        return [None if s.block is None else self._unpatchify(s.x, s.block) for s in states]

    def time(self, t: float, cond: Conditioning) -> tuple[Tensor, Tensor]:
        """Embedding ``[C]`` and modulation ``[6, C]`` of a timestep in float32, made once a job."""
        if t not in cond.job.times:
            cond.job.times[t] = self.embed_time(t)
        return cond.job.times[t]

    def embed_time(self, t: float) -> tuple[Tensor, Tensor]:
        """As ``time``, computed anew."""
        half, device = self.cfg.freq_dim // 2, cast(Linear, self.time_embedding[0]).weight.device
        index = torch.arange(half, dtype=torch.float64, device=device)
        args = torch.pow(10000.0, -index / half) * t
        e = self.time_embedding(torch.cat([args.cos(), args.sin()])[None].float())
        return e[0], self._modulation(e)

    def _modulation(self, e: Tensor) -> Tensor:
        # A sixth at a time: a float32 copy of the whole weight would be a step's largest tensor.
        projection = cast(Linear, self.time_projection[1])
        parts = zip(projection.weight.chunk(6), projection.bias.chunk(6), strict=True)
        return torch.cat([F.linear(F.silu(e), w.float(), b.float()) for w, b in parts])

    def text(self, context: Tensor) -> Tensor:
        """``[L, text_dim]`` → ``[text_len, C]``; the padding's rows are embedded like any other.

        Raises ``ValueError`` if L exceeds ``text_len``.
        """
        if (missing := self.cfg.text_len - len(context)) < 0:
            raise ValueError(f"{len(context)} prompt tokens; at most {self.cfg.text_len}")
        padded = F.pad(context, (0, 0, 0, missing)).to(self.numerics.compute)
        out: Tensor = self.text_embedding(padded)
        return out

    def _embed_prefill(self, item: PrefillItem) -> State:
        numerics, cond = self.numerics, item.cond
        _, _, h, w = item.ref.shape
        rows, columns = h // self.cfg.patch[1], w // self.cfg.patch[2]
        half, dim, device = numerics.rope_half, self.cfg.head_dim, item.ref.device
        mask = self.trainable_cond_mask.weight.to(numerics.compute)
        ref = self.patch_embedding(item.ref.to(numerics.compute)) + mask[1]
        motion = self.frame_packer(item.motion.to(numerics.compute)) + mask[2]
        x = torch.cat([ref, motion])
        if len(x) != cond.tokens:
            raise ValueError(f"{len(x)} conditioning tokens for a store of {cond.tokens}")
        cond.motion_table = motion_table(h, w, self.cfg, device, half)
        reference = block_table(REFERENCE_TIME, 1, rows, columns, dim, device, half)
        return State(
            x=x,
            modulation=self.time(0.0, cond)[1],
            table=torch.cat([reference, cond.motion_table]),
            cond=cond,
            text=None if cond.job.complete else self.text(item.context),
        )

    def _embed_block(self, item: BlockItem) -> State:
        numerics = self.numerics
        _, frames, h, w = item.x.shape
        grid = frames, h // self.cfg.patch[1], w // self.cfg.patch[2]
        half, dim, device = numerics.rope_half, self.cfg.head_dim, item.x.device
        x = self.patch_embedding(item.x.to(numerics.compute))
        if item.pose is None:  # a pose of zeros leaves the convolution's bias
            x = x + self.cond_encoder.bias.to(x.dtype)
        else:
            x = x + self.cond_encoder(item.pose.to(x.dtype))
        x = x + self.trainable_cond_mask.weight[0].to(x.dtype)
        e, modulation = self.time(item.t, item.cond)
        audio = item.audio.embedding
        if audio is None:
            audio = self.casual_audio_encoder(item.audio.features, numerics.compute)
            item.audio.embedding = audio
        mask = item.mask
        if mask is not None:
            mask = mask[:, :BLOCK_LATENTS].reshape(len(mask), -1, 1).to(x.dtype)
        elif len(audio.local) > 1:
            raise ValueError(f"{len(audio.local)} actors need masks")
        shift = reference_shift(item.f0, item.relative_dist)
        block = BlockPart(
            kv=item.kv,
            start=item.f0 * grid[1] * grid[2],
            shift=shift,
            reference_table=block_table(REFERENCE_TIME + shift, 1, *grid[1:], dim, device, half),
            head=e,
            audio_global=audio.global_,
            audio_local=audio.local,
            mask=mask,
            grid=grid,
        )
        table = block_table(item.f0, *grid, dim, device, half)
        return State(x=x, modulation=modulation, table=table, cond=item.cond, block=block)

    def _unpatchify(self, x: Tensor, block: BlockPart) -> Tensor:
        f, rows, columns = block.grid
        pt, ph, pw = self.cfg.patch
        patches: Tensor = self.head(x, block.head).to(self.numerics.compute)
        cells = patches.reshape(f, rows, columns, pt, ph, pw, self.cfg.out_dim)
        cells = cells.permute(6, 0, 3, 1, 4, 2, 5)
        return cells.reshape(self.cfg.out_dim, f * pt, rows * ph, columns * pw)

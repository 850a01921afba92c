"""The causal encoder that turns speech features of a block into tokens per latent frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import BLOCK_LATENTS, DiTConfig
from engine.model.fused import plain_norm
from engine.model.layers import Linear


class CausalConv(nn.Module):
    """Convolution over time that looks back only; the first frame is repeated in front."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """``x [N, inputs, T]`` → ``[N, outputs, (T−1)//stride + 1]``, in ``x``'s dtype."""
        bias = self.conv.bias
        return F.conv1d(
            F.pad(x, (2, 0), mode="replicate"),
            self.conv.weight.to(x.dtype),
            None if bias is None else bias.to(x.dtype),
            self.conv.stride,
        )


class MotionEncoder(nn.Module):
    """Local tokens (several per frame) and one global token, sharing all but the first stage."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        c, n = cfg.dim, cfg.num_audio_token
        self.tokens, self.eps = n, cfg.eps
        self.conv1_local = CausalConv(cfg.audio_dim, (c // 4) * n, 1)
        self.conv1_global = CausalConv(cfg.audio_dim, c // 4, 1)
        self.conv2 = CausalConv(c // 4, c // 2, 2)
        self.conv3 = CausalConv(c // 2, c, 2)
        self.final_linear = Linear(c, c)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, c))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x [A, audio_dim, T]`` → global ``[A, T', C]``, local ``[A, T', n+1, C]``."""
        actors = len(x)
        local = self.conv1_local(x)
        local = local.reshape(actors * self.tokens, -1, local.shape[-1])
        local = self._chain(local)
        local = local.reshape(actors, self.tokens, *local.shape[1:]).transpose(1, 2)
        padding = self.padding_tokens.to(x.dtype).expand(actors, local.shape[1], 1, -1)
        return (
            self.final_linear(self._chain(self.conv1_global(x))),
            torch.cat([local, padding], dim=2),
        )

    def _chain(self, x: Tensor) -> Tensor:
        """``[N, C/4, T]`` → ``[N, T', C]``."""
        x = self._activate(x)
        x = self._activate(self.conv2(x.mT))
        return self._activate(self.conv3(x.mT))

    def _activate(self, x: Tensor) -> Tensor:
        return F.silu(plain_norm(x.mT, self.eps))


@dataclass(frozen=True)
class AudioEmbedding:
    """Audio of one block: ``global_ [A, 3, C]`` and ``local [A, 3, n+1, C]``."""

    global_: Tensor
    local: Tensor


class CausalAudioEncoder(nn.Module):
    """Mixes the speech encoder's hidden states and encodes them in float32."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.repeat, self.drop = cfg.motion_frames, cfg.motion_latents
        self.weights = nn.Parameter(torch.zeros(1, cfg.audio_states, 1, 1))
        self.encoder = MotionEncoder(cfg)

    def encode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``features [A, states, audio_dim, T]`` → everything the encoder says, float32.

        The block's first frame stands for the history in front of it. Returns global
        ``[A, T', C]`` and local ``[A, T', n+1, C]``, the history's frames included.
        """
        first = features[..., :1].expand(*features.shape[:-1], self.repeat)
        x = torch.cat([first, features], dim=-1).float()
        mix = F.silu(self.weights.float())
        x = (x * mix).sum(dim=1) / mix.sum(dim=1)
        out: tuple[Tensor, Tensor] = self.encoder(x)
        return out

    def forward(self, features: Tensor, dtype: torch.dtype) -> AudioEmbedding:
        """The block's own frames, rounded to ``dtype``."""
        global_, local = self.encode(features)
        if (frames := local.shape[1] - self.drop) != BLOCK_LATENTS:
            raise ValueError(f"the audio of a block gave {frames} latent frames")
        return AudioEmbedding(global_[:, self.drop :].to(dtype), local[:, self.drop :].to(dtype))

"""Motion frames packed into few tokens: the newest at full rate, older ones ever coarser.

Source: FramePack (arXiv:2504.12626) as Wan2.2-S2V uses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import MOTION_BUCKETS, DiTConfig
from engine.model.rope import span, spread, table


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel, as one matrix product over patches."""

    def __init__(self, channels: int, dim: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.weight = nn.Parameter(torch.zeros(dim, channels, *patch))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``x [channels, F, h, w]`` → tokens ``[F'·h'·w', dim]``, frame-major, then row, column."""
        c, f, h, w = x.shape
        pt, ph, pw = self.patch
        if f % pt or h % ph or w % pw:
            raise ValueError(f"{f}×{h}×{w} latent cells do not split into patches of {self.patch}")
        x = x.reshape(c, f // pt, pt, h // ph, ph, w // pw, pw)
        x = x.permute(1, 3, 5, 0, 2, 4, 6).reshape(-1, c * pt * ph * pw)
        return F.linear(x, self.weight.to(x.dtype).flatten(1), self.bias.to(x.dtype))


class FramePacker(nn.Module):
    """Tokens of the last 19 motion latents at three rates."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        t, h, w = cfg.patch
        self.proj = PatchEmbed(cfg.in_dim, cfg.dim, (t, h, w))
        self.proj_2x = PatchEmbed(cfg.in_dim, cfg.dim, (2 * t, 2 * h, 2 * w))
        self.proj_4x = PatchEmbed(cfg.in_dim, cfg.dim, (4 * t, 4 * h, 4 * w))

    def forward(self, motion: Tensor) -> Tensor:
        """``motion [channels, m, h, w]``, oldest first → tokens in the order 1x, 2x, 4x.

        Missing older frames are zeros.
        """
        need = sum(MOTION_BUCKETS)
        motion = motion[:, -need:]
        if (missing := need - motion.shape[1]) > 0:
            motion = F.pad(motion, (0, 0, 0, 0, missing, 0))
        first, second, third = MOTION_BUCKETS
        oldest, middle, newest = torch.split(motion, [third, second, first], dim=1)
        return torch.cat([self.proj(newest), self.proj_2x(middle), self.proj_4x(oldest)])


def motion_table(
    height: int, width: int, cfg: DiTConfig, device: torch.device, half: bool
) -> Tensor:
    """Rotations of the packed tokens for latents of ``height`` × ``width`` cells.

    The coarse rates stand at rows and columns spread over the full grid, and at times before 0.
    """
    rows, columns = height // cfg.patch[1], width // cfg.patch[2]
    _, second, third = MOTION_BUCKETS
    groups = third // 4
    times = torch.linspace(second + third + 1, 4, groups, dtype=torch.float64)
    parts = (
        (span(-1, 1, device), span(0, rows, device), span(0, columns, device)),
        (
            span(-1 - second, 1, device),
            spread(rows - 1, height // 4, device),
            spread(columns - 1, width // 4, device),
        ),
        (
            (-torch.trunc(times)).to(device),
            spread(rows - 1, height // 8, device),
            spread(columns - 1, width // 8, device),
        ),
    )
    return torch.cat([table(t, h, w, cfg.head_dim, half=half) for t, h, w in parts])

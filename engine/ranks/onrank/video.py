"""The VAE's work on a rank: the portrait to starting latents, finished blocks to frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.media.image import load_portrait
from engine.model.config import DiTConfig
from engine.model.pixels import StreamedPixels, starting_latents
from engine.model.vae import VAE


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's parameters."""
    return sum(p.nbytes for p in module.parameters())


def encode_portrait(
    vae: VAE, cfg: DiTConfig, image: Path, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """The portrait as conditioning: ``ref [16,1,h,w]`` and ``motion [16,m,h,w]``, float32.

    Raises:
        MediaError: the picture cannot be read.
    """
    pixels = torch.from_numpy(load_portrait(image, height, width))
    return starting_latents(vae, pixels.permute(2, 0, 1).float() / 127.5 - 1, cfg)


def to_frames(pixels: Tensor) -> NDArray[np.uint8]:
    """``[3, n, H, W]`` in [−1, 1] → ``[n, H, W, 3]``, in host memory."""
    rgb = pixels.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(rgb.permute(1, 2, 3, 0).cpu().numpy())


class BlockDecoder:
    """Decodes one video's blocks in order, on from its motion latents; never reset.

    Args:
        state: the memory of a decoder that was left, to go on from.
        whole: keep all frames of the first block: something precedes it.
    """

    def __init__(
        self,
        vae: VAE,
        motion: Tensor,
        state: Sequence[Tensor] | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self._pixels = StreamedPixels(vae, motion if state is None else None)
        if state is not None:
            self._pixels.stream.load_state(state)
        self._pixels.begun |= whole
        self.resumed = state is not None

    @property
    def state(self) -> list[Tensor]:
        """Its memory; later blocks do not change it."""
        return self._pixels.stream.state()

    @property
    def nbytes(self) -> int:
        """Bytes of the stream's history."""
        return self._pixels.stream.nbytes

    def decode(self, latent: Tensor) -> NDArray[np.uint8]:
        """A final latent ``[16,3,h,w]`` → frames ``[12, H, W, 3]``, 9 for the first block."""
        return to_frames(self._pixels.push(latent))

"""The VAE's work on a rank: the portrait to starting latents, finished blocks to frames."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engine.geometry import DEFAULT_FPS, FrameGeometry, snap_size
from engine.media.image import image_info, load_portrait
from engine.model.config import DiTConfig
from engine.model.pixels import StreamedPixels, starting_latents
from engine.model.vae import VAE
from engine.parameters.request import Request
from engine.ranks.embeddings import Shelf
from engine.ranks.onrank.encode import keep


@dataclass(frozen=True)
class VideoSize:
    """Sizes of the video to make."""

    width: int
    height: int
    fps: int

    @classmethod
    def of(cls, request: Request, config: dict[str, Any]) -> VideoSize:
        """What a request comes to for its portrait."""
        area_w, area_h = (int(part) for part in request.size.split("*"))
        info = image_info(Path(str(request.image)))
        width, height = snap_size(area_w, area_h, info.width, info.height)
        return cls(width, height, int(config.get("sample_fps", DEFAULT_FPS)))

    @property
    def latent(self) -> tuple[int, int]:
        """Latent height and width."""
        frame = FrameGeometry(self.width, self.height)
        return frame.latent_height, frame.latent_width


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's parameters."""
    return sum(p.nbytes for p in module.parameters())


def portrait_latents(
    vae: VAE, cfg: DiTConfig, image: Path, size: VideoSize, shelf: Shelf
) -> tuple[Tensor, Tensor]:
    """The portrait as conditioning: ``ref [16,1,h,w]`` and ``motion [16,m,h,w]``, float32.

    Encoded once and kept: a job that goes on, or another with this portrait, takes it from there.

    Raises:
        MediaError: the picture cannot be read.
    """
    kept = shelf.portrait(image, (size.width, size.height), cfg.motion_frames)
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        found = load_file(kept)
        return found["ref"].clone(), found["motion"].clone()  # aligned as what is computed is
    pixels = torch.from_numpy(load_portrait(image, size.height, size.width))
    ref, motion = starting_latents(vae, pixels.permute(2, 0, 1).float() / 127.5 - 1, cfg)
    ref, motion = ref.cpu().contiguous(), motion.cpu().contiguous()
    with contextlib.suppress(OSError, SafetensorError):  # no room: the next job encodes it again
        keep(kept, {"ref": ref, "motion": motion})
    return ref, motion


def to_frames(pixels: Tensor) -> Tensor:
    """``[3, n, H, W]`` in [−1, 1] → ``[n, H, W, 3]`` uint8, on the same device."""
    rgb = pixels.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return rgb.permute(1, 2, 3, 0).contiguous()


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

    def decode(self, latent: Tensor) -> Tensor:
        """A final latent ``[16,3,h,w]`` → frames ``[12, H, W, 3]`` uint8, 9 for the first block.

        Returns at once; the device may still be at work.
        """
        return to_frames(self._pixels.push(latent))

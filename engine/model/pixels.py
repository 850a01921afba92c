"""From a portrait to starting latents, and from a video's latents to its pixels.

``StreamedPixels`` is how this package decodes: one stream for the whole video, never reset.
``ClipPixels`` is the reference's single-device way, kept so that its numbers can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from engine.model.config import BLOCK_FRAMES, DiTConfig
from engine.model.generate import Generation, Semantics, Walk
from engine.model.vae import VAE, StreamDecoder

#: Motion latents fed to a fresh stream before the first block; their pixels are thrown away.
WARM_LATENTS = 7

#: Pixel frames at a video's start that the causal VAE cannot give fully; dropped.
DROPPED_FRAMES = 3

#: Still frames that the single ways start from, in units of ``motion_frames``.
STILL_SPANS = 5


def _still(image: Tensor, frames: int) -> Tensor:
    return image[:, None].expand(-1, frames, -1, -1)


def starting_latents(
    vae: VAE, image: Tensor, cfg: DiTConfig, semantics: Semantics = "tpp"
) -> tuple[Tensor, Tensor]:
    """Reference ``[16,1,h,w]`` and motion ``[16,m,h,w]`` of a portrait ``[3,H,W]`` in [−1, 1]."""
    if semantics == "tpp":
        return vae.encode(_still(image, 1)), vae.encode(_still(image, cfg.motion_frames))
    motion = vae.encode(_still(image, STILL_SPANS * cfg.motion_frames))
    return vae.encode(_still(image, 5))[:, 1:2], motion


class Pixels(Protocol):
    """Takes the blocks of a video in order and gives pixels as they become known."""

    def push(self, latents: Tensor) -> Tensor | None:
        """Final latents of the next block → pixels ``[3, frames, H, W]`` in [−1, 1], if any."""


class StreamedPixels:
    """Decodes block by block: 9 frames for the first block, 12 for each that follows."""

    def __init__(self, vae: VAE, motion: Tensor | None) -> None:
        """``motion``: the motion latents the video starts from, oldest first; None where the
        stream goes on from a state that it is given."""
        self.stream = StreamDecoder(vae)
        if motion is not None:
            self.stream.decode(motion[:, :WARM_LATENTS])
        self.begun = motion is None

    def push(self, latents: Tensor) -> Tensor:
        pixels = self.stream.decode(latents)
        if not self.begun:
            pixels = pixels[:, DROPPED_FRAMES:]
            self.begun = True
        return pixels


class ClipPixels:
    """Decodes whole clips behind the motion latents of everything shown last."""

    def __init__(self, vae: VAE, image: Tensor, motion: Tensor, cfg: DiTConfig, clip: int) -> None:
        """``image``, ``motion`` as in ``starting_latents``; ``clip`` is its blocks."""
        self.vae = vae
        self.span = cfg.motion_frames
        self.clip = clip
        self._shown = _still(image, STILL_SPANS * cfg.motion_frames)
        self._motion: Tensor | None = motion
        self._blocks: list[Tensor] = []
        self._begun = False

    @property
    def motion(self) -> Tensor:
        """Motion latents of the frames shown last, encoded when they are asked for."""
        if self._motion is None:
            self._motion = self.vae.encode(self._shown)
        return self._motion

    def push(self, latents: Tensor) -> Tensor | None:
        self._blocks.append(latents)
        if len(self._blocks) < self.clip:
            return None
        history = self.motion
        whole = torch.cat([history, *(b.to(history.dtype) for b in self._blocks)], dim=1)
        pixels = self.vae.decode(whole)[:, -self.clip * BLOCK_FRAMES :]
        if not self._begun:
            pixels = pixels[:, DROPPED_FRAMES:]
        newest = pixels[:, -self.span :]
        self._shown = torch.cat([self._shown[:, newest.shape[1] :], newest], dim=1)
        self._motion, self._blocks, self._begun = None, [], True
        return pixels


def render(
    generation: Generation, walk: Walk, pixels: Pixels
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """The plain loop with pixels: yields (block, final latent, pixels if any came of it)."""
    renews = generation.options.semantics == "single_online"
    for block, latents in generation.run(walk):
        frames = pixels.push(latents)
        if renews and block + 1 == generation.blocks_per_clip and isinstance(pixels, ClipPixels):
            generation.renew_motion(pixels.motion)
        yield block, latents, frames

"""From image to latents and from finished latents to the video's pixels, as a whole chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.model.vae import VAE, StreamDecoder, VAEConfig
from tests.parity import golden

LATENTS = 2e-5
PIXELS = 1e-4


class Chain:
    """The inputs and finished latents of one variant, and its VAE."""

    def __init__(self, variant: str) -> None:
        folder: Path = golden.ROOT / "generate" / variant
        self.spec: dict[str, Any] = golden.read_json(folder / "spec.json")
        self.given = golden.tensors(folder / "inputs.safetensors")
        self.latents = golden.tensors(folder / "latents.safetensors")
        self.video = golden.tensors(folder / "video.safetensors")
        weights = golden.weights(golden.ROOT / "vae" / variant, "vae.safetensors")
        self.vae = VAE(VAEConfig.from_shapes({name: t.shape for name, t in weights.items()}))
        self.vae.load_state_dict(weights, assign=True)
        self.image = (self.given["image_u8"].float() / 127.5 - 1).permute(2, 0, 1).unsqueeze(1)

    def still(self, frames: int) -> Tensor:
        return self.vae.encode(self.image.expand(-1, frames, -1, -1))

    def saved(self, video: Tensor) -> Tensor:
        """The frames, rows and columns that the reference's file holds."""
        every = self.spec["video_spatial_stride_saved"]
        return video[:, self.spec["video_frame_indices_saved"], ::every, ::every]


@pytest.fixture(scope="module", params=golden.variants("generate"))
def chain(request: pytest.FixtureRequest) -> Chain:
    return Chain(request.param)


def test_the_image_becomes_the_same_reference_and_motion_latents(chain: Chain) -> None:
    given, frames = chain.given, chain.spec["motion_frames"][0]
    golden.close(chain.still(1), given["ref_latents_tpp"][0], LATENTS, "one frame")
    golden.close(chain.still(5)[:, 1:], given["ref_latents_single"][0], LATENTS, "five frames")
    golden.close(chain.still(frames), given["motion_latents_tpp"][0], LATENTS, "motion")


def test_streamed_blocks_give_the_same_video(chain: Chain) -> None:
    """The motion's first 7 latents warm the decoder; the first block loses three frames."""
    stream = StreamDecoder(chain.vae)
    stream.decode(chain.given["motion_latents_tpp"][0, :, :7])
    blocks = [stream.decode(block) for block in chain.latents["tpp/latents_final"]]
    assert {block.shape[1] for block in blocks} == {12}
    video = torch.cat(blocks, dim=1)[:, 3:]
    assert video.shape[1] == chain.spec["video_frames_total"]
    golden.close(chain.saved(video), chain.video["tpp/video"], PIXELS)


def test_a_clip_decoded_behind_its_motion_gives_the_same_frames(chain: Chain) -> None:
    """The single modes' first clip: decoded whole behind 5 times the motion frames."""
    frames = chain.spec["infer_frames"]
    motion = chain.still(5 * chain.spec["motion_frames"][0])
    clip = chain.latents["single_offline/latents_final"][: chain.spec["blocks_per_clip"]]
    whole = torch.cat([motion, *clip], dim=1)
    video = chain.vae.decode(whole)[:, -frames:][:, 3:]
    kept = [n for n in chain.spec["video_frame_indices_saved"] if n < video.shape[1]]
    every = chain.spec["video_spatial_stride_saved"]
    theirs = chain.video["single_offline/video"][:, : len(kept)]
    golden.close(video[:, kept, ::every, ::every], theirs, PIXELS)

"""Does the whole chain, from portrait to pixels, give the reference's pixels?"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import pytest
import torch
from torch import Tensor

from engine.model.generate import Generation, Inputs, Options, Semantics
from engine.model.pixels import ClipPixels, Pixels, StreamedPixels, render, starting_latents
from engine.model.vae import VAE, VAEConfig
from engine.model.vae_blocks import History
from tests.parity import golden
from tests.parity.test_generate import VARIANTS, expected, folder, given, network, spec

#: The ways share what they encode, so they stay on one worker.
pytestmark = pytest.mark.xdist_group("video")

SEMANTICS = ("tpp", "single_offline", "single_online")


class Remembering(VAE):
    """The single ways share their first clip: what was coded once is not coded again."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__(cfg)
        self.seen: dict[tuple[str, bytes], Tensor] = {}

    def encode(self, video: Tensor, history: History | None = None) -> Tensor:
        return self._once("encode", video, history)

    def decode(self, latents: Tensor, history: History | None = None) -> Tensor:
        return self._once("decode", latents, history)

    def _once(self, verb: str, x: Tensor, history: History | None) -> Tensor:
        if history is not None:  # depends on more than its input
            return getattr(super(), verb)(x, history)
        key = verb, sha256(x.cpu().contiguous().numpy().tobytes()).digest()
        if key not in self.seen:
            self.seen[key] = getattr(super(), verb)(x)
        return self.seen[key]


@cache
def vae(variant: str) -> VAE:
    file = golden.ROOT / spec(variant)["vae"]["weights_file"]
    weights = golden.weights(file.parent, file.name)
    with torch.device("meta"):
        net = Remembering(VAEConfig.from_shapes({name: t.shape for name, t in weights.items()}))
    net.load_state_dict(weights, strict=True, assign=True)
    return net.requires_grad_(False)


@cache
def start(variant: str, semantics: Semantics) -> tuple[Tensor, Tensor, Tensor]:
    """Portrait in [−1, 1], reference and motion latents."""
    image = given(variant)["image_u8"].permute(2, 0, 1).float() / 127.5 - 1
    return image, *starting_latents(vae(variant), image, network(variant).cfg, semantics)


@cache
def made(variant: str, semantics: Semantics) -> tuple[Tensor, Tensor]:
    """Final latents ``[blocks, 16, 3, h, w]`` and the video ``[3, frames, H, W]``."""
    g, s = given(variant), spec(variant)
    image, ref, motion = start(variant, semantics)
    options = Options(s["clips"], infer_frames=s["infer_frames"], semantics=semantics)
    inputs = Inputs(
        ref=ref,
        motion=motion,
        context=g["context"],
        audio=g["audio_emb"],
        noise=g["noise"],
        relative_dist=g["relative_dist"].tolist(),
    )
    generation = Generation(network(variant).cfg, options, inputs, device=golden.DEVICE)
    pixels: Pixels = StreamedPixels(vae(variant), motion)
    if semantics != "tpp":
        cfg = network(variant).cfg
        pixels = ClipPixels(vae(variant), image, motion, cfg, options.blocks_per_clip)
    blocks = list(render(generation, network(variant), pixels))
    video = torch.cat([frames for _, _, frames in blocks if frames is not None], dim=1)
    return torch.stack([latents for _, latents, _ in blocks]), video


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_portrait_encodes_to_the_same_start(variant: str) -> None:
    g = given(variant)
    for semantics, name, suffix in [("tpp", "tpp", ""), ("single_online", "single", "_last19")]:
        _, ref, motion = start(variant, semantics)
        golden.close(ref, g[f"ref_latents_{name}"][0], 2e-5, f"{name} reference")
        want = g[f"motion_latents_{name}{suffix}"][0]
        golden.close(motion[:, -want.shape[1] :], want, 2e-5, f"{name} motion")


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_pixels(variant: str, semantics: Semantics) -> None:
    s = spec(variant)
    _, video = made(variant, semantics)
    assert video.shape[1] == s["video_frames_total"]
    assert video.min() >= -1
    assert video.max() <= 1
    reference = golden.tensors(folder(variant) / "video.safetensors")[f"{semantics}/video"]
    stride = s["video_spatial_stride_saved"]
    saved = video[:, s["video_frame_indices_saved"], ::stride, ::stride]
    golden.close(saved, reference, 1e-4, semantics)


@pytest.mark.parametrize("variant", VARIANTS)
def test_latents_of_the_whole_chain(variant: str) -> None:
    """Motion decoded and encoded again on the way, nothing taken from the reference but noise."""
    for semantics in ("tpp", "single_offline"):
        want = expected(variant)[f"{semantics}/latents_final"]
        golden.close(made(variant, semantics)[0], want, 1e-4, semantics)
    (name,) = golden.subset(expected(variant), "single_online/latents_final_blocks")
    want = expected(variant)[name]
    golden.close(made(variant, "single_online")[0][-len(want) :], want, 1e-4, name)

"""Does the VAE compute what the reference computes?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.model.vae import VAE, StreamDecoder, StreamEncoder, VAEConfig
from tests.parity import golden

TOLERANCE = 2e-5


@dataclass
class Case:
    vae: VAE
    io: dict[str, Tensor]
    spec: dict[str, Any]


@pytest.fixture(scope="module", params=golden.variants("vae"))
def case(request: pytest.FixtureRequest) -> Case:
    folder = golden.ROOT / "vae" / request.param
    weights = golden.weights(folder, "vae.safetensors")
    vae = VAE(VAEConfig.from_shapes({name: t.shape for name, t in weights.items()}))
    vae.load_state_dict(weights, strict=True, assign=True)
    vae.requires_grad_(False)
    io = {name: t.float() for name, t in golden.tensors(folder / "io.safetensors").items()}
    return Case(vae, io, golden.read_json(folder / "spec.json"))


def test_the_structure_is_read_off_the_shapes(case: Case) -> None:
    model, cfg = case.spec["model"], case.vae.cfg
    assert cfg.dim == model["dim"]
    assert cfg.z_dim == model["z_dim"]
    assert list(cfg.widths) == [model["dim"] * m for m in model["dim_mult"]]
    assert cfg.blocks == model["num_res_blocks"]
    assert list(cfg.temporal) == model["temperal_downsample"]


def test_the_latent_statistics_are_the_published_ones(case: Case) -> None:
    assert torch.equal(torch.tensor(case.vae.cfg.mean), torch.tensor(case.spec["latent_mean"]))
    assert torch.equal(torch.tensor(case.vae.cfg.std), torch.tensor(case.spec["latent_std"]))


def test_a_video_encodes_to_the_same_latents(case: Case) -> None:
    golden.close(case.vae.encode(case.io["in/video"]), case.io["enc/video"], TOLERANCE)


def test_a_repeated_image_encodes_to_the_same_latents(case: Case) -> None:
    image = case.io["in/video"][:, :1]
    names = [n for n in case.io if n.startswith("enc/image_")]
    assert len(names) >= 3
    for name in names:
        count = int(name.removeprefix("enc/image_").removesuffix("frame").lstrip("x"))
        ours = case.vae.encode(image.repeat(1, count, 1, 1))
        golden.close(ours, case.io[name], TOLERANCE, name)


def test_streaming_encode_is_the_whole_encode(case: Case) -> None:
    video = case.io["in/video"]
    stream = StreamEncoder(case.vae)
    parts = [stream.encode(part) for part in (video[:, :5], *video[:, 5:].split(4, dim=1))]
    assert torch.equal(torch.cat(parts, dim=1), case.vae.encode(video))


def test_latents_decode_to_the_same_pixels(case: Case) -> None:
    pixels = case.vae.decode(case.io["in/latents"])
    golden.close(pixels, case.io["dec/raw"].clamp(-1, 1), TOLERANCE)


def test_streaming_decode_is_the_whole_decode_and_stays_warm(case: Case) -> None:
    latents = case.io["in/latents"]
    stream = StreamDecoder(case.vae)
    parts = [stream.decode(part) for part in latents.split(case.spec["stream_cuts"], dim=1)]
    assert [part.shape[1] for part in parts] == case.spec["stream_output_frames"]
    assert torch.equal(torch.cat(parts, dim=1), case.vae.decode(latents))
    # No reset: the next latents continue the video, four frames each.
    again = stream.decode(latents[:, :3])[:, ::4]
    theirs = case.io["dec/stream_warm_no_reset_first3_every4th"]
    golden.close(again, theirs, TOLERANCE)


class Taps:
    """Outputs of named modules, one list entry per call."""

    def __init__(self, vae: VAE, names: set[str]) -> None:
        self.seen: dict[str, list[Tensor]] = defaultdict(list)
        self.handles = [
            vae.get_submodule(name).register_forward_hook(self._hook(name)) for name in names
        ]

    def _hook(self, name: str) -> Any:
        def keep(_module: object, _args: object, out: Tensor) -> None:
            self.seen[name].append(out)

        return keep

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


@pytest.mark.parametrize("half", ["enc_taps_first5", "dec_taps_first3"])
def test_every_stage_agrees(case: Case, half: str) -> None:
    expected = {n.removeprefix(f"{half}/"): t for n, t in case.io.items() if n.startswith(half)}
    assert expected
    taps = Taps(case.vae, {name.rpartition("/")[0] for name in expected})
    try:
        if half.startswith("enc"):
            raw = case.vae.encode(case.io["in/video"][:, :5])
        else:
            raw = case.vae.decode(case.io["in/latents"][:, :3])
    finally:
        taps.close()
    assert raw.isfinite().all()
    for name, theirs in expected.items():
        module, _, call = name.rpartition("/")
        # The 1x1x1 convolutions: the reference calls them once, we once per chunk.
        once = module in {"conv1", "conv2"}
        ours = torch.cat(taps.seen[module], dim=2) if once else taps.seen[module][int(call)]
        golden.close(ours, theirs, TOLERANCE, name)

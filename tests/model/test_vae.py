"""What a user of the VAE may rely on, at random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.model.vae import VAE, StreamDecoder, StreamEncoder, VAEConfig

NARROW = VAEConfig(dim=2, widths=(2, 4), blocks=1, temporal=(True,))


def small(cfg: VAEConfig = NARROW, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(cfg).requires_grad_(False)


def latents(frames: int, seed: int = 1) -> Tensor:
    return torch.randn(16, frames, 3, 2, generator=torch.Generator().manual_seed(seed))


def test_any_depth_and_width_is_read_off_a_state_dict() -> None:
    for cfg in (
        NARROW,
        VAEConfig(dim=3, widths=(3, 6, 12), blocks=2, temporal=(False, True)),
        VAEConfig(dim=4, widths=(4, 8, 16, 16), blocks=2, temporal=(False, True, True)),
    ):
        with torch.device("meta"):
            state = VAE(cfg).state_dict()
        assert VAEConfig.from_shapes({name: t.shape for name, t in state.items()}) == cfg


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("encoder.downsamples.0.residual.2.weight", "downsamples"),
        ("encoder.conv1.weight", "encoder.conv1.weight"),
        ("conv2.weight", "conv2.weight"),
    ],
)
def test_a_state_dict_without_a_telling_tensor_is_refused_by_name(lost: str, said: str) -> None:
    shapes = {n: t.shape for n, t in small().state_dict().items() if not n.startswith(lost)}
    if "downsamples.0" in lost:
        shapes = {n: s for n, s in shapes.items() if not n.startswith("encoder.downsamples.0")}
    with pytest.raises(ValueError, match=said):
        VAEConfig.from_shapes(shapes)


def test_other_latent_channels_need_their_own_statistics() -> None:
    with pytest.raises(ValueError, match="means"):
        VAEConfig(dim=2, widths=(2, 4), blocks=1, temporal=(True,), z_dim=4)
    own = VAEConfig((2), (2, 4), 1, (True,), z_dim=4, mean=(0.0,) * 4, std=(1.0,) * 4)
    assert small(own).decode(torch.zeros(4, 1, 2, 2)).shape == (3, 1, 4, 4)


@pytest.mark.parametrize("cuts", [[1] * 6, [2, 3, 1], [5, 1]])
def test_a_stream_gives_the_bits_of_the_whole_decode(cuts: list[int]) -> None:
    vae, x = small(), latents(6)
    stream = StreamDecoder(vae)
    parts = [stream.decode(part) for part in torch.split(x, cuts, dim=1)]
    assert torch.equal(torch.cat(parts, dim=1), vae.decode(x))


def test_two_streams_of_one_vae_do_not_disturb_each_other() -> None:
    vae = small()
    a, b = latents(4, 2), latents(4, 3)
    first, second = StreamDecoder(vae), StreamDecoder(vae)
    mixed = [(first.decode(a[:, n : n + 1]), second.decode(b[:, n : n + 1])) for n in range(4)]
    assert torch.equal(torch.cat([m[0] for m in mixed], dim=1), vae.decode(a))
    assert torch.equal(torch.cat([m[1] for m in mixed], dim=1), vae.decode(b))


def test_a_stream_resumes_from_its_state() -> None:
    vae, x = small(), latents(5)
    stream = StreamDecoder(vae)
    assert stream.nbytes == 0
    stream.decode(x[:, :3])
    state = stream.state()
    copies = [tensor.clone() for tensor in state]
    rest = stream.decode(x[:, 3:])
    assert all(map(torch.equal, state, copies)), "a later call changed the snapshot"
    assert stream.nbytes == sum(t.nbytes for t in stream.state()) > 0
    other = StreamDecoder(vae)
    other.load_state(copies)
    assert torch.equal(other.decode(x[:, 3:]), rest)


def test_a_fresh_state_resumes_as_a_fresh_stream() -> None:
    vae, x = small(), latents(2)
    stream = StreamDecoder(vae)
    stream.load_state(StreamDecoder(vae).state())
    assert torch.equal(stream.decode(x), vae.decode(x))


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="history of 1"):
        StreamDecoder(small()).load_state([torch.zeros(1)])


def test_memory_between_calls_does_not_grow_with_the_video() -> None:
    stream = StreamDecoder(small())
    stream.decode(latents(3))
    after_three = stream.nbytes
    stream.decode(latents(5))
    assert stream.nbytes == after_three


def test_pixels_are_float32_clamped_and_alive() -> None:
    pixels = small().decode(latents(3) * 50)
    assert pixels.dtype == torch.float32
    assert pixels.abs().max() <= 1
    assert pixels.std() > 0


def test_streaming_encode_follows_the_chunks() -> None:
    vae = small()
    video = torch.rand(3, 7, 6, 4) * 2 - 1
    stream = StreamEncoder(vae)
    parts = [stream.encode(video[:, :3]), stream.encode(video[:, 3:])]
    assert torch.equal(torch.cat(parts, dim=1), vae.encode(video))
    assert stream.nbytes > 0


@pytest.mark.parametrize(
    ("shape", "said"),
    [((3, 2, 4, 4), "frames"), ((3, 1, 5, 4), "multiples of 4"), ((1, 1, 4, 4), "3, T, H, W")],
)
def test_a_video_that_does_not_fit_is_refused(shape: tuple[int, ...], said: str) -> None:
    vae = small(VAEConfig(dim=2, widths=(2, 2, 2), blocks=1, temporal=(True, True)))
    with pytest.raises(ValueError, match=said):
        vae.encode(torch.zeros(shape))


def test_latents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latents must be \[16"):
        small().decode(torch.zeros(4, 1, 2, 2))


def test_bfloat16_weights_drift_only_by_their_rounding() -> None:
    exact = small().bfloat16().float()  # values that bfloat16 holds exactly
    halved = small().bfloat16()
    a, b = exact.decode(latents(3)), halved.decode(latents(3))
    assert b.dtype == torch.float32
    assert float((a - b).norm() / a.norm()) < 0.03


def test_the_memory_format_changes_nothing_but_speed() -> None:
    vae, x = small(), latents(3)
    before = vae.decode(x)
    vae.set_layout(torch.channels_last_3d)
    assert vae.decoder.conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(vae.decode(x), before, rtol=1e-4, atol=1e-5)

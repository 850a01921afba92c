"""What every video frame hears."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry import clips_of_features
from engine.model.bucket import bucket, clips, indices, resample, rows


def ramp(length: int, layers: int = 2, dim: int = 3) -> torch.Tensor:
    """Features that say their own index (from 1, so silence differs)."""
    return (torch.arange(length) + 1.0)[None, :, None].expand(layers, -1, dim)


def test_fps_25_takes_the_nearest_feature() -> None:
    assert indices(48, 25)[:9].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 10]


def test_ties_go_to_the_even_feature() -> None:
    assert indices(16, 16)[:5].tolist() == [0, 2, 4, 6, 8]  # 3.75 → 4, 5.625 → 6
    assert indices(20, 20)[1] == 2  # 1.5
    assert indices(20, 20)[3] == 5  # 0.15 · 30 is a hair above 4.5 in float64


def test_frames_past_the_sound_hear_zeros() -> None:
    out = bucket(ramp(60), fps=25, infer_frames=12)
    assert out.shape == (1, 2, 3, 60)  # 60 features at 30 Hz are 50 frames: 4 clips and a bit
    first_silent = int((indices(60, 25) < 60).sum())
    assert first_silent == 50
    assert (out[..., :first_silent] > 0).all()
    assert not out[..., first_silent:].any()


def test_neighbours_are_held_at_the_ends() -> None:
    out = bucket(ramp(40, 1, 1), fps=25, infer_frames=12, m=2)
    assert out[0, 0, :, 0].tolist() == [1, 1, 1, 2, 3]
    assert out[0, 0, :, 3].tolist() == [3, 4, 5, 6, 7]


def test_neighbours_lie_whole_features_apart() -> None:
    out = bucket(ramp(60, 1, 1), fps=16, infer_frames=12, m=1)  # 30 / 16 rounded down: 1
    assert out[0, 0, :, 2].tolist() == [4, 5, 6]
    out = bucket(ramp(60, 1, 1), fps=12, infer_frames=12, m=1)
    assert out[0, 0, :, 2].tolist() == [4, 6, 8]


@pytest.mark.parametrize(("features", "whole"), [(57, 1), (58, 1), (59, 2), (115, 2), (116, 3)])
def test_a_clip_that_would_hear_nothing_is_left_out(features: int, whole: int) -> None:
    ours = bucket(ramp(features), fps=25, infer_frames=48)
    assert ours.shape[-1] == 48 * whole
    assert ours[..., -48:].any()
    upstream = bucket(ramp(features), fps=25, infer_frames=48, drop_silent_tail=False)
    assert torch.equal(upstream[..., : 48 * whole], ours)


@given(
    st.integers(1, 4000),
    st.sampled_from([8, 12, 16, 20, 24, 25, 30, 50]),
    st.integers(1, 10).map(lambda n: 12 * n),
)
@settings(max_examples=200, deadline=None)
def test_the_plan_predicts_the_clips_that_come(features: int, fps: int, infer_frames: int) -> None:
    count = clips(features, fps, infer_frames)
    assert count == clips_of_features(features, infer_frames, fps)
    assert count >= 1
    heard = indices(count * infer_frames, fps) < features
    assert heard[-infer_frames:].any()


def test_resampling_keeps_both_ends_and_the_dtype() -> None:
    out = resample(ramp(100).bfloat16())
    assert out.shape == (2, 60, 3)
    assert out.dtype == torch.bfloat16
    exact = resample(ramp(100))
    assert exact[0, 0, 0] == 1
    assert exact[0, -1, 0] == 100
    torch.testing.assert_close(exact[0, 1, 0], torch.tensor(1 + 99 / 59))


def test_too_little_sound_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        resample(ramp(1))
    with pytest.raises(ValueError, match="0 features"):
        bucket(ramp(0), fps=25, infer_frames=48)


def test_speakers_are_cut_to_the_shortest() -> None:
    long = bucket(ramp(100), fps=25, infer_frames=12)
    short = bucket(ramp(30), fps=25, infer_frames=12)
    both = rows([long, short])
    assert both.shape == (2, 2, 3, short.shape[-1])
    assert torch.equal(both[1:], short)

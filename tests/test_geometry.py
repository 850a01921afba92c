"""What size, how many tokens, how many clips, how long?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine import geometry
from engine.geometry import FrameGeometry, clips_in_audio, clips_of_features, forecast, snap_size

GOLDEN = Path(os.environ.get("AVATOP_GOLDEN") or Path(__file__).parent / "golden")


def golden_sizes() -> list[dict[str, object]]:
    tables = sorted((GOLDEN / "generate").glob("*/size_table.json"))
    return [row for table in tables for row in json.loads(table.read_text())]


def test_does_every_size_snap_as_in_the_reference() -> None:
    rows = golden_sizes()
    assert rows
    for row in rows:
        height, width = row["image_hw"]
        area = (int(part) for part in str(row["area_name"]).split("*"))
        assert snap_size(*area, width, height) == (row["out_hw"][1], row["out_hw"][0]), row


def test_does_the_bucket_count_agree_with_the_reference() -> None:
    """``min_batch_num`` counts the extra clip of zeros that we drop."""
    cases = [
        case
        for spec in sorted((GOLDEN / "audio").glob("*/spec.json"))
        for case in json.loads(spec.read_text())["bucket"]
    ]
    assert cases
    for case in cases:
        frames, fps = case["batch_frames"], case["fps"]
        ours = clips_of_features(case["in_shape"][1], frames, fps)
        assert ours == -(-case["nonpadded_frames"] // frames), case


@pytest.mark.parametrize("shape", [(64, 64), (65, 3000), (3000, 65), (1, 4000), (4000, 1)])
@pytest.mark.parametrize("image", [(1, 1), (512, 512), (4000, 30), (30, 4000), (1920, 1080)])
def test_does_any_image_get_a_size_within_the_area(
    shape: tuple[int, int], image: tuple[int, int]
) -> None:
    if shape[0] * shape[1] < 64 * 64:
        with pytest.raises(ValueError, match="under 64"):
            snap_size(*shape, *image)
        return
    width, height = snap_size(*shape, *image)
    assert width > 0 < height
    assert width % 64 == height % 64 == 0
    assert width * height <= shape[0] * shape[1]


def test_are_the_token_counts_those_of_the_real_shape() -> None:
    frame = FrameGeometry(704, 384)
    assert (frame.latent_width, frame.latent_height) == (88, 48)
    assert frame.tokens_per_frame == 1056
    assert frame.tokens_per_block == 3168
    assert frame.ring_tokens == 12672
    assert frame.conditioning_tokens == 2640
    with pytest.raises(ValueError, match="multiples"):
        FrameGeometry(700, 384)
    assert geometry.latent_frames(48) == 12
    assert geometry.blocks_per_clip(48) == 4


def test_is_the_trailing_silent_clip_dropped() -> None:
    # 58 features at 30 Hz are 1.93 s: one clip of 48 frames (1.92 s) hears them all.
    assert clips_of_features(58, 48) == 1
    assert clips_of_features(59, 48) == 2
    assert clips_of_features(0, 48) == 0


def test_how_many_clips_has_an_audio() -> None:
    assert geometry.wav2vec_frames(21137) == 65  # measured with the reference
    assert geometry.wav2vec_frames(399) == 0
    assert clips_in_audio(0, 48) == 0
    assert clips_in_audio(16_000, 48) == 1
    assert clips_in_audio(16_000 * 10, 48) == 6
    assert clips_in_audio(16_000 * 10, 12) == 21


def test_what_is_told_when_the_audio_ends_first() -> None:
    told = forecast(
        size="704*384",
        image_wh=(512, 512),
        audio_samples=16_000 * 10,
        num_clip=50,
        infer_frames=48,
    )
    assert (told.size, told.clips, told.frames) == ("512*512", 6, 285)
    assert told.seconds == pytest.approx(11.4)
    assert "512*512" in told.remarks[0]
    assert "audio ends first" in told.remarks[1]

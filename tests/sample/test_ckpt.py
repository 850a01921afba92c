"""Is the shipped checkpoint whole and small, does it say what it is, and does it speak?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.sample_quality import Gauge, Models, correlation, heard
from engine.checkpoint import demonstration
from engine.checkpoint.layout import find
from engine.checkpoint.verify import verify
from engine.media.audio import load_mono16k
from engine.model.caches import RollingCache
from engine.model.generate import Generation, Inputs, Options
from engine.model.packed import PackedRings
from engine.resources import sample_data
from sample_data.training import portrait

RATE = 16_000


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if "__pycache__" not in p.parts)


def test_it_is_whole_and_small() -> None:
    layout = find(sample_data() / "ckpt").require()
    assert verify(layout).ok
    assert _bytes(sample_data() / "ckpt") <= 40_000_000
    assert _bytes(sample_data()) <= 60_000_000


def test_it_says_that_it_demonstrates() -> None:
    config = find(sample_data() / "ckpt").config
    assert len(demonstration.remarks(config, "128*128", 4)) == 1
    assert len(demonstration.remarks(config, "192*192", 3)) == 3


def test_the_demos_portrait_opens_its_mouth_where_the_sound_is_and_closes_it_where_none_is() -> (
    None
):
    wave = load_mono16k(sample_data() / "speech" / "english.wav")
    loud = wave[: 2 * RATE]
    models = Models(sample_data() / "ckpt")
    spoken = np.concatenate([loud, np.zeros(int(1.7 * RATE), np.float32)])
    torch.set_num_threads(1)
    frames = models.speak(portrait.picture(), spoken)
    opening = Gauge.of_demo(models.vae).openings(frames)
    sound = heard(spoken, len(frames))
    assert correlation(opening, sound) > 0.6
    assert float((opening[62:85] < 0.25).float().mean()) > 0.9
    assert _still(frames) > 20


def test_a_block_remembers_those_before_it_bit_by_bit() -> None:
    """Or hashes of the sample's videos would not tell a lost row of keys and values."""
    dit = Models(sample_data() / "ckpt").dit
    drawn = torch.Generator().manual_seed(0)
    ref, motion = (torch.randn(16, n, 16, 16, generator=drawn) for n in (1, 19))
    audio = torch.randn(1, dit.cfg.audio_states, dit.cfg.audio_dim, 24, generator=drawn)
    context = torch.randn(9, dit.cfg.text_dim, generator=drawn)
    inputs = Inputs(ref, motion, context, audio)
    made = []
    for make_ring in (RollingCache, PackedRings("cpu", "fp8").ring):
        options = Options(clips=1, infer_frames=24)
        generation = Generation(dit.cfg, options, inputs, make_ring=make_ring)
        with torch.no_grad():
            made.append(torch.stack([latents for _, latents in generation.run(dit)]))
    error = (made[1] - made[0]).norm() / made[0].norm()
    assert 0 < error < 1e-3


def _still(frames: Tensor) -> float:
    """PSNR of the last second against the portrait, above the mouth."""
    error = (frames[-25:, :, :80] - portrait.picture()[:, :80]).square().mean() / 4
    return float(-10 * torch.log10(error))

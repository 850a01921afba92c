"""Does training compute what the engine computes?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sample_data
from engine.model.config import DiTConfig
from engine.model.dit import DiT
from engine.model.generate import Generation, Inputs, Options
from engine.model.schedule import Schedule
from sample_data.training.beginning import start
from sample_data.training.sequence import Walker, places
from sample_data.training.tokens import mixed, velocity
from sample_data.training.vae_parallel import moments, pixels
from sample_data.training.vae_stage import build

CONFIG = Path(next(iter(sample_data.__path__))) / "training" / "dit_config.json"


@pytest.mark.parametrize("frames", [1, 9])
def test_a_whole_video_at_once_equals_the_vaes_stream(frames: int) -> None:
    torch.manual_seed(0)
    vae = build((4, 8, 16, 16)).requires_grad_(False)
    for p in vae.parameters():  # it begins blind to the past
        p.add_(0.02 * torch.randn_like(p))
    video = torch.rand(1, frames, 3, 32, 32) * 2 - 1
    mean = moments(vae, video)
    centre, scale = vae._statistics(mean.device)
    latents = vae.encode(video[0].transpose(0, 1))
    torch.testing.assert_close((mean[0].transpose(0, 1) - centre) * scale, latents)
    shown = pixels(vae, mean)[0].clamp(-1, 1).transpose(0, 1)
    torch.testing.assert_close(shown, vae.decode(latents), atol=2e-3, rtol=1e-3)


def test_a_sequence_in_one_pass_equals_the_engines_blocks() -> None:
    torch.manual_seed(0)
    dit = DiT(DiTConfig.from_dict(json.loads(CONFIG.read_text())))
    start(dit)
    for p in dit.parameters():  # so that every part has a say
        p.data.add_(0.01 * torch.randn_like(p))
    blocks, side = 6, 8
    ref = torch.randn(16, 1, side, side)
    motion = torch.randn(16, 19, side, side)
    audio = torch.randn(1, 25, 64, 12 * blocks)
    noise = torch.randn(1, 16, 3 * blocks, side, side)
    context = torch.randn(128, 64)
    distances = [[4 + 3 * n + s for s in range(4)] for n in range(blocks)]
    inputs = Inputs(ref, motion, context, audio, noise=noise, relative_dist=distances)
    options = Options(clips=1, infer_frames=12 * blocks)
    made = torch.cat([x for _, x in Generation(dit.cfg, options, inputs).run(dit)], dim=1)
    walker = Walker(dit, fast=False)
    schedule, x = Schedule.flow_match(), noise
    with torch.no_grad():
        heard = audio.unflatten(-1, (blocks, 12)).permute(0, 3, 1, 2, 4)
        scene = walker.scene(ref[None], motion[None], context[None], heard)
        for n, t in enumerate(schedule.timesteps):
            at = places(dit, 0, [row[n] for row in distances], side // 2, side // 2)
            x = schedule.euler(x, walker.velocity(x, t, scene, at), n)
    torch.testing.assert_close(x[0], made, atol=1e-3, rtol=1e-3)


def test_tokens_one_by_one_equal_the_engines_blocks() -> None:
    torch.manual_seed(0)
    dit = DiT(DiTConfig.from_dict(json.loads(CONFIG.read_text())))
    start(dit)
    ref, audio = torch.randn(16, 1, 16, 16), torch.randn(1, 25, 64, 12)
    motion = ref.expand(-1, 19, -1, -1).contiguous()
    noise = torch.randn(1, 16, 3, 16, 16)
    inputs = Inputs(ref, motion, torch.randn(5, 64), audio, noise=noise)
    made = next(Generation(dit.cfg, Options(clips=1, infer_frames=12), inputs).run(dit))[1]
    every = torch.arange(64)[None, None].expand(1, 3, -1)
    schedule, x = Schedule.flow_match(), noise
    with torch.no_grad():
        heard = mixed(dit, audio)
        for n, t in enumerate(schedule.timesteps):
            v = velocity(dit, x, torch.tensor([t]), ref[None], heard, every)
            v = v.unflatten(-1, (2, 2, 16)).unflatten(2, (8, 8)).permute(0, 6, 1, 2, 4, 3, 5)
            x = schedule.euler(x, v.reshape(x.shape), n)
    torch.testing.assert_close(x[0], made, atol=2e-4, rtol=1e-3)

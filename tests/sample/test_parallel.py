"""Does training compute what the engine computes?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import sample_data
from engine.model.config import DiTConfig
from engine.model.dit import DiT
from engine.model.generate import Generation, Inputs, Options
from engine.model.schedule import Schedule
from sample_data.training import frame_stage, frames
from sample_data.training.beginning import start
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


def test_frames_one_by_one_equal_the_engines_blocks() -> None:
    torch.manual_seed(0)
    dit = DiT(DiTConfig.from_dict(json.loads(CONFIG.read_text())))
    start(dit)
    for name, p in dit.named_parameters():  # so that every part that is trained has a say
        if not frames.frozen(name):
            p.data.add_(0.01 * torch.randn_like(p))
    side, blocks = 8, 2
    ref, motion = torch.randn(16, 1, side, side), torch.randn(16, 19, side, side)
    audio, context = torch.randn(1, 25, 64, 12 * blocks), torch.randn(9, 64)
    noise = torch.randn(1, 16, 3 * blocks, side, side)
    inputs = Inputs(ref, motion, context, audio, noise=noise)
    options = Options(clips=1, infer_frames=12 * blocks)
    made = torch.cat([x for _, x in Generation(dit.cfg, options, inputs).run(dit)], dim=1)
    schedule, alone = Schedule.flow_match(), []
    with torch.no_grad():
        heard = torch.einsum("bsdt,s->bdt", audio, frame_stage.state_mix(dit))
        for n, x in enumerate(noise.split(3, dim=2)):
            part = heard[..., 12 * n : 12 * n + 12]
            on = frames.given(dit, ref[None], part, F.pad(context, (0, 0, 0, 3))[None])
            x = frames.cells(x)
            for step, t in enumerate(schedule.timesteps):
                x = schedule.euler(x, frames.velocity(dit, x, torch.tensor([t]), on), step)
            alone.append(frames.latents(x, side // 2)[0])
    torch.testing.assert_close(torch.cat(alone, dim=1), made, atol=2e-4, rtol=1e-3)

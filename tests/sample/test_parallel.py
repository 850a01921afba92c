"""Does training compute what the engine computes?"""

from __future__ import annotations

import json
from pathlib import Path

import torch

import sample_data
from engine.model.config import DiTConfig
from engine.model.dit import DiT
from engine.model.generate import Generation, Inputs, Options
from engine.model.schedule import Schedule
from sample_data.training.token_stage import start, velocity
from sample_data.training.vae_parallel import moments, pixels
from sample_data.training.vae_stage import build

CONFIG = Path(next(iter(sample_data.__path__))) / "training" / "dit_config.json"


def test_a_whole_video_at_once_equals_the_vaes_stream() -> None:
    torch.manual_seed(0)
    vae = build(4).requires_grad_(False)
    video = torch.rand(1, 9, 3, 32, 32) * 2 - 1
    mean = moments(vae, video)
    centre, scale = vae._statistics(mean.device)
    latents = vae.encode(video[0].transpose(0, 1))
    torch.testing.assert_close((mean[0].transpose(0, 1) - centre) * scale, latents)
    shown = pixels(vae, mean)[0].clamp(-1, 1).transpose(0, 1)
    torch.testing.assert_close(shown, vae.decode(latents), atol=2e-3, rtol=1e-3)


def test_training_on_tokens_equals_the_engines_blocks() -> None:
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
        for n, t in enumerate(schedule.timesteps):
            v = velocity(dit, x, torch.tensor([t]), ref[None], audio, every)
            v = v.unflatten(-1, (2, 2, 16)).unflatten(2, (8, 8)).permute(0, 6, 1, 2, 4, 3, 5)
            x = schedule.euler(x, v.reshape(x.shape), n)
    torch.testing.assert_close(x[0], made, atol=2e-4, rtol=1e-3)

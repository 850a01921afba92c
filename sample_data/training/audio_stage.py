"""Trains the small wav2vec2 to hear the controls, at several times around each feature."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.model.bucket import bucket, resample
from sample_data.faces import control
from sample_data.training.sound import Tracks

if TYPE_CHECKING:  # slow to import
    from transformers import Wav2Vec2Model

Tell = Callable[..., None]
#: Seconds from a feature's middle at which it must know the controls.
OFFSETS = (-0.12, -0.08, -0.04, 0.0, 0.04)
#: Time of feature k is k · 0.02 + this.
MIDDLE = 0.0125


def build(config: dict[str, object]) -> Wav2Vec2Model:
    """The untrained encoder of a ``config.json``, without dropout or masking."""
    calm = dict.fromkeys(
        (
            "hidden_dropout",
            "attention_dropout",
            "activation_dropout",
            "feat_proj_dropout",
            "final_dropout",
            "layerdrop",
            "mask_time_prob",
            "mask_feature_prob",
        ),
        0.0,
    )
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config(**{**config, **calm, "apply_spec_augment": False}))


def _targets(waves: Tensor, count: int) -> Tensor:
    track = control.controls(waves)
    times = torch.arange(count, device=waves.device) * 0.02 + MIDDLE
    return torch.cat([control.at_times(track, times + offset) for offset in OFFSETS], dim=-1)


def train(tracks: Tracks, config: dict[str, object], seconds: float, device: torch.device,
          tell: Tell, start: dict[str, Tensor] | None = None) -> Wav2Vec2Model:  # fmt: skip
    model = build(config).to(device)
    if start is not None:
        model.load_state_dict(start)
    outputs = control.HEARD * len(OFFSETS)
    head = nn.Linear(model.config.hidden_size, outputs).to(device)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], 1e-3, (0.9, 0.98),
                                  weight_decay=1e-3)  # fmt: skip
    begin, step = time.time(), 0
    running = 0.0
    while (spent := (time.time() - begin) / seconds) < 1:
        rate = 2e-3 * min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * spent)) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        length = (3.0, 4.0, 6.0, 12.0, 20.0)[step % 5]
        waves = tracks.draw(max(4, int(72 / length)), length)
        with torch.autocast(device.type, torch.bfloat16):
            hidden = model(waves).last_hidden_state
            out = head(hidden).float()
        loss = (out - _targets(waves, out.shape[1])).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        running = float(loss.detach()) if step % 100 == 0 else running
        if step % 100 == 0:
            tell(stage="audio", step=step, seconds=time.time() - begin, loss=running)
    model.eval().requires_grad_(False)
    with torch.no_grad():
        waves = tracks.draw(16, 10.0)
        out = head(model(waves).last_hidden_state)
        want = _targets(waves, out.shape[1])
        middle = OFFSETS.index(0.0) * control.HEARD
        scores = [
            float(
                torch.corrcoef(
                    torch.stack([out[..., middle + k].flatten(), want[..., middle + k].flatten()])
                )[0, 1]
            )
            for k in range(control.HEARD)
        ]
    tell(stage="audio", step=step, seconds=time.time() - begin, correlations=scores, done=True)
    return model


@torch.no_grad()
def features(model: Wav2Vec2Model, waves: Tensor) -> Tensor:
    """As the engine hears: normalised ``waves [N, samples]`` → ``[N, states, dim, frames]``."""
    states = torch.stack(model(waves, output_hidden_states=True).hidden_states, dim=1)
    return torch.cat([bucket(resample(s), fps=25, infer_frames=12) for s in states])

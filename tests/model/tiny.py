"""A very small DiT with random weights, and a video's worth of random inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from engine.model.config import DiTConfig, Numerics
from engine.model.dit import DiT
from engine.model.generate import Generation, Inputs, Options
from engine.model.random import normals

CONFIG: dict[str, Any] = {
    "_class_name": "WanModel_S2V",
    "dim": 56,
    "num_heads": 2,  # heads of 28: no multiple of 8, 6 or 4·6
    "num_layers": 3,
    "ffn_dim": 64,
    "freq_dim": 32,
    "audio_dim": 8,
    "audio_inject_layers": [0, 2],
    "text_dim": 12,
    "text_len": 5,
}


def config(**changes: Any) -> DiTConfig:
    return replace(DiTConfig.from_dict(CONFIG), **changes)


def dit(numerics: Numerics | None = None, cfg: DiTConfig | None = None) -> DiT:
    net = DiT(cfg or config(), numerics)
    for name, p in net.named_parameters():
        p.copy_(normals(tuple(p.shape), 7, name) * 0.1)
    return net


def inputs(clips: int, infer_frames: int = 48, height: int = 8, width: int = 8) -> Inputs:
    return Inputs(
        ref=normals((16, 1, height, width), 1, "ref"),
        motion=normals((16, 19, height, width), 1, "motion"),
        context=normals((3, 12), 1, "context"),
        audio=normals((1, 25, 8, clips * infer_frames), 1, "audio"),
    )


def generation(cfg: DiTConfig | None = None, **options: Any) -> Generation:
    chosen = Options(**{"clips": 2, "infer_frames": 24, **options})
    given = inputs(chosen.clips, chosen.infer_frames)
    return Generation(cfg or config(), chosen, given)


def sequential(net: DiT, g: Generation) -> torch.Tensor:
    """Final latents of all blocks, ``[blocks, 16, 3, h, w]``."""
    return torch.stack([x for _, x in g.run(net)])

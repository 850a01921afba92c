"""Training pairs for ``tokens``: a portrait, three latents' worth of sound, three pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.model.vae import LATENT_MEAN, LATENT_STD, VAE
from sample_data.faces.identity import Identity, draw
from sample_data.faces.render import render
from sample_data.training import audio_stage
from sample_data.training.sound import Tracks, frame_controls
from sample_data.training.vae_parallel import moments

#: Controls that the sample model shows; its heads keep still.
SHOWN = (0, 1, 2, 3)


def moving_tokens(who: Identity, count: int = 20, side: int = 8) -> Tensor:
    """``[N, count]`` tokens around mouth and eyes, of ``side × side``."""
    axis = (torch.arange(side) + 0.5) * (2 / side) - 1
    x, y = axis[None, None, :], axis[None, :, None]
    s = who.scale[:, None, None]
    mx, my = who.x[:, None, None], who.y[:, None, None] + s * (who.mouth_y[:, None, None] + 0.1)
    mouth = torch.exp(-(((x - mx) / (0.45 * s)) ** 2 + ((y - my) / (0.35 * s)) ** 2))
    ey = who.y[:, None, None] + s * (who.eye_y[:, None, None] - 0.1)
    eyes = torch.exp(-(((x - mx) / (0.65 * s)) ** 2 + ((y - ey) / (0.3 * s)) ** 2))
    return (2 * mouth + eyes).flatten(1).topk(count).indices


def shown(moves: Tensor) -> Tensor:
    """What a latent shows of ``moves [N, T, 7]`` at 25 a second: ``[N, T // 4, 7]``.

    The state of its last frame, averaged over the three around it; a blink at its widest.
    """
    frames = moves.shape[1] // 4 * 4
    mean = F.avg_pool1d(F.pad(moves.mT, (1, 1), mode="replicate"), 3, 1).mT[:, 3:frames:4]
    blink = F.max_pool1d(moves[..., 2:3].mT, 4)[..., : frames // 4].mT
    kept = mean.clone()
    kept[..., 2:3] = blink
    mask = torch.zeros(7)
    mask[list(SHOWN)] = 1
    return kept * mask.to(kept)


@torch.no_grad()
def make(path: Path, pack: Path, ears_state: Path, config: Path, people: int, per: int,
         seed: int) -> None:  # fmt: skip
    """Write pictures (uint8), sound features and controls of ``people × per`` blocks."""
    device = torch.device("cpu")
    tracks = Tracks(pack, device, seed)
    ears = audio_stage.build(json.loads(config.read_text()))
    ears.load_state_dict(load_file(ears_state))
    ears.eval()
    count = people * per
    audio, states = [], []
    while sum(len(a) for a in audio) < count:
        waves = tracks.draw(8, 12.0)
        moves = frame_controls(waves, 300)
        heard = audio_stage.features(ears, waves)[..., :300]
        for row in range(8):
            if torch.rand(()) < 0.1:  # a sound that ended
                cut = int(torch.randint(60, 290, ()))
                moves[row, cut:] = 0
                heard[row, :, :, cut:] = 0
        audio.append(heard.unflatten(-1, (25, 12)).permute(0, 3, 1, 2, 4).flatten(0, 1).half())
        states.append(shown(moves).unflatten(1, (25, 3)).flatten(0, 1))
    order = torch.randperm(sum(len(a) for a in audio))[:count]
    sound, moves = torch.cat(audio)[order].clone(), torch.cat(states)[order].clone()
    pictures = torch.empty(count, 3, 3, 128, 128, dtype=torch.uint8)
    portraits = torch.empty(people, 3, 128, 128, dtype=torch.uint8)
    moving = []
    part = 12
    for at in range(0, people, part):
        who = draw(part, seed * 7919 + at)
        n = min(part, people - at)
        rows = slice(at * per, (at + n) * per)
        wanted = F.pad(moves[rows].reshape(n, per * 3, 7), (0, 0, 1, 0, 0, part - n))
        # Portraits smile, part their lips and raise their brows as people like; sound decides
        # what becomes of the lips.
        mood = torch.rand(part, 3)
        wanted[:, 0, 0] = ((mood[:, 0] - 0.7) * 0.9).clamp(min=0)
        wanted[:, 0, 3] = 0.6 * mood[:, 1] - 0.3
        wanted[:, :, 6] = (1.2 * mood[:, 2:] - 0.2).expand(-1, wanted.shape[1])
        video = ((render(who, wanted).clamp(-1, 1) + 1) * 127.5).round().byte()[:n]
        portraits[at : at + n] = video[:, 0]
        pictures[rows] = video[:, 1:].reshape(n * per, 3, 3, 128, 128)
        moving.append(moving_tokens(who)[:n])
    save_file({"audio": sound, "controls": moves, "pictures": pictures, "portraits": portraits,
               "moving": torch.cat(moving)}, path)  # fmt: skip


@torch.no_grad()
def encode(vae: VAE, pictures: Tensor) -> Tensor:
    """Pictures ``[N, 3, 128, 128]`` uint8 → normalised latents ``[N, 16, 16, 16]``, each alone."""
    centre, spread = (torch.tensor(v).view(-1, 1, 1) for v in (LATENT_MEAN, LATENT_STD))
    found = []
    for some in pictures.split(16):
        mean = moments(vae, some[:, None].float() / 127.5 - 1)[:, 0]
        found.append((mean - centre) / spread)
    return torch.cat(found)

"""What the DiT learns from: drawn people, two sequences of speech each, as latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.model.config import BLOCK_FRAMES, MOTION_BUCKETS
from engine.model.vae import LATENT_MEAN, LATENT_STD, VAE
from sample_data.faces.identity import Identity, draw
from sample_data.faces.render import pencil, render
from sample_data.training import audio_stage, portrait
from sample_data.training.sound import Tracks, frame_controls
from sample_data.training.vae_data import weathered
from sample_data.training.vae_parallel import moments, pixels

if TYPE_CHECKING:  # slow to import
    from transformers import Wav2Vec2Model

#: Blocks of a sequence, and the still frames in front of it.
BLOCKS = 4
STILL = 9
#: Sequences of a person.
EACH = 2
#: How far heads nod and sway, of what ``control`` says.
HEAD = 0.5
_SECONDS = 24.0


@dataclass
class Pool:
    """``P`` people; latents are normalised, of 128×128 pixels."""

    ref: Tensor  # [P, 16, 1, 16, 16]
    motion: Tensor  # [P, 16, 3, 16, 16], the first three of 19
    latents: Tensor  # [P, EACH, 16, 3·BLOCKS, 16, 16]
    made: Tensor  # [P, EACH, 16, 1, 16, 16], the first latent as the model last made it
    audio: Tensor  # [P, EACH, BLOCKS, states, dim, 12]
    prompt: Tensor  # [P, EACH]
    moves: Tensor  # [P, EACH, 12·BLOCKS, 7], the controls
    weight: Tensor  # [P, 1, 1, 16, 16] of errors
    contexts: Tensor  # [prompts, text_len, text_dim]

    def __len__(self) -> int:
        return len(self.ref)

    def replace(self, at: int, other: Pool) -> None:
        """Put other people in the place of those from ``at`` on."""
        for name in _OWN:
            getattr(self, name)[at : at + len(other)] = getattr(other, name)


_OWN = ("ref", "motion", "latents", "made", "audio", "prompt", "moves", "weight")


def joined(pools: list[Pool]) -> Pool:
    """All their people."""
    fields = {name: torch.cat([getattr(one, name) for one in pools]) for name in _OWN}
    return Pool(**fields, contexts=pools[0].contexts)


class Casting:
    """Draws people for pools."""

    def __init__(self, vae: VAE, ears: Wav2Vec2Model, tracks: Tracks, contexts: Tensor,
                 glad: Tensor, device: torch.device) -> None:  # fmt: skip
        self.vae, self.ears, self.tracks, self.device = vae, ears, tracks, device
        self.contexts = contexts.to(device)
        self.glad = glad.to(device)
        self.together = 32 if device.type == "cuda" else 4  # waveforms that are heard at once
        self._heard: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def _listen(self, count: int) -> tuple[Tensor, Tensor]:
        """Controls ``[count, frames, 7]`` and features ``[count, BLOCKS, states, dim, 12]``."""
        frames = BLOCKS * BLOCK_FRAMES
        while sum(len(a) for a, _ in self._heard) < count:
            waves = self.tracks.draw(self.together, _SECONDS)
            length = int(_SECONDS * 25) // frames * frames
            moves = frame_controls(waves, length)
            heard = audio_stage.features(self.ears, waves)[..., :length].half()
            for row in range(len(waves)):
                if torch.rand(()) < 0.3:  # a sound that ended
                    cut = int(torch.randint(60, length, ()))
                    moves[row, cut:] = 0
                    heard[row, :, :, cut:] = 0
            moves = moves.unflatten(1, (-1, frames)).flatten(0, 1)
            cells = heard.unflatten(-1, (-1, BLOCKS, BLOCK_FRAMES)).permute(0, 3, 4, 1, 2, 5)
            cells = cells.flatten(0, 1)
            order = torch.randperm(len(moves), device=moves.device)
            self._heard.append((moves[order], cells[order]))
        moves = torch.cat([a for a, _ in self._heard])
        heard = torch.cat([b for _, b in self._heard])
        self._heard = [(moves[count:], heard[count:])]
        return moves[:count].clone(), heard[:count].clone()

    @torch.no_grad()
    def people(self, count: int, seed: int, style: str = "own") -> Pool:
        """``count`` people; ``style`` "pencil" draws what they say, not their portrait, so."""
        device = self.device
        who = draw(count, seed).to(device)
        moves, heard, prompt = self._say(count)
        rest = torch.zeros(count, 1, 7, device=device)
        mood = torch.rand(count, 4, device=device)
        rest[:, 0, 0] = ((mood[:, 0] - 0.65) * 1.2).clamp(min=0)
        rest[:, 0, 3] = 0.6 * mood[:, 1] - 0.3
        rest[:, 0, 6] = (1.3 * mood[:, 2] - 0.2) * (mood[:, 3] < 0.6)
        parts = torch.cat([rest, moves], dim=1)
        video = torch.cat([render(who[at : at + 8], parts[at : at + 8])
                           for at in range(0, count, 8)]).clamp(-1, 1)  # fmt: skip
        return self._pool(_dressed(video), _weights(who), moves, heard, prompt, style)

    @torch.no_grad()
    def own(self, count: int, style: str = "own") -> Pool:
        """The demo's portrait, ``count`` times."""
        moves, heard, prompt = self._say(count)
        still = portrait.picture().to(self.device)[None]
        frames = [torch.cat([still, portrait.render(one, device=self.device)]) for one in moves]
        weight = _weights(portrait.who().to(self.device)).expand(count, -1, -1, -1, -1)
        return self._pool(torch.stack(frames), weight, moves, heard, prompt, style)

    def _say(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Controls ``[count, EACH·frames, 7]``, features and prompts."""
        moves, heard = self._listen(count * EACH)
        moves = moves.unflatten(0, (count, EACH)).flatten(1, 2)
        prompt = torch.randint(len(self.contexts), (count, EACH), device=self.device)
        moves[..., 4:6] *= HEAD
        frames = BLOCKS * BLOCK_FRAMES
        moves[..., 6] = self.glad[prompt].repeat_interleave(frames, dim=1)
        return moves, heard, prompt

    def _pool(self, video: Tensor, weight: Tensor, moves: Tensor, heard: Tensor, prompt: Tensor,
              style: str) -> Pool:  # fmt: skip
        """Of videos ``[count, 1 + EACH·frames, 3, H, W]``, the portrait first."""
        count, frames = len(video), BLOCKS * BLOCK_FRAMES
        face = video[:, :1].expand(-1, STILL, -1, -1, -1)
        spoken = video[:, 1:].unflatten(1, (EACH, frames)).flatten(0, 1)
        if style == "pencil":
            spoken = pencil(spoken)
        before = face.repeat_interleave(EACH, dim=0)
        latents = self.encode(torch.cat([before, spoken], dim=1))
        still = STILL // 4 + 1
        own = latents.unflatten(0, (count, EACH))
        motion = own[:, 0, :, :still]
        if style == "pencil":
            motion = self.encode(face)
        spoken_latents = own[:, :, :, still:].contiguous()
        return Pool(
            ref=motion[:, :, :1].clone(),
            motion=motion.clone(),
            latents=spoken_latents,
            made=spoken_latents[:, :, :, :1].clone(),
            audio=heard.unflatten(0, (count, EACH)),
            prompt=prompt,
            moves=moves.unflatten(1, (EACH, frames)).half(),
            weight=weight.clone(),
            contexts=self.contexts,
        )

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """``[N, T, 3, H, W]`` in [−1, 1] → normalised latents ``[N, 16, T', h, w]``."""
        centre, spread = (torch.tensor(v, device=video.device).view(-1, 1, 1)
                          for v in (LATENT_MEAN, LATENT_STD))  # fmt: skip
        found = []
        for some in video.split(16):
            with torch.autocast(video.device.type, torch.bfloat16, enabled=video.is_cuda):
                mean = moments(self.vae, some)
            found.append(((mean.float() - centre) / spread).transpose(1, 2))
        return torch.cat(found).half()

    def pool(self, people: int, seed: int, part: int = 16, style: str = "own") -> Pool:
        made = [self.people(min(part, people - at), seed + at, style)
                for at in range(0, people, part)]  # fmt: skip
        return joined(made)


def whole_motion(first: Tensor) -> Tensor:
    """``[B, 16, 3, h, w]`` → 19 latents of a picture that stands still, oldest first."""
    missing = sum(MOTION_BUCKETS) - first.shape[2]
    return torch.cat([first, first[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)


def _dressed(video: Tensor) -> Tensor:
    """A third in exchanged colours, a third under clouds: faces that no palette has."""
    third = len(video) // 3
    device = video.device
    if third:
        order = torch.rand(third, 3, device=device).argsort(1)
        video[:third] = torch.take_along_dim(video[:third], order[:, None, :, None, None], 2)
        video[-third:] = weathered(video[-third:])
    return video


def _weights(who: Identity, side: int = 16) -> Tensor:
    """How much each latent cell's error counts: the mouth most, then the eyes."""
    axis = (torch.arange(side, device=who.x.device) + 0.5) * (2 / side) - 1
    x, y = axis[None, None, :], axis[None, :, None]
    s = who.scale[:, None, None]
    mx, my = who.x[:, None, None], who.y[:, None, None] + s * (who.mouth_y[:, None, None] + 0.1)
    mouth = torch.exp(-(((x - mx) / (0.45 * s)) ** 2 + ((y - my) / (0.35 * s)) ** 2))
    ey = who.y[:, None, None] + s * (who.eye_y[:, None, None] - 0.1)
    eyes = torch.exp(-(((x - mx) / (0.65 * s)) ** 2 + ((y - ey) / (0.3 * s)) ** 2))
    return (1 + 6 * mouth + 2 * eyes)[:, None, None]


def shown(vae: VAE, latents: Tensor) -> Tensor:
    """Normalised latents ``[N, 16, T', h, w]`` → ``[N, T, 3, H, W]`` in [−1, 1]."""
    centre, spread = (torch.tensor(v, device=latents.device).view(-1, 1, 1)
                      for v in (LATENT_MEAN, LATENT_STD))  # fmt: skip
    mean = latents.float().transpose(1, 2) * spread + centre
    return pixels(vae, mean).clamp(-1, 1)

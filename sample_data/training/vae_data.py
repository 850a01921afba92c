"""What the VAE learns from: films of drawn faces in any colour, pencil drawings, textures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sample_data.faces.identity import draw
from sample_data.faces.render import pencil, render
from sample_data.training import portrait
from sample_data.training.sound import Tracks, frame_controls


@torch.no_grad()
def films(count: int, frames: int, seed: int, device: torch.device, part: int = 32,
          tracks: Tracks | None = None) -> Tensor:  # fmt: skip
    """Moving faces ``[count, frames, 3, 128, 128]`` uint8; a sixth are pencil drawings.

    With ``tracks`` two thirds of them move as they say; the last twenty-fifth show the demo's
    portrait.
    """
    made = torch.empty(count, frames, 3, 128, 128, dtype=torch.uint8, device=device)
    g = torch.Generator().manual_seed(seed)
    heard = _heard(tracks, count, frames) if tracks is not None else None
    for at in range(0, count, part):
        who = draw(part, seed * 100_003 + at).to(device)
        moves = _moves(part, frames, g).to(device)
        if heard is not None:
            third = part // 3
            said = heard[torch.randint(len(heard), (part - third,), device=device)]
            moves[third:, :, :6] = said[..., :6]
        video = render(who, moves)
        sixth = part // 6
        if sixth:
            video[-sixth:] = pencil(video[-sixth:])
        video[sixth : 2 * sixth] = weathered(video[sixth : 2 * sixth])
        made[at : at + part] = to_bytes(video)[: count - at]
    if heard is not None:
        own = max(1, count // 25)
        for row in range(count - own, count):
            said = heard[int(torch.randint(len(heard), ()))]
            made[row] = to_bytes(portrait.render(said, device=device))
    return made


def _heard(tracks: Tracks, count: int, frames: int) -> Tensor:
    """Controls ``[at least count, frames, 7]`` of speech."""
    seconds, rows = 24.0, 16
    per = int(seconds * 25) // frames
    found = []
    while sum(len(one) for one in found) < count:
        moves = frame_controls(tracks.draw(rows, seconds), per * frames)
        found.append(moves.unflatten(1, (per, frames)).flatten(0, 1))
    return torch.cat(found)


def _moves(count: int, frames: int, g: torch.Generator) -> Tensor:
    """Smooth drawn controls ``[count, frames, 7]`` at about the pace of speech; a seventh still."""
    knots = frames // 4 + 3
    coarse = torch.rand(count, 7, knots, generator=g)
    fine = F.interpolate(coarse, size=knots * 4, mode="linear")[..., 4 : 4 + frames].mT
    low = torch.tensor([-0.3, -1.0, -1.5, -0.5, -1.0, -1.0, -0.5])
    high = torch.tensor([1.2, 1.0, 1.3, 1.0, 1.0, 1.0, 1.5])
    moves = low + (high - low) * fine
    least = torch.tensor([0.0, -1.0, 0.0, -1.0, -1.0, -1.0, 0.0])
    moves = torch.minimum(torch.maximum(moves, least), torch.ones(7))
    moves[: count // 7] = 0
    return moves


def to_bytes(video: Tensor) -> Tensor:
    return ((video.clamp(-1, 1) + 1) * 127.5).round().byte()


def field(count: int, side: int, device: torch.device) -> Tensor:
    """Coloured clouds of several sizes, ``[count, 3, side, side]``, about −1…1."""
    total = torch.zeros(count, 3, side, side, device=device)
    for cells in (2, 4, 8, 16, 32, 64):
        strength = torch.rand(count, 1, 1, 1, device=device) * (4 / (cells + 4))
        grid = torch.randn(count, 3, cells, cells, device=device)
        grey = grid.mean(1, keepdim=True) * 1.7
        grid = torch.lerp(grey, grid, torch.rand(count, 1, 1, 1, device=device))
        total += strength * F.interpolate(grid, size=(side, side), mode="bicubic")
    return total


def weathered(video: Tensor) -> Tensor:
    """``[N, T, 3, H, W]`` under clouds that stay where they are: what no renderer draws."""
    clouds = field(len(video), video.shape[-1], video.device)[:, None]
    share = torch.rand(len(video), 1, 1, 1, 1, device=video.device)
    return (video * (1 - 0.3 * share) + 0.35 * share * clouds).clamp(-1, 1)


def windows(data: Tensor, count: int, frames: int, more: Tensor | None) -> Tensor:
    """``count`` cuts of ``frames`` frames ``[count, frames, 3, H, W]`` in [−1, 1]."""
    device = data.device
    who = torch.randint(len(data), (count, 1), device=device)
    first = torch.randint(data.shape[1] - frames + 1, (count, 1), device=device)
    cut = data[who, first + torch.arange(frames, device=device)].float() / 127.5 - 1
    if frames > 1:
        return cut
    sixteenth = max(1, count // 16)
    if more is not None:
        shown = more[torch.randint(len(more), (sixteenth,), device=device)]
        cut[:sixteenth, 0] = shown.float() / 127.5 - 1
    cut[-sixteenth:, 0] = field(sixteenth, cut.shape[-1], device).clamp(-1, 1)
    return cut


def coloured(x: Tensor, share: float) -> Tensor:
    """A ``share`` of the videos in other colours: mixed channels, so that none is left out."""
    part = int(len(x) * share)
    mix = torch.randn(part, 3, 3, device=x.device)
    mix = (
        torch.eye(3, device=x.device)[torch.rand(part, 3, device=x.device).argsort(1)] + 0.25 * mix
    )
    mixed = torch.einsum("nij,ntjhw->ntihw", mix, x[:part])
    shift = 0.2 * torch.randn(part, 1, 3, 1, 1, device=x.device)
    return torch.cat([(mixed + shift).clamp(-1, 1), x[part:]])

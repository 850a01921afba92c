"""Trains the VAE: drawn faces in any colour, pencil drawings, textures; pictures and films."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.vae import LATENT_MEAN, LATENT_STD, VAE, VAEConfig
from engine.model.vae_blocks import CausalConv3d, Downsample, Upsample
from sample_data.faces.identity import draw
from sample_data.faces.render import pencil, render
from sample_data.training.average import Average
from sample_data.training.vae_parallel import begin, finish, moments, pixels

Tell = Callable[..., None]
#: Widths of the levels, outermost first.
WIDTHS = (16, 32, 64, 96)
#: Frames and side of the windows of one round of steps, and how many windows a step takes.
ROUND = ((1, 64, 256), (9, 64, 32), (1, 128, 64), (17, 64, 16), (1, 64, 256), (9, 64, 32))


def build(widths: tuple[int, ...] = WIDTHS) -> VAE:
    """An untrained VAE that begins as a coder of single pictures."""
    vae = VAE(VAEConfig(widths[0], widths, 2, (False, True, True)))
    for name, parameter in vae.named_parameters():
        if name.endswith(("residual.6.weight", "proj.weight")):
            parameter.data.mul_(0.2)
    for m in vae.modules():
        if isinstance(m, CausalConv3d) and m.weight.shape[-1] == 3:
            m.weight.data[:, :, :2] = 0
        elif isinstance(m, (Downsample, Upsample)) and m.temporal:
            _hold(m.time_conv)
    return vae


def like(weights: dict[str, Tensor]) -> VAE:
    """A VAE of the shapes of ``weights``, holding them."""
    vae = VAE(VAEConfig.from_shapes({name: t.shape for name, t in weights.items()}))
    vae.load_state_dict({name: t.float() for name, t in weights.items()})
    return vae.requires_grad_(False)


def _hold(conv: nn.Conv3d) -> None:
    conv.weight.data.zero_()
    assert conv.bias is not None
    conv.bias.data.zero_()
    channels = conv.weight.shape[1]
    for n in range(conv.weight.shape[0]):
        conv.weight.data[n, n % channels, -1] = 1


@torch.no_grad()
def films(count: int, frames: int, seed: int, device: torch.device, part: int = 32) -> Tensor:
    """Moving faces ``[count, frames, 3, 128, 128]`` uint8; a sixth are pencil drawings."""
    made = torch.empty(count, frames, 3, 128, 128, dtype=torch.uint8, device=device)
    g = torch.Generator().manual_seed(seed)
    for at in range(0, count, part):
        who = draw(part, seed * 100_003 + at).to(device)
        video = render(who, _moves(part, frames, g).to(device))
        sixth = part // 6
        video[-sixth:] = pencil(video[-sixth:])
        video[sixth : 2 * sixth] = weathered(video[sixth : 2 * sixth])
        made[at : at + part] = to_bytes(video)[: count - at]
    return made


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


def train(
    vae: VAE,
    seconds: float,
    device: torch.device,
    tell: Tell,
    *,
    count: int = 800,
    frames: int = 33,
    peak: float = 2e-3,
    shrink: int = 1,
    more: Tensor | None = None,
    resumed: bool = False,
    seed: int = 1,
) -> VAE:
    """Train ``vae`` in place for ``seconds``; latents end at the scale of Wan's.

    ``count`` films are drawn; ``more [n, 3, 128, 128]`` uint8 are pictures to be learnt beside.
    ``shrink`` divides the steps' sizes; ``resumed`` says that ``vae`` was trained before.
    """
    part = min(32, count)
    held = films(min(24, count), 21, 999, device, part)
    data = films(count, frames, seed, device, part)
    vae = vae.to(device).float().requires_grad_(True)
    if resumed:
        _unscale(vae)
    parameters = list(vae.parameters())
    probes = Probes(vae.cfg.z_dim, vae.cfg.widths[-1]).to(device)
    optimizer = torch.optim.AdamW(
        [*parameters, *probes.parameters()], peak, (0.9, 0.98), weight_decay=1e-4
    )
    average = Average(parameters)
    began, step = time.time(), 0
    tell(stage="vae", drawn=count, held_psnr=psnr(vae, held[:, :17]))
    while (spent := (time.time() - began) / seconds) < 1:
        rate = peak * min(1, (step + 1) / 100) * min(1, 2.5 * (1 - spent)) ** 1.5 + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        span, side, batch = ROUND[step % len(ROUND)]
        x = _coloured(_windows(data, max(2, batch // shrink), span, side, more))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            mean = moments(vae, x)
            wide = mean.float()
            noise = 0.08 * torch.rand(len(x), 1, 1, 1, 1, device=device)
            middle = begin(vae, wide + noise * torch.randn_like(wide))
            out = finish(vae, middle).float()
        loss = _loss(out, x, wide) + probes(x, wide, middle.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        step += 1
        if step % 200 == 0:
            with average.applied():
                still, film = psnr(vae, held[:, :1]), psnr(vae, held[:, :17])
            tell(stage="vae", step=step, seconds=time.time() - began, loss=float(loss.detach()),
                 held_still=still, held_film=film)  # fmt: skip
    average.keep()
    vae.requires_grad_(False)
    tell(stage="vae", step=step, seconds=time.time() - began, held_still=psnr(vae, held[:, :1]),
         held_film=psnr(vae, held), done=True)  # fmt: skip
    _scale(vae, data)
    return vae


class Probes(nn.Module):
    """Reads small pictures, by one linear layer each, off the latents and the decoder's middle.

    Without them a network that has learnt shapes never learns colours: the encoder does not tell
    them as long as the decoder does not ask, and the decoder cannot ask for what is not told.
    """

    def __init__(self, latent: int, middle: int) -> None:
        super().__init__()
        self.latent, self.middle = nn.Linear(latent, 12), nn.Linear(middle, 12)

    def forward(self, x: Tensor, mean: Tensor, middle: Tensor) -> Tensor:
        """Of videos ``x [B, T, 3, H, W]`` each latent's last frame, at a quarter of its size."""
        small = F.avg_pool2d(x[:, ::4].flatten(0, 1), 4)
        want = F.pixel_unshuffle(small, 2).permute(0, 2, 3, 1)
        told = self.latent(mean.permute(0, 1, 3, 4, 2).flatten(0, 1))
        kept = self.middle(middle.flatten(0, 1))
        found: Tensor = 3 * (told - want).square().mean() + 3 * (kept - want).square().mean()
        return found


def _loss(out: Tensor, x: Tensor, wide: Tensor) -> Tensor:
    error = out - x
    if x.shape[1] > 1:  # what moves is what will be looked at
        moved = (x - x.mean(1, keepdim=True)).abs().mean(2).amax(1)
        weight = 1 + 3 * F.max_pool2d(moved, 5, 1, 2).mul(4).clamp(max=1)[:, None, None]
        error = error * weight
    loss = error.abs().mean() + 6 * error.square().mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
    flat = F.avg_pool2d(error.flatten(0, 1), 8)
    loss = loss + flat.abs().mean() + 4 * flat.square().mean()
    over = (0, 1, 3, 4)
    kept = wide.mean(over).square().mean() + (wide.var(over) - 1).square().mean()
    return loss + 0.01 * kept


def _coloured(x: Tensor) -> Tensor:
    """Half of the videos in other colours: mixed channels, so that none can be left out."""
    half = len(x) // 2
    mix = torch.randn(half, 3, 3, device=x.device)
    mix = (
        torch.eye(3, device=x.device)[torch.rand(half, 3, device=x.device).argsort(1)] + 0.25 * mix
    )
    mixed = torch.einsum("nij,ntjhw->ntihw", mix, x[:half])
    shift = 0.2 * torch.randn(half, 1, 3, 1, 1, device=x.device)
    return torch.cat([(mixed + shift).clamp(-1, 1), x[half:]])


def _windows(data: Tensor, count: int, frames: int, side: int, more: Tensor | None) -> Tensor:
    device = data.device
    who = torch.randint(len(data), (count,), device=device)
    if frames == 1:
        when = torch.randint(data.shape[1], (count,), device=device)
        cut = data[who, when][:, None]
        top, left = (int(torch.randint(129 - side, ())) for _ in range(2))
        if more is not None:
            extra = max(1, count // 8)
            cut[:extra, 0] = more[torch.randint(len(more), (extra,), device=device)]
        x = cut[..., top : top + side, left : left + side].float() / 127.5 - 1
        tenth = max(1, count // 10)
        x[-tenth:, 0] = field(tenth, side, device).clamp(-1, 1)
        return x
    first, top, left = (int(torch.randint(n + 1, (1,))) for n in
                        (data.shape[1] - frames, 128 - side, 128 - side))  # fmt: skip
    cut = data[who, first : first + frames, :, top : top + side, left : left + side]
    return cut.float() / 127.5 - 1


@torch.no_grad()
def psnr(vae: VAE, videos: Tensor) -> float:
    """Mean over videos of the reconstruction's PSNR, pixels 0…255."""
    found = []
    for video in videos.split(8):
        x = video.float() / 127.5 - 1
        out = pixels(vae, moments(vae, x).float()).clamp(-1, 1)
        error = (out - x).square().flatten(1).mean(1) / 4
        found.append(-10 * torch.log10(error))
    return float(torch.cat(found).mean())


def _fold(vae: VAE, gain: Tensor, shift: Tensor) -> None:
    """Make the encoder give ``gain·mean + shift`` and the decoder undo it."""
    z = vae.cfg.z_dim
    vae.conv1.weight.data[:z] *= gain.view(-1, 1, 1, 1, 1)
    assert vae.conv1.bias is not None
    assert vae.conv2.bias is not None
    vae.conv1.bias.data[:z] = vae.conv1.bias.data[:z] * gain + shift
    weight = vae.conv2.weight.data[:, :, 0, 0, 0] / gain
    vae.conv2.bias.data -= weight @ shift
    vae.conv2.weight.data = weight.view(z, z, 1, 1, 1).clone()


@torch.no_grad()
def _scale(vae: VAE, data: Tensor) -> None:
    device = data.device
    x = data[torch.randperm(len(data), device=device)[:64], :17].float() / 127.5 - 1
    found = torch.cat([moments(vae, some) for some in x.split(8)])[:, 1:]
    mean, std = found.mean((0, 1, 3, 4)), found.std((0, 1, 3, 4))
    target_mean = torch.tensor(LATENT_MEAN, device=device)
    target_std = torch.tensor(LATENT_STD, device=device)
    gain = target_std / std
    _fold(vae, gain, target_mean - gain * mean)


def _unscale(vae: VAE) -> None:
    device = vae.conv2.weight.device
    mean, std = (torch.tensor(v, device=device) for v in (LATENT_MEAN, LATENT_STD))
    _fold(vae, 1 / std, -mean / std)

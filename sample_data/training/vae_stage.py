"""Trains the VAE on drawn faces, in their own colours, as pencil drawings and with textures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model.vae import LATENT_MEAN, LATENT_STD, VAE, VAEConfig
from engine.model.vae_blocks import CausalConv3d, Downsample, Upsample
from sample_data.faces.identity import draw
from sample_data.faces.render import pencil, render
from sample_data.training.vae_parallel import moments, pixels

Tell = Callable[..., None]


def build(dim: int) -> VAE:
    """An untrained VAE whose residual branches begin small."""
    vae = VAE(VAEConfig(dim, (dim, 2 * dim, 4 * dim, 4 * dim), 2, (False, True, True)))
    for name, parameter in vae.named_parameters():
        if name.endswith(("residual.6.weight", "proj.weight")):
            parameter.data.mul_(0.2)
    return vae


@torch.no_grad()
def pictures(count: int, seed: int, device: torch.device, part: int = 24) -> Tensor:
    """Faces with drawn controls, ``[count, 1, 3, 128, 128]`` uint8; a sixth are pencil drawings."""
    made = torch.empty(count, 1, 3, 128, 128, dtype=torch.uint8, device=device)
    g = torch.Generator().manual_seed(seed)
    for at in range(0, count, part):
        who = draw(part, seed * 100_003 + at).to(device)
        moves = _moves(part, 1, g).to(device)
        made[at : at + part] = _bytes(_styled(render(who, moves)))[: count - at]
    return made


@torch.no_grad()
def films(count: int, frames: int, seed: int, device: torch.device, part: int = 32) -> Tensor:
    """Moving faces ``[count, frames, 3, 128, 128]`` uint8."""
    made = torch.empty(count, frames, 3, 128, 128, dtype=torch.uint8, device=device)
    g = torch.Generator().manual_seed(seed)
    for at in range(0, count, part):
        who = draw(part, seed * 100_003 + at).to(device)
        moves = _moves(part, frames, g).to(device)
        made[at : at + part] = _bytes(_styled(render(who, moves)))[: count - at]
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


def _styled(video: Tensor) -> Tensor:
    sixth = len(video) // 6
    video[-sixth:] = pencil(video[-sixth:])
    return video


def _bytes(video: Tensor) -> Tensor:
    return ((video.clamp(-1, 1) + 1) * 127.5).round().byte()


def inflate(vae: VAE) -> None:
    """Begin as a coder of single pictures: nothing from the past, the last of four, four copies."""
    for m in vae.modules():
        if isinstance(m, CausalConv3d) and m.weight.shape[-1] == 3:
            m.weight.data[:, :, :2] = 0
        elif (isinstance(m, Downsample) and m.temporal) or (isinstance(m, Upsample) and m.temporal):
            _hold(m.time_conv)


def _hold(conv: torch.nn.Conv3d) -> None:
    conv.weight.data.zero_()
    conv.bias.data.zero_()
    channels = conv.weight.shape[1]
    for n in range(conv.weight.shape[0]):
        conv.weight.data[n, n % channels, -1] = 1


def train(dim: int, seconds: float, device: torch.device, tell: Tell, start: VAE | None = None,
          moving: bool = False, count: int = 6000, batch: int = 64, peak: float = 2e-3,
          seed: int = 1, keep: Callable[[VAE], None] | None = None) -> VAE:  # fmt: skip
    """Train on pictures, or on films; ``start`` is continued. Latents end at the scale of Wan's."""
    if moving:
        held, data = films(32, 21, 999, device), films(count, 21, seed, device)
    else:
        held, data = pictures(48, 999, device), pictures(count, seed, device)
    vae = (build(dim) if start is None else start).to(device).float().requires_grad_(True)
    if start is None:
        inflate(vae)
    else:
        _unscale(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), peak, (0.9, 0.98), weight_decay=1e-4)
    tell(stage="vae", dim=dim, moving=moving, held_psnr=psnr(vae, held))
    begin = time.time()
    step = 0
    sides = (64, 64, 128) if device.type == "cuda" else (64,)
    while (spent := (time.time() - begin) / seconds) < 1:
        rate = peak * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent)) + 1e-5
        for group in optimizer.param_groups:
            group["lr"] = rate
        side = sides[step % len(sides)]
        frames = (5, 13, 9, 21)[step % 4] if moving else 1
        x = _windows(data, max(2, batch * 64 * 64 // (side * side)) // (2 if frames > 9 else 1),
                     frames, side)  # fmt: skip
        # Faces are orange and blue: with colours exchanged, none can be left out of the latents.
        for row in range(len(x) // 2 + 1):
            x[row] = x[row][:, torch.randperm(3)]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            mean = moments(vae, x)
            wide = mean.float()
            noise = 0.1 * torch.rand(len(x), 1, 1, 1, 1, device=device)
            out = pixels(vae, wide + noise * torch.randn_like(wide)).float()
        error = out - x
        loss = error.abs().mean() + 4 * error.square().mean()
        for axis in (-1, -2):
            loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
        # Edges alone would win for long: colours of whole cells count by themselves.
        flat = F.avg_pool2d(error.flatten(0, 1), 8)
        loss = loss + 4 * flat.abs().mean() + 16 * flat.square().mean()
        over = (0, 1, 3, 4)
        loss = loss + 0.02 * (
            wide.mean(over).square().mean() + (wide.var(over) - 1).square().mean()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            tell(stage="vae", step=step, seconds=time.time() - begin, loss=float(loss.detach()),
                 held_psnr=psnr(vae, held[:24]))  # fmt: skip
            if keep is not None:
                keep(vae)
    vae.requires_grad_(False)
    tell(stage="vae", step=step, seconds=time.time() - begin, held_psnr=psnr(vae, held),
         done=True)  # fmt: skip
    _scale(vae, data)
    return vae


def _windows(data: Tensor, count: int, frames: int, side: int) -> Tensor:
    who = torch.randint(len(data), (count,), device=data.device)
    first, top, left = (int(torch.randint(n + 1, (1,))) for n in
                        (data.shape[1] - frames, 128 - side, 128 - side))  # fmt: skip
    cut = data[who, first : first + frames, :, top : top + side, left : left + side]
    return cut.float() / 127.5 - 1


@torch.no_grad()
def psnr(vae: VAE, videos: Tensor) -> float:
    """Mean over videos of the reconstruction's PSNR, float32, pixels 0…255."""
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
    vae.conv1.bias.data[:z] = vae.conv1.bias.data[:z] * gain + shift
    weight = vae.conv2.weight.data[:, :, 0, 0, 0] / gain
    vae.conv2.bias.data -= weight @ shift
    vae.conv2.weight.data = weight.view(z, z, 1, 1, 1).clone()


@torch.no_grad()
def _scale(vae: VAE, data: Tensor) -> None:
    device = data.device
    frames = data.shape[1]
    found = torch.cat([moments(vae, _windows(data, 16, frames, 128)).flatten(0, 1)[:, None]
                       for _ in range(8)])  # fmt: skip
    mean, std = found.mean((0, 1, 3, 4)), found.std((0, 1, 3, 4))
    target_mean = torch.tensor(LATENT_MEAN, device=device)
    target_std = torch.tensor(LATENT_STD, device=device)
    gain = target_std / std
    _fold(vae, gain, target_mean - gain * mean)


def _unscale(vae: VAE) -> None:
    device = vae.conv2.weight.device
    mean, std = (torch.tensor(v, device=device) for v in (LATENT_MEAN, LATENT_STD))
    _fold(vae, 1 / std, -mean / std)


def interpolate(vae: VAE) -> None:
    """Let the decoder pass from one latent's picture to the next in even steps."""
    for m in vae.decoder.modules():
        if isinstance(m, Upsample) and m.temporal:
            channels = m.time_conv.weight.shape[1]
            _hold(m.time_conv)
            for n in range(channels):
                m.time_conv.weight.data[n, n, 1:] = 0.5


def train_decoder(vae: VAE, seconds: float, device: torch.device, tell: Tell, *, count: int = 1000,
                  films_count: int = 64, batch: int = 8, peak: float = 1e-3, seed: int = 2,
                  keep: Callable[[VAE], None] | None = None) -> None:  # fmt: skip
    """Fit the decoder alone, to pictures and, every fifth step, films; latents stay."""
    held, data = pictures(48, 999, device), pictures(count, seed, device)
    moving = films(films_count, 21, seed + 1, device, 8)
    vae.requires_grad_(False)
    parameters = [*vae.decoder.parameters()]
    for p in parameters:
        p.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, peak, (0.9, 0.98), weight_decay=1e-4)
    std = torch.tensor(LATENT_STD, device=device).view(-1, 1, 1)
    tell(stage="decoder", held_psnr=psnr(vae, held))
    begin, step = time.time(), 0
    while (spent := (time.time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 50) * (
                0.5 + 0.5 * math.cos(math.pi * spent)) + 1e-6  # fmt: skip
        film = step % 5 == 4
        x = _windows(moving, 2, 17, 64) if film else _windows(data, batch, 1, 64)
        with torch.no_grad():
            mean = moments(vae, x)
            mean = mean + 0.08 * torch.rand(len(x), 1, 1, 1, 1) * std * torch.randn_like(mean)
        error = pixels(vae, mean) - x
        if film:
            error = error[:, 5:]
        flat = F.avg_pool2d(error.flatten(0, 1), 8)
        loss = 2 * flat.abs().mean() + 8 * flat.square().mean()
        loss = loss + error.abs().mean() + 4 * error.square().mean()
        for axis in (-1, -2):
            loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0:
            tell(stage="decoder", step=step, seconds=time.time() - begin,
                 loss=float(loss.detach()), held_psnr=psnr(vae, held[:24]))  # fmt: skip
            if keep is not None:
                keep(vae)
    vae.requires_grad_(False)
    tell(stage="decoder", step=step, seconds=time.time() - begin, held_psnr=psnr(vae, held),
         done=True)  # fmt: skip

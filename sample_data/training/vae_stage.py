"""Trains the VAE: first on pictures, then on films and pictures in turn."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.vae import LATENT_MEAN, LATENT_STD, VAE, VAEConfig
from engine.model.vae_blocks import CausalConv3d, Downsample, Upsample
from sample_data.training.average import Average
from sample_data.training.replay import Replay, optimizer
from sample_data.training.sound import Tracks
from sample_data.training.vae_data import coloured, films, windows
from sample_data.training.vae_parallel import begin, finish, moments, pixels

Tell = Callable[..., None]
#: Widths of the levels, outermost first, and residual blocks of each.
WIDTHS, BLOCKS = (16, 32, 64, 96), 1
#: Frames and videos of a step: of pictures, of films.
PICTURES, FILMS = (1, 64), (9, 12)
#: Share of the time that belongs to pictures alone.
ALONE = 0.4


def build(widths: tuple[int, ...] = WIDTHS, blocks: int = BLOCKS) -> VAE:
    """An untrained VAE that begins as a coder of single pictures."""
    vae = VAE(VAEConfig(widths[0], widths, blocks, (False, True, True)))
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


def train(
    vae: VAE,
    seconds: float,
    device: torch.device,
    tell: Tell,
    tracks: Tracks,
    *,
    count: int = 1200,
    frames: int = 33,
    peak: float = 1.3e-3,
    shrink: int = 1,
    more: Tensor | None = None,
    resumed: bool = False,
    seed: int = 1,
) -> VAE:
    """Train ``vae`` in place for ``seconds``; latents end at the scale of Wan's.

    ``count`` films are drawn, two thirds of them moving as ``tracks`` say; ``more
    [n, 3, 128, 128]`` uint8 are pictures to be learnt beside. ``shrink`` divides the steps' sizes;
    ``resumed`` says that ``vae`` was trained before.
    """
    part = min(32, count)
    held = films(min(32, count), 21, 999, device, part)
    plain = held[part // 3 : -max(1, part // 6)]
    data = films(count, frames, seed, device, part, tracks)
    faces = films(5 * count, 2, seed + 1, device, part)  # more people, for pictures
    vae = vae.to(device).float().requires_grad_(True)
    if resumed:
        _unscale(vae)
    course = Course(vae, faces, data, more, shrink, device)
    average = Average(course.parameters)
    began, step, said = time.time(), 0, 0.0
    tell(stage="vae", drawn=count, held_psnr=psnr(vae, plain[:, :17]))
    while (spent := (time.time() - began) / seconds) < 1:
        alone = spent < ALONE and not resumed
        rate = peak * min(1, (step + 1) / 100) * min(1, 1.8 * (1 - spent)) ** 1.5 + 1e-6
        course(step, rate, films=not alone and step % 2 == 0, colours=0.5 if spent < 0.6 else 0.25)
        if step % 4 == 0:
            average.update()
        step += 1
        if step % 50 == 0 and time.time() - said > 12:
            with average.applied():
                still, film = psnr(vae, plain[:, :1]), psnr(vae, plain[:, :17])
            tell(stage="vae", step=step, seconds=time.time() - began, loss=float(course.loss),
                 held_still=still, held_film=film)  # fmt: skip
            said = time.time()
    average.keep()
    vae.requires_grad_(False)
    tell(stage="vae", step=step, seconds=time.time() - began, held_still=psnr(vae, plain[:, :1]),
         held_film=psnr(vae, plain), done=True)  # fmt: skip
    _scale(vae, data)
    return vae


class Course:
    """The steps over pictures and over films, on a GPU recorded once each."""

    def __init__(self, vae: VAE, faces: Tensor, data: Tensor, more: Tensor | None, shrink: int,
                 device: torch.device) -> None:  # fmt: skip
        self.vae, self.more, self.device = vae, more, device
        self.data = {False: faces, True: data}
        self.parameters = list(vae.parameters())
        self.probes = Probes(vae.cfg.z_dim, vae.cfg.widths[-1]).to(device)
        both = [*self.parameters, *self.probes.parameters()]
        self.optimizer, self.rate = optimizer(both, device, (0.9, 0.98))
        self.loss = torch.zeros((), device=device)
        side = data.shape[-1]
        self.inputs = {
            kind: torch.zeros(max(2, batch // shrink), span, 3, side, side, device=device)
            for kind, (span, batch) in ((False, PICTURES), (True, FILMS))
        }
        self.steps = {kind: Replay(self._step(kind), device) for kind in self.inputs}

    def __call__(self, step: int, rate: float, *, films: bool, colours: float) -> None:
        x = self.inputs[films]
        x.copy_(coloured(windows(self.data[films], len(x), x.shape[1], self.more), colours))
        self.rate.fill_(rate)
        self.steps[films]()
        if step % 20 == 0 and self.device.type == "cuda":
            torch.cuda.synchronize()  # the clock that ends training is the host's

    def _step(self, kind: bool) -> Callable[[], None]:
        x, vae = self.inputs[kind], self.vae

        def step() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            cuda = self.device.type == "cuda"
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=cuda, cache_enabled=False
            ):
                mean = moments(vae, x)
                wide = mean.float()
                noise = 0.08 * torch.rand(len(x), 1, 1, 1, 1, device=self.device)
                middle = begin(vae, wide + noise * torch.randn_like(wide))
                out = finish(vae, middle).float()
            loss = _loss(out, x, wide) + self.probes(x, wide, middle.float())
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.loss.copy_(loss.detach())

        return step


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
    loss = error.abs().mean() + 12 * error.square().mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * error.diff(dim=axis).abs().mean()
    flat = F.avg_pool2d(error.flatten(0, 1), 8)
    loss = loss + flat.abs().mean() + 4 * flat.square().mean()
    over = (0, 1, 3, 4)
    kept = wide.mean(over).square().mean() + (wide.var(over) - 1).square().mean()
    return loss + 0.01 * kept


@torch.no_grad()
def psnr(vae: VAE, videos: Tensor) -> float:
    """Mean over videos of the reconstruction's PSNR, pixels 0…255."""
    found = []
    for video in videos.split(8):
        x = video.float() / 127.5 - 1
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
            out = pixels(vae, moments(vae, x).float()).float().clamp(-1, 1)
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
    found = torch.cat([moments(vae, some) for some in x.split(8)])
    mean, std = found.mean((0, 1, 3, 4)), found.std((0, 1, 3, 4))
    target_mean = torch.tensor(LATENT_MEAN, device=device)
    target_std = torch.tensor(LATENT_STD, device=device)
    gain = target_std / std
    _fold(vae, gain, target_mean - gain * mean)


def _unscale(vae: VAE) -> None:
    device = vae.conv2.weight.device
    mean, std = (torch.tensor(v, device=device) for v in (LATENT_MEAN, LATENT_STD))
    _fold(vae, 1 / std, -mean / std)

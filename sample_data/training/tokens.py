"""Trains the DiT on a CPU: tokens of single latent frames, conditioned on portrait and sound.

The network is begun so that its first layer fetches the portrait's patches around a token by
position alone (``beginning``); that attention stays fixed, and self-attention of the later layers
and attention to the text stay at zero. What is left to learn is a function of a token's noisy
patch, the portrait around it and the sound, so tokens can be trained one by one, the moving ones
more often. Generated frames never depend on earlier ones: a video cannot drift.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.dit import DiT
from engine.model.layers import ADAIN_EPS, Layer
from engine.model.rope import REFERENCE_TIME, block_table
from engine.model.schedule import Schedule
from sample_data.training.average import Average
from sample_data.training.sequence import (
    FRONT,
    attend,
    feed,
    keys,
    modulate,
    normed,
    patches,
    plain_norm,
    queries,
    rotate,
    rotation,
    values,
)

Tell = Callable[..., None]


def frozen(name: str) -> bool:
    """Parameters that training leaves as ``start`` made them."""
    fixed = ("blocks.0.self_attn.q", "blocks.0.self_attn.k", "blocks.0.self_attn.norm")
    fixed = (*fixed, "casual_audio_encoder.weights")
    dead = "cross_attn" in name or "norm3" in name or name.startswith("text_embedding")
    later = ".self_attn." in name and not name.startswith("blocks.0.")
    unused = name.startswith(("frame_packer", "cond_encoder", "patch_embedding",
                              "trainable_cond_mask"))  # fmt: skip
    return name.startswith(fixed) or dead or later or unused


@dataclass
class Pairs:
    """Portraits and what they look like while three latents' worth of sound is heard."""

    ref: Tensor  # [P, 16, 1, h, w]
    latents: Tensor  # [N, 16, 3, h, w]
    who: Tensor  # [N] row of ``ref``
    audio: Tensor  # [N, dim, 12], the speech encoder's states mixed (``mixed``)
    moving: Tensor  # [P, S] tokens that move, the mouth's first
    own: int = 0  # rows at the end that show the demo's own portrait


def velocity(dit: DiT, x: Tensor, t: Tensor, ref: Tensor, audio: Tensor, chosen: Tensor,
             heard: tuple[Tensor, Tensor] | None = None) -> Tensor:  # fmt: skip
    """Velocity ``[B, 3, S, 64]`` at tokens ``chosen [B, 3, S]`` of ``x [B, 16, 3, h, w]``."""
    cfg = dit.cfg
    b, _, frames, h, w = x.shape
    fs = h * w // 4
    mask = dit.trainable_cond_mask.weight
    half = cfg.freq_dim // 2
    index = torch.arange(half, dtype=torch.float64)
    args = torch.cat([t, t.new_zeros(1)]).double()[:, None] * torch.pow(10000.0, -index / half)
    e = dit.time_embedding(torch.cat([args.cos(), args.sin()], dim=-1).float())
    m_all = dit.time_projection(e).unflatten(-1, (6, -1))
    at, still = m_all[:-1, :, None, None], m_all[-1:, :, None]
    layer = cast(Layer, dit.blocks[0])
    attn = layer.self_attn
    cond = patches(dit.patch_embedding, ref) + mask[1]
    m = (layer.modulation[:, :, None] + still).unbind(1)
    y = modulate(plain_norm(cond, layer.eps), m[1], m[0])
    device = x.device
    table = rotation(block_table(REFERENCE_TIME, 1, h // 2, w // 2, cfg.head_dim, device, False))
    k, v = rotate(keys(attn, y), table), values(attn, y)
    q = normed(attn.q.bias, attn.norm_q, cfg.num_heads).expand(b, fs, -1, -1)
    seen = attn.o(attend(rotate(q, table), k, v))  # [B, fs, C]; the same for every frame
    tokens = patches(dit.patch_embedding, x) + dit.cond_encoder.bias + mask[0]
    tokens = tokens.unflatten(1, (frames, fs)).gather(
        2, chosen[..., None].expand(-1, -1, -1, tokens.shape[-1])
    )
    seen = (
        seen[:, None]
        .expand(-1, frames, -1, -1)
        .gather(2, chosen[..., None].expand(-1, -1, -1, seen.shape[-1]))
    )
    heard = listened(dit, audio) if heard is None else heard
    for n, module in enumerate(dit.blocks):
        layer = cast(Layer, module)
        m = (layer.modulation[:, :, None, None] + at).unbind(1)
        if n == 0:
            tokens = tokens + seen * m[2]
        y = modulate(plain_norm(tokens, layer.eps), m[4], m[3])
        tokens = tokens + feed(layer, y) * m[5]
        number = cfg.injector_of(n)
        if number is not None:
            adain = dit.audio_injector.injector_adain_layers[number].linear
            cross = dit.audio_injector.injector[number]
            z = plain_norm(tokens, ADAIN_EPS)
            shift, scale = adain(F.silu(heard[0]))[:, :, None].chunk(2, dim=-1)
            q = queries(cross, modulate(z, scale, shift)).flatten(0, 1)
            local = heard[1].flatten(0, 1)
            out = cross.o(attend(q, keys(cross, local), values(cross, local)))
            tokens = tokens + out.unflatten(0, (b, frames))
    shift, scale = (dit.head.modulation + e[:-1, None]).unbind(1)
    y = modulate(plain_norm(tokens, dit.head.eps), scale[:, None, None], shift[:, None, None])
    return cast(Tensor, dit.head.head(y))


def mixed(dit: DiT, audio: Tensor) -> Tensor:
    """What the audio encoder makes of the speech encoder's states ``[N, states, dim, 12]``."""
    mix = F.silu(dit.casual_audio_encoder.weights)
    parts = [(a.float() * mix).sum(dim=1) / mix.sum(dim=1) for a in audio.split(256)]
    return torch.cat(parts)


def listened(dit: DiT, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Global and local audio of mixed features ``[B, dim, 12]``.

    Nine constant frames in front are as good as the engine's 73: eight reach the first latent.
    """
    front = audio[..., :1].expand(-1, -1, FRONT)
    global_, local = dit.casual_audio_encoder.encoder(torch.cat([front, audio], dim=-1))
    return global_[:, -3:], local[:, -3:]


def cells(x: Tensor, chosen: Tensor) -> Tensor:
    """Patches ``[B, 3, S, 64]`` of ``x [B, 16, 3, h, w]`` in the head's order of channels."""
    b, c, f, h, w = x.shape
    p = x.reshape(b, c, f, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 4, 6, 1)
    p = p.reshape(b, f, -1, 4 * c)
    return p.gather(2, chosen[..., None].expand(-1, -1, -1, p.shape[-1]))


def listen(dit: DiT, audio: Tensor, controls: Tensor, seconds: float, tell: Tell) -> None:
    """First teach the audio encoder: controls ``[N, 3, K]`` from its tokens by a linear head."""
    encoder = dit.casual_audio_encoder.requires_grad_(True)
    width, outputs = dit.cfg.dim, controls.shape[-1]
    heads = nn.ModuleList([nn.Linear(width, outputs) for _ in range(2)])
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, 2e-3, (0.9, 0.98))
    begin, step = time.time(), 0
    while (spent := (time.time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (0.5 + 0.5 * math.cos(math.pi * spent)) + 1e-6
        rows = torch.randint(len(audio), (48,))
        found = encoder(audio[rows].float(), torch.float32)
        want = controls[rows]
        loss = (heads[0](found.local[:, :, :-1].mean(2)) - want).square().mean()
        loss = loss + (heads[1](found.global_) - want).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            tell(stage="listen", step=step, seconds=time.time() - begin, loss=float(loss.detach()))


def train(dit: DiT, data: Pairs, held: Pairs, seconds: float, tell: Tell, *, batch: int = 12,
          peak: float = 1.5e-3, parameters: list[nn.Parameter] | None = None,
          keep: Callable[[DiT], None] | None = None) -> None:  # fmt: skip
    """Fit in place; the averaged weights are left in ``dit``."""
    levels = Schedule.flow_match().sigmas
    if parameters is None:
        for name, p in dit.named_parameters():
            p.requires_grad_(not frozen(name))
        parameters = [p for p in dit.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, peak, (0.9, 0.98), weight_decay=1e-4)
    average = Average(parameters)
    begin, step = time.time(), 0
    running = 0.0
    while (spent := (time.time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 100) * (
                0.5 + 0.5 * math.cos(math.pi * spent)) + 1e-6  # fmt: skip
        rows = torch.randint(len(data.who), (batch,))
        if data.own:
            low = len(data.who) - data.own
            rows[: batch // 3] = torch.randint(low, len(data.who), (batch // 3,))
        loss = _loss(dit, data, rows, levels, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        running = 0.98 * running + 0.02 * float(loss.detach()) if step > 1 else float(loss.detach())
        average.update()
        if step % 100 == 0:
            with average.applied():
                values = dict(zip(("held_error", "held_still"), score(dit, held), strict=True))
                if keep is not None:
                    keep(dit)
            tell(stage="dit", step=step, seconds=time.time() - begin, loss=running, **values)
    average.keep()
    dit.requires_grad_(False)
    error, still = score(dit, held)
    tell(stage="dit", step=step, seconds=time.time() - begin, held_error=error, held_still=still,
         done=True)  # fmt: skip


def _loss(dit: DiT, data: Pairs, rows: Tensor, levels: tuple[float, ...], step: int) -> Tensor:
    b = len(rows)
    who = data.who[rows]
    clean, ref, audio = data.latents[rows].float(), data.ref[who].float(), data.audio[rows].float()
    # From the second clip on the portrait is a generated frame: let it be less than perfect.
    doubtful = 0.3 * torch.rand(b, 1, 1, 1, 1) * (torch.rand(b, 1, 1, 1, 1) < 0.6)
    ref = ref + doubtful * torch.randn_like(ref)
    moving = data.moving[who]
    chosen = torch.cat([moving, torch.randint(64, (b, 8))], dim=1)[:, None].expand(-1, 3, -1)
    if step % 5 == 4:
        sigma = torch.rand(b) * 0.95 + 0.05
    else:
        sigma = torch.full((b,), levels[(0, 1, 2, 2)[step % 5]])
    t, s = sigma * 1000, sigma[:, None, None, None, None]
    noise = torch.randn_like(clean)
    heard = listened(dit, audio)
    x = (1 - s) * clean + s * noise
    # Inference starts from the portrait's guess, not from the truth: hide the truth often.
    if step % 2:
        doubt = torch.rand(b, 1, 1, 1, 1)
        x = (1 - s) * (doubt * clean + (1 - doubt) * ref) + s * noise
    with torch.autocast("cpu", torch.bfloat16):
        out = velocity(dit, x, t, ref, audio, chosen, heard).float()
    guess = cells(x, chosen) - sigma[:, None, None, None] * out
    # The mouth's tokens come first.
    count = moving.shape[1]
    weight = torch.cat([torch.linspace(2.5, 0.8, count), torch.full((8,), 0.8)])[:, None]
    return ((guess - cells(clean, chosen)).square() * weight).mean()


@torch.no_grad()
def score(dit: DiT, held: Pairs) -> tuple[float, float]:
    """Error of the whole way of four steps at the moving tokens, and of a still portrait."""
    rows = torch.arange(min(48, len(held.who)))
    who = held.who[rows]
    clean, ref, audio = held.latents[rows].float(), held.ref[who].float(), held.audio[rows].float()
    chosen = torch.arange(64)[None, None].expand(len(rows), 3, -1)
    schedule = Schedule.flow_match()
    x = torch.randn_like(clean)
    for n, t in enumerate(schedule.timesteps):
        out = velocity(dit, x, torch.full((len(rows),), t), ref, audio, chosen)
        v = out.unflatten(-1, (2, 2, 16)).unflatten(2, (8, 8)).permute(0, 6, 1, 2, 4, 3, 5)
        x = schedule.euler(x, v.reshape(x.shape), n)
    moving = held.moving[who][:, None].expand(-1, 3, -1)
    want = cells(clean, moving)
    still = cells(ref.expand_as(clean), moving)
    return float((cells(x, moving) - want).square().mean()), float((still - want).square().mean())

"""Trains the DiT on its own results: every step of inference, from noise to the last but one.

An iteration takes a batch from pure noise through the four noise levels of inference with the
network as it is; at each it is told what the clean latents are. So it learns from exactly the
inputs it will have, its own earlier blocks in the ring included. What a face does is a function of
portrait, prompt and sound, so the first step can already know it; the later ones correct. Every
fifth iteration is plain flow matching at a level of any height, for other numbers of steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.dit import DiT
from engine.model.random import RELATIVE_DIST
from engine.model.schedule import Schedule
from sample_data.training.average import Average
from sample_data.training.people import BLOCKS, EACH, Casting, Pool, whole_motion
from sample_data.training.sequence import Places, Scene, Walker, places

Tell = Callable[..., None]
#: Blocks after which a sequence may begin, mostly and at times; sixty seconds are 125.
LONG, FAR = 130, 4000


@dataclass
class Batch:
    """Rows of a pool, conditioned."""

    clean: Tensor  # [B, 16, F, h, w]
    ref: Tensor
    motion: Tensor
    context: Tensor
    audio: Tensor
    weight: Tensor
    rows: tuple[Tensor, Tensor]


def batch(pool: Pool, rows: Tensor, each: Tensor, later: Tensor) -> Batch:
    """Sequence ``each`` of people ``rows``; where ``later``, the portrait is a generated frame."""
    other = pool.made[rows, (each + 1) % EACH].float()
    ref = torch.where(later.view(-1, 1, 1, 1, 1), other, pool.ref[rows].float())
    return Batch(
        clean=pool.latents[rows, each].float(),
        ref=ref,
        motion=whole_motion(pool.motion[rows].float()),
        context=pool.contexts[pool.prompt[rows, each]].float(),
        audio=pool.audio[rows, each].float(),
        weight=pool.weight[rows],
        rows=(rows, each),
    )


def somewhere(dit: DiT, cells: int, first: int) -> Places:
    """Places of a sequence that begins at latent frame ``first``, at drawn distances."""
    low, high = RELATIVE_DIST
    distances = [int(torch.randint(low, high + 1, ())) for _ in range(BLOCKS)]
    return places(dit, first, distances, cells, cells)


def rollout(
    walker: Walker, scene: Scene, x: Tensor, schedule: Schedule, first: int
) -> list[Tensor]:
    """Guesses of the clean latents at each step but the last; inputs of later ones are cut off."""
    guesses = []
    at = somewhere(walker.dit, x.shape[-1] // 2, first)
    for n in range(schedule.steps - 1):
        v = walker.velocity(x, schedule.timesteps[n], scene, at)
        guesses.append(x - schedule.sigmas[n] * v)
        x = schedule.euler(x, v.detach(), n)
    return guesses


def train(
    dit: DiT,
    casting: Casting,
    pool: Pool,
    held: Pool,
    seconds: float,
    tell: Tell,
    *,
    size: int = 32,
    peak: float = 1e-3,
    parameters: list[nn.Parameter] | None = None,
    renew: int = 24,
    style: str = "own",
    walker: Walker | None = None,
) -> None:
    """Fit in place; the averaged weights are left in ``dit``.

    Every ``renew`` iterations sixteen people of the pool are replaced. ``peak`` falls to a trace
    by the end.
    """
    device = pool.ref.device
    cuda = device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    walker = walker or Walker(dit, fast=cuda, dtype=dtype)
    schedule = Schedule.flow_match()
    if parameters is None:
        dit.requires_grad_(True)
        parameters = list(dit.parameters())
    optimizer = torch.optim.AdamW(parameters, peak, (0.9, 0.98), weight_decay=1e-4)
    average = Average(parameters, 0.99)
    begin, step, fresh = time.time(), 0, 0
    errors: list[Tensor] = []
    while (spent := (time.time() - begin) / seconds) < 1:
        rate = peak * min(1, (step + 1) / 60) * min(1, 2 * (1 - spent)) ** 1.5 + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % renew == renew - 1:
            part = casting.people(16, 1_000_000 + int(time.time() * 10) % 10_000_000, style)
            pool.replace(fresh % (len(pool) // 16) * 16, part)
            fresh += 1
        rows = torch.randint(len(pool), (size,), device=device)
        each = torch.randint(EACH, (size,), device=device)
        beginning = float(torch.rand(())) < 0.3
        later = torch.rand(size, device=device) < (0.3 if beginning else 0.85)
        one = batch(pool, rows, each, later)
        first = 0 if beginning else 3 * int(torch.randint(1, LONG if step % 8 else FAR, ()))
        scene = walker.scene(one.ref, one.motion, one.context, one.audio)
        if step % 5 == 4:
            loss = _plain(walker, scene, one, first)
        else:
            guesses = rollout(walker, scene, torch.randn_like(one.clean), schedule, first)
            parts = [_error(g, one) for g in guesses]
            loss = sum(parts[1:], parts[0])
            errors.append(torch.stack([p.detach() for p in parts]))
            last = guesses[-1].detach()
            pool.made[one.rows] = last[:, :, :1].to(pool.made.dtype)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update()
        step += 1
        if step in (5, 20) or step % 100 == 0:
            recent = torch.stack(errors[-100:]).mean(0).tolist()
            tell(stage="dit", style=style, step=step, seconds=time.time() - begin,
                 errors=[round(e, 4) for e in recent])  # fmt: skip
        if step % 1000 == 0:
            with average.applied():
                tell(stage="dit", step=step, held=score(walker, held))
    average.keep()
    tell(stage="dit", style=style, step=step, seconds=time.time() - begin,
         held=score(walker, held), done=True)  # fmt: skip


def _error(guess: Tensor, one: Batch) -> Tensor:
    error = (guess - one.clean) * one.weight.sqrt()
    # Large errors are rare movements: a square alone would let them rule, an amount blur them.
    found: Tensor = error.square().mean() + 0.2 * error.abs().mean()
    return found


def _plain(walker: Walker, scene: Scene, one: Batch, first: int) -> Tensor:
    sigma = 0.01 + 0.99 * float(torch.rand(()))
    noise = torch.randn_like(one.clean)
    x = (1 - sigma) * one.clean + sigma * noise
    at = somewhere(walker.dit, x.shape[-1] // 2, first)
    v = walker.velocity(x, 1000 * sigma, scene, at)
    error = (v - (noise - one.clean)) * one.weight.sqrt() * max(sigma, 0.25)
    return error.square().mean()


@torch.no_grad()
def score(walker: Walker, held: Pool) -> dict[str, float]:
    """Weighted errors of the last guess, at a video's beginning and far in it, and of a still."""
    device = held.ref.device
    rows = torch.arange(len(held), device=device).repeat(EACH)
    each = torch.arange(EACH, device=device).repeat_interleave(len(held))
    found = {}
    for name, late, first in (("begin", False, 0), ("later", True, 240)):
        one = batch(held, rows, each, torch.full((len(rows),), late, device=device))
        scene = walker.scene(one.ref, one.motion, one.context, one.audio)
        g = torch.Generator(device=device).manual_seed(1)
        noise = torch.randn(one.clean.shape, generator=g, device=device)
        last = rollout(walker, scene, noise, Schedule.flow_match(), first)[-1]
        found[name] = round(float(((last - one.clean).square() * one.weight).mean()), 4)
        found[f"{name}_flat"] = round(float(F.mse_loss(last, one.clean)), 4)
        still = one.motion[:, :, -1:]
        found["still"] = round(float(((still - one.clean).square() * one.weight).mean()), 4)
        if not late:
            held.made[rows, each] = last[:, :, :1].to(held.made.dtype)
    return found


@torch.no_grad()
def examples(walker: Walker, held: Pool, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Portrait and still, true and generated latents of ``count`` people (motion in front)."""
    rows = torch.arange(count, device=held.ref.device)
    each = torch.zeros_like(rows)
    one = batch(held, rows, each, torch.zeros_like(rows, dtype=torch.bool))
    scene = walker.scene(one.ref, one.motion, one.context, one.audio)
    last = rollout(walker, scene, torch.randn_like(one.clean), Schedule.flow_match(), 0)[-1]
    return one.motion[:, :, :3], one.clean, last

"""Trains the DiT on a GPU, latent frame by latent frame, through inference's own steps.

An iteration takes a batch from pure noise through the noise levels of inference with the network
as it is; at each it is told what the clean latents are. A further step at a random level serves
other numbers of steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import BLOCK_FRAMES, BLOCK_LATENTS
from engine.model.dit import DiT
from engine.model.schedule import Schedule
from sample_data.faces.control import HEARD
from sample_data.training.average import Average
from sample_data.training.frames import cells, frozen, given, latents, some, velocity
from sample_data.training.people import BLOCKS, EACH, Casting, Pool
from sample_data.training.replay import Replay, optimizer

Tell = Callable[..., None]
Heard = tuple[Tensor, Tensor]
#: Tokens of a frame that a step learns from.
TOKENS = 32


@dataclass
class Inputs:
    """A batch, in tensors that stay where they are."""

    clean: Tensor  # [B, 16, 3, h, w]
    ref: Tensor
    audio: Tensor  # mixed
    context: Tensor
    weight: Tensor  # [B, 1, 1, h, w]
    chosen: Tensor  # [B, S] the tokens that are learnt
    moves: Tensor  # [B, 3, 4·HEARD], the controls of each latent's frames
    sigma: Tensor  # [1]

    def fill(self, other: Inputs) -> None:
        for name in self.__dataclass_fields__:
            getattr(self, name).copy_(getattr(other, name))


def batch(pool: Pool, mix: Tensor, rows: Tensor, each: Tensor, block: Tensor,
          later: Tensor, focus: int = TOKENS // 2) -> Inputs:  # fmt: skip
    """Block ``block`` of sequence ``each`` of people ``rows``; where ``later`` the portrait is a
    generated frame. ``mix [states]`` weighs the speech encoder's states; ``focus`` of the tokens
    are those with the greatest weight."""
    span = block[:, None] * BLOCK_LATENTS + torch.arange(BLOCK_LATENTS, device=rows.device)
    frames = block[:, None] * BLOCK_FRAMES + torch.arange(BLOCK_FRAMES, device=rows.device)
    other = pool.made[rows, (each + 1) % EACH]
    heard = pool.audio[rows, each, block].float()
    moves = pool.moves[rows[:, None], each[:, None], frames][..., :HEARD]
    clean = pool.latents[rows[:, None], each[:, None], :, span].transpose(1, 2)
    weight = pool.weight[rows]
    heavy = F.avg_pool2d(weight[:, 0], 2).flatten(1)
    luck = torch.rand_like(heavy)
    luck = luck.scatter_add(1, heavy.topk(focus).indices, torch.ones_like(heavy[:, :focus]))
    return Inputs(
        clean=clean.float(),
        ref=torch.where(later.view(-1, 1, 1, 1, 1), other, pool.ref[rows]).float(),
        audio=torch.einsum("bsdt,s->bdt", heard, mix),
        context=pool.contexts[pool.prompt[rows, each]].float(),
        weight=weight,
        chosen=luck.topk(TOKENS).indices,
        moves=moves.float().unflatten(1, (BLOCK_LATENTS, -1)).flatten(2),
        sigma=torch.rand(1, device=rows.device) * 0.98 + 0.02,
    )


def draw(pool: Pool, mix: Tensor, size: int, focus: int) -> tuple[Inputs, Tensor, Tensor]:
    """A batch drawn at random, and whose it is."""
    device = pool.ref.device
    rows = torch.randint(len(pool), (size,), device=device)
    each = torch.randint(EACH, (size,), device=device)
    block = torch.randint(BLOCKS, (size,), device=device)
    later = torch.rand(size, device=device) < 0.4
    return batch(pool, mix, rows, each, block, later, focus), rows, each


class Course:
    """One iteration, on a GPU recorded once."""

    def __init__(self, dit: DiT, parameters: list[nn.Parameter], first: Inputs) -> None:
        self.dit, self.parameters, self.inputs = dit, parameters, first
        device = first.ref.device
        self.device = device
        width = dit.cfg.dim
        self.heads = nn.ModuleList(
            [nn.Linear(width, first.moves.shape[-1], device=device) for _ in range(2)]
        )
        both = [*parameters, *self.heads.parameters()]
        self.optimizer, self.rate = optimizer(both, device, (0.9, 0.98))
        self.errors = torch.zeros(5, device=device)
        self.schedule = Schedule.flow_match()
        self.listens = any(p is dit.casual_audio_encoder.encoder.final_linear.weight
                           for p in parameters)  # fmt: skip
        self.run = Replay(self._step, device)

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            losses = self._losses()
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.errors.copy_(torch.stack(losses).detach())

    def _losses(self) -> list[Tensor]:
        one, dit, schedule = self.inputs, self.dit, self.schedule
        b, device = len(one.ref), self.device
        # From the second clip on the portrait is a generated frame: let it be less than perfect.
        doubt = 0.25 * torch.rand(b, 1, 1, 1, 1, device=device)
        doubt = doubt * (torch.rand(b, 1, 1, 1, 1, device=device) < 0.4)
        ref = one.ref + doubt * torch.randn_like(one.ref)
        on = given(dit, ref, one.audio, one.context, one.chosen)
        clean = some(cells(one.clean), one.chosen)
        weight = cells(one.weight).mean(-1, keepdim=True).expand(-1, -1, -1, 1)
        weight = some(weight, one.chosen).sqrt()
        x = torch.randn_like(clean)
        losses = []
        for n in range(schedule.steps - 1):
            t = torch.full((1,), schedule.timesteps[n], device=device)
            v = velocity(dit, x, t, on)
            guess = x - schedule.sigmas[n] * v
            losses.append(_error(guess - clean, weight))
            x = schedule.euler(x, v.detach(), n)
        noise, s = torch.randn_like(clean), one.sigma
        v = velocity(dit, (1 - s) * clean + s * noise, 1000 * s, on)
        losses.append(0.5 * _error((v - noise + clean) * s.clamp(min=0.25), weight))
        told = self.heads[0](on.heard[0]), self.heads[1](on.heard[1][:, :, :-1].mean(2))
        wrong = sum(((one_told - one.moves) ** 2).mean() for one_told in told)
        losses.append(0.5 * wrong if self.listens else 0 * wrong.detach())
        return losses


def _error(error: Tensor, weight: Tensor) -> Tensor:
    error = error * weight
    # Large errors are rare movements: a square alone would let them rule, an amount blur them.
    found: Tensor = error.square().mean() + 0.2 * error.abs().mean()
    return found


def train(
    dit: DiT,
    casting: Casting,
    pool: Pool,
    held: Pool,
    seconds: float,
    tell: Tell,
    *,
    size: int = 192,
    peak: float = 1.5e-3,
    parameters: list[nn.Parameter] | None = None,
    focus: int = TOKENS // 2,
    renew: int = 150,
    fresh: int = 32,
    keep: int = 0,
    style: str = "own",
) -> None:
    """Fit in place; the averaged weights are left in ``dit``.

    Every ``renew`` iterations ``fresh`` people of the pool, but for the last ``keep``, are
    replaced; 0 replaces none. ``peak`` falls to a trace by the end.
    """
    if parameters is None:
        for name, p in dit.named_parameters():
            p.requires_grad_(not frozen(name))
        parameters = [p for p in dit.parameters() if p.requires_grad]
    mix = state_mix(dit)
    course = Course(dit, parameters, draw(pool, mix, size, focus)[0])
    average = Average(parameters, 0.99)
    begin, step, at, said = time.time(), 0, 0, 0.0
    while (spent := (time.time() - begin) / seconds) < 1:
        rate = peak * min(1, (step + 1) / 100) * min(1, 1.6 * (1 - spent)) ** 1.5 + 1e-6
        course.rate.fill_(rate)
        if renew and step % renew == renew - 1:
            part = casting.people(fresh, 1_000_000 + int(time.time() * 10) % 10_000_000, style)
            pool.replace(at % ((len(pool) - keep) // fresh) * fresh, part)
            at += 1
        course.inputs.fill(draw(pool, mix, size, focus)[0])
        course.run()
        if step % 30 == 29:  # portraits of later clips are generated frames: renew some
            one, rows, each = draw(pool, mix, size, focus)
            pool.made[rows, each] = generate(dit, one, step)[:, :, :1].to(pool.made.dtype)
        if step % 4 == 0:
            average.update()
        step += 1
        if step % 20 == 0 and pool.ref.is_cuda:
            torch.cuda.synchronize()  # the clock that ends training is the host's
        if step % 50 == 0 and time.time() - said > 12:
            errors = [round(e, 4) for e in course.errors.tolist()]
            with average.applied():
                found = score(dit, held, mix)
            tell(stage="dit", style=style, step=step, seconds=time.time() - begin, errors=errors,
                 **found)  # fmt: skip
            said = time.time()
    average.keep()
    tell(stage="dit", style=style, step=step, seconds=time.time() - begin,
         **score(dit, held, mix), done=True)  # fmt: skip


def state_mix(dit: DiT) -> Tensor:
    """How the audio encoder weighs the speech encoder's states; they add up to 1."""
    mix = F.silu(dit.casual_audio_encoder.weights.detach().float()).flatten()
    return mix / mix.sum()


@torch.no_grad()
def generate(dit: DiT, one: Inputs, seed: int = 1) -> Tensor:
    """Latents as inference makes them, all its steps."""
    schedule = Schedule.flow_match()
    device = one.ref.device
    g = torch.Generator(device=device).manual_seed(seed)
    x = torch.randn(cells(one.clean).shape, generator=g, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        on = given(dit, one.ref, one.audio, one.context)
        for n, t in enumerate(schedule.timesteps):
            x = schedule.euler(x, velocity(dit, x, torch.full((1,), t, device=device), on), n)
    return latents(x, one.clean.shape[-1] // 2)


def blocks_of(held: Pool, mix: Tensor, people: int, block: int, later: bool) -> Inputs:
    """One block of the first people's first sequences."""
    rows = torch.arange(min(people, len(held)), device=held.ref.device)
    zero = torch.zeros_like(rows)
    return batch(held, mix, rows, zero, zero + block, (zero + int(later)).bool())


def score(dit: DiT, held: Pool, mix: Tensor) -> dict[str, float]:
    """Weighted errors of generated latents, and of a still portrait."""
    found = {}
    for name, later in (("held", False), ("later", True)):
        one = blocks_of(held, mix, 48, 1, later)
        error = (generate(dit, one) - one.clean).square() * one.weight
        found[name] = round(float(error.mean()), 4)
        if not later:
            still = (one.ref - one.clean).square() * one.weight
            found["still"] = round(float(still.mean()), 4)
    return found

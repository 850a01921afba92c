"""Trains the DiT on a GPU, latent frame by latent frame, through inference's own steps.

The network is begun so that its first layer fetches the portrait's patches around a token by
position alone (``beginning``). That attention stays fixed and self-attention of the later layers
stays at zero, so a generated frame depends on portrait, sound and prompt and on no other generated
frame: frames can be trained one by one, and a video cannot drift.

An iteration takes a batch from pure noise through the noise levels of inference with the network
as it is; at each it is told what the clean latents are. A further step at a random level serves
other numbers of steps.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.config import BLOCK_FRAMES, BLOCK_LATENTS
from engine.model.dit import DiT
from engine.model.layers import ADAIN_EPS, Layer
from engine.model.rope import REFERENCE_TIME, block_table
from engine.model.schedule import Schedule
from sample_data.faces.control import HEARD
from sample_data.training.average import Average
from sample_data.training.people import BLOCKS, EACH, Casting, Pool
from sample_data.training.pieces import (
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
from sample_data.training.replay import Replay, optimizer

Tell = Callable[..., None]
Heard = tuple[Tensor, Tensor]
#: Constant frames in front of a block's audio. Eight reach its first latent; the engine's 73 say
#: the same.
FRONT = 9
#: Tokens of a frame that a step learns from.
TOKENS = 32


def frozen(name: str) -> bool:
    """Parameters that training leaves as ``beginning.start`` made them."""
    first = name.startswith(("blocks.0.self_attn.q", "blocks.0.self_attn.k",
                             "blocks.0.self_attn.norm"))  # fmt: skip
    later = ".self_attn." in name and not name.startswith("blocks.0.")
    unused = name.startswith(("casual_audio_encoder.weights", "frame_packer", "cond_encoder",
                              "patch_embedding", "trainable_cond_mask"))  # fmt: skip
    return first or later or unused


@dataclass
class Given:
    """What a batch's frames depend on."""

    seen: Tensor  # [B, 1, S, C] of the portrait, as the first layer fetches it
    heard: Heard  # global [B, 3, C], local [B, 3, n + 1, C]
    text: list[Heard]  # keys and values of the prompt, a pair per layer
    rest: Tensor | None  # log of how many rows each of the prompt's stands for


def timing(dit: DiT, t: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding ``[n, C]`` and modulation ``[n, 6, C]`` of timesteps ``t [n]``."""
    half = dit.cfg.freq_dim // 2
    index = torch.arange(half, dtype=torch.float64, device=t.device)
    args = t.double()[:, None] * torch.pow(10000.0, -index / half)
    e = dit.time_embedding(torch.cat([args.cos(), args.sin()], dim=-1).float())
    return e, dit.time_projection(e).unflatten(-1, (6, -1))


def listened(dit: DiT, audio: Tensor) -> Heard:
    """Global and local audio of mixed features ``[B, dim, 12]``."""
    front = audio[..., :1].expand(-1, -1, FRONT)
    global_, local = dit.casual_audio_encoder.encoder(torch.cat([front, audio], dim=-1))
    return global_[:, -BLOCK_LATENTS:], local[:, -BLOCK_LATENTS:]


@functools.cache
def _table(rows: int, columns: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return rotation(block_table(REFERENCE_TIME, 1, rows, columns, head_dim, device, False))


def cells(x: Tensor) -> Tensor:
    """Latents ``[B, 16, F, h, w]`` as tokens ``[B, F, fs, 64]``."""
    b, c, f, h, w = x.shape
    x = x.reshape(b, c, f, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6)
    return x.reshape(b, f, -1, 4 * c)


def latents(tokens: Tensor, columns: int) -> Tensor:
    """Undoes ``cells``, of pictures ``columns`` tokens wide."""
    x = tokens.unflatten(2, (-1, columns)).unflatten(-1, (-1, 2, 2))  # [B, F, r, c, 16, 2, 2]
    return x.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


def some(tokens: Tensor, chosen: Tensor | None) -> Tensor:
    """Of ``[B, F, fs, C]`` the tokens ``chosen [B, S]``, or all."""
    if chosen is None:
        return tokens
    at = chosen[:, None, :, None].expand(-1, tokens.shape[1], -1, tokens.shape[-1])
    return tokens.gather(2, at)


def given(dit: DiT, ref: Tensor, audio: Tensor, context: Tensor,
          chosen: Tensor | None = None) -> Given:  # fmt: skip
    """Of portraits ``[B, 16, 1, h, w]``, mixed features ``[B, dim, 12]`` and prompts' encodings
    ``[B, L, text_dim]`` for the tokens ``chosen [B, S]``; the last of L rows stands for those
    that ``text_len`` has beyond it, all alike."""
    cfg = dit.cfg
    b, _, _, h, w = ref.shape
    layer = cast(Layer, dit.blocks[0])
    attn = layer.self_attn
    _, still = timing(dit, torch.zeros(1, device=ref.device))
    m = (layer.modulation + still)[:, :, None].unbind(1)
    y = modulate(plain_norm(patches(dit.patch_embedding, ref) + dit.trainable_cond_mask.weight[1],
                            layer.eps), m[1], m[0])  # fmt: skip
    table = _table(h // 2, w // 2, cfg.head_dim, ref.device)
    k, v = keys(attn, y).float(), values(attn, y).float()
    q = normed(attn.q.bias.float(), attn.norm_q, cfg.num_heads).expand(b, h * w // 4, -1, -1)
    with torch.autocast(ref.device.type, enabled=False):  # sharp: it must hit its places
        fetched = attend(rotate(q, table), rotate(k, table), v)
    found = attn.o(fetched)
    text = dit.text_embedding(context)
    pairs = []
    for module in dit.blocks:
        cross = cast(Layer, module).cross_attn
        pairs.append((keys(cross, text), values(cross, text)))
    rest = None
    if (beyond := cfg.text_len - context.shape[1]) > 0:
        rest = torch.zeros(context.shape[1], device=ref.device)
        rest[-1:] += math.log(beyond + 1)
    return Given(some(found[:, None], chosen), listened(dit, audio), pairs, rest)


def _read(q: Tensor, k: Tensor, v: Tensor, rest: Tensor | None) -> Tensor:
    """``q [B, L, H, D]`` over a prompt → ``[B, L, H·D]``."""
    if rest is None:
        return attend(q, k, v)
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / q.shape[-1] ** 0.5 + rest
    return (scores.softmax(-1).to(v.dtype) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


def velocity(dit: DiT, x: Tensor, t: Tensor, on: Given) -> Tensor:
    """Velocity of tokens ``x [B, 3, S, 64]`` at timestep ``t [1]``."""
    e, at = timing(dit, t)
    embed = dit.patch_embedding
    tokens = F.linear(x, embed.weight.flatten(1), embed.bias) + dit.cond_encoder.bias
    tokens = tokens + dit.trainable_cond_mask.weight[0]
    for n, module in enumerate(dit.blocks):
        layer = cast(Layer, module)
        m = (layer.modulation + at)[:, :, None, None].unbind(1)
        if n == 0:
            tokens = tokens + on.seen * m[2]
        cross, norm3 = layer.cross_attn, layer.norm3
        y = F.layer_norm(tokens, tokens.shape[-1:], norm3.weight, norm3.bias, norm3.eps)
        y = cross.o(_read(queries(cross, y.flatten(1, 2)), *on.text[n], on.rest))
        tokens = tokens + y.view(tokens.shape)
        y = modulate(plain_norm(tokens, layer.eps), m[4], m[3])
        tokens = tokens + feed(layer, y) * m[5]
        number = dit.cfg.injector_of(n)
        if number is not None:
            adain = dit.audio_injector.injector_adain_layers[number].linear
            injector = dit.audio_injector.injector[number]
            shift, scale = adain(F.silu(on.heard[0]))[:, :, None].chunk(2, dim=-1)
            y = modulate(plain_norm(tokens, ADAIN_EPS), scale, shift).flatten(0, 1)
            local = on.heard[1].flatten(0, 1)
            y = attend(queries(injector, y), keys(injector, local), values(injector, local))
            tokens = tokens + injector.o(y).view(tokens.shape)
    shift, scale = (dit.head.modulation + e[:, None]).unbind(1)
    y = modulate(plain_norm(tokens, dit.head.eps), scale[:, None, None], shift[:, None, None])
    out = cast(Tensor, dit.head.head(y)).float()
    return out.unflatten(-1, (4, -1)).mT.flatten(-2)  # the head's channels come last


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

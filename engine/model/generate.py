"""One video's generation: what has to be computed next, from what, and what becomes of it.

``Generation`` holds noise, latents in flight, one ring of keys and values per denoising step, and
the conditioning of each clip epoch. It hands out work items and takes their results; who computes
them, in which order and on which device is up to its user. ``run`` is the plain order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.model import random
from engine.model.caches import Conditioning, JobMemory, RollingCache
from engine.model.config import BLOCK_FRAMES, BLOCK_LATENTS, RING_LATENTS, DiTConfig
from engine.model.dit import BlockAudio, BlockItem, Item, PrefillItem
from engine.model.schedule import Schedule

#: ``tpp`` is what every mode of this package computes. The others are the reference's ways:
#: ``single_offline`` never conditions on generated frames, ``single_online`` also renews the
#: motion from decoded pixels, ``core`` is the part that ``tpp`` and ``single_online`` share.
Semantics = Literal["tpp", "single_online", "single_offline", "core"]

Walk = Callable[[Sequence[Item]], list[Tensor | None]]


@dataclass(frozen=True)
class Options:
    """What a request says about the loop. ``relative_dist`` None draws it per block and step."""

    clips: int
    steps: int = 4
    shift: float = 3.0
    infer_frames: int = 48
    seed: int = 0
    relative_dist: int | None = None
    semantics: Semantics = "tpp"

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"{self.clips} clips; at least 1 is needed")
        if self.infer_frames < 1 or self.infer_frames % BLOCK_FRAMES:
            raise ValueError(f"infer_frames {self.infer_frames} is no multiple of {BLOCK_FRAMES}")

    @property
    def blocks_per_clip(self) -> int:
        return self.infer_frames // BLOCK_FRAMES

    @property
    def blocks(self) -> int:
        return self.clips * self.blocks_per_clip


@dataclass(frozen=True)
class Inputs:
    """What a video is made from, on any device.

    ``ref [16,1,h,w]`` and ``motion [16,m,h,w]`` (oldest first) are latents, ``context
    [L, text_dim]`` the prompt, ``audio [A, states, audio_dim, frames]`` the speech of A actors,
    ``mask [A, ≥3, h/2, w/2, 1]`` where each actor is. ``noise [clips, 16, clip latents, h, w]``
    and ``relative_dist [blocks][steps]`` take the place of drawn numbers.
    """

    ref: Tensor
    motion: Tensor
    context: Tensor
    audio: Tensor
    mask: Tensor | None = None
    noise: Tensor | None = None
    relative_dist: Sequence[Sequence[int]] | None = None


class Generation:
    """State of one video on one rank.

    Blocks are numbered through the video, steps from 0; a latent *at* step ``s`` is about to enter
    it, and at step ``steps`` it is final. ``local_steps`` are the steps this rank computes (all by
    default): only their rings exist here, and latents from elsewhere come by ``receive``. Likewise
    ``layers``, if the rank holds some of the layers only; ``ring_layers`` tells them step by step
    where they differ. ``make_ring`` makes a ring from ``RollingCache``'s arguments. ``job`` holds
    the prompt's keys and values where they were computed beforehand. ``lean`` keeps no more of the
    conditioning than the rings will still ask for.

    ``dtype`` is the DiT's compute dtype: of caches, and of latents between steps.
    """

    def __init__(
        self,
        cfg: DiTConfig,
        options: Options,
        inputs: Inputs,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        local_steps: Iterable[int] | None = None,
        layers: Iterable[int] | None = None,
        ring_layers: Mapping[int, Iterable[int]] | None = None,
        make_ring: Callable[..., RollingCache] = RollingCache,
        job: JobMemory | None = None,
        lean: bool = False,
    ) -> None:
        self.cfg, self.options, self.dtype = cfg, options, dtype
        self.device = torch.device(device)
        self.schedule = Schedule.flow_match(options.steps, options.shift)
        self._inputs = inputs
        self._audio = inputs.audio
        if (need := options.clips * options.infer_frames) > self._audio.shape[-1]:
            raise ValueError(f"{self._audio.shape[-1]} frames of audio for {need} frames of video")
        self.local_steps = tuple(
            sorted(range(options.steps) if local_steps is None else local_steps)
        )
        self._layers = tuple(range(cfg.num_layers) if layers is None else layers)
        self._height, self._width = inputs.ref.shape[-2:]
        self._frame_tokens = cfg.frame_tokens(self._height, self._width)
        self._condition_tokens = cfg.condition_tokens(self._height, self._width)
        self._ref = self._place(inputs.ref)
        self._motion = self._place(inputs.motion)
        self._context = self._place(inputs.context)
        self._mask = None if inputs.mask is None else self._place(inputs.mask)
        heads = (cfg.num_heads, cfg.head_dim, dtype, self.device)
        self._heads = heads
        own = {} if ring_layers is None else ring_layers
        self.rings = {
            step: make_ring(
                own.get(step, self._layers),
                RING_LATENTS * self._frame_tokens,
                *heads,
                lead=self._condition_tokens,
            )
            for step in self.local_steps
        }
        self._job = job
        self._readers: dict[int, int] | None = None
        if lean and all(ring.has_lead for ring in self.rings.values()):
            self._readers = {
                n: sum(n in ring.layers for ring in self.rings.values()) for n in self._layers
            }
        self.epochs: dict[int, Conditioning] = {}
        self._flight: dict[int, tuple[int, Tensor]] = {}
        self._final: dict[int, Tensor] = {}
        self._voices: dict[int, BlockAudio] = {}
        self._next = dict.fromkeys(self.local_steps, 0)
        #: The block that each step began with here: above 0 in a video that goes on (``go_on``).
        self.start = (0,) * options.steps
        self._generated_ref: Tensor | None = None
        self._generated_motion: Tensor | None = None

    # Numbers

    @property
    def steps(self) -> int:
        return self.options.steps

    @property
    def clips(self) -> int:
        return self.options.clips

    @property
    def blocks_per_clip(self) -> int:
        return self.options.blocks_per_clip

    @property
    def blocks(self) -> int:
        return self.options.blocks

    def clip_of(self, block: int) -> int:
        return block // self.blocks_per_clip

    def epoch_of(self, clip: int) -> int:
        """Which conditioning a clip sees: its portrait (0), or a generated frame of itself (1)."""
        return 0 if self.options.semantics == "single_offline" else min(clip, 1)

    @property
    def kv_nbytes(self) -> int:
        """Bytes of the rings of this rank's steps."""
        return sum(ring.nbytes for ring in self.rings.values())

    @property
    def conditioning_nbytes(self) -> int:
        """Bytes of the conditioning epochs alive and of the prompt's keys and values."""
        own = sum(cond.own_nbytes for cond in self.epochs.values())
        return own + (0 if self._job is None else self._job.nbytes)

    # Conditioning

    def needs_prefill(self, clip: int) -> bool:
        """Whether a prefill belongs in front of this clip (on a rank that has steps)."""
        first = clip == 0 or self.epoch_of(clip) != self.epoch_of(clip - 1)
        return first and bool(self.local_steps)

    def prefill_ready(self, clip: int) -> bool:
        """Whether everything that the clip's prefill is made from is here."""
        if self.epoch_of(clip) == 0:
            return True
        motion = self.options.semantics != "single_online" or self._generated_motion is not None
        return self._generated_ref is not None and motion

    def prefill(self, clip: int) -> PrefillItem:
        """The prefill in front of ``clip``. Its conditioning is in use once the item was walked.

        Raises ``ValueError`` when block 0 has not been finished (or received) for clip 1.
        """
        if not self.prefill_ready(clip):
            raise ValueError(f"the prefill of clip {clip} waits for block 0")
        epoch = self.epoch_of(clip)
        ref, motion = self._ref, self._motion
        if epoch and self._generated_ref is not None:
            ref = self._generated_ref
            motion = motion if self._generated_motion is None else self._generated_motion
        if self._job is None:
            self._job = JobMemory(self._layers, self.cfg.text_len, *self._heads)
        self._drop_epochs(before=epoch)
        cond = Conditioning(
            self._layers,
            self._condition_tokens,
            self._frame_tokens,
            *self._heads,
            self._job,
            readers=self._readers,
        )
        self.epochs[epoch] = cond
        return PrefillItem(ref, motion, self._context, cond)

    def renew_motion(self, motion: Tensor) -> None:
        """Motion latents of what was generated, for clip 1 under ``single_online``."""
        self._generated_motion = self._place(motion)

    def _drop_epochs(self, before: int) -> None:
        """Drop conditioning that no step of this rank will see again."""
        earliest = min(self._next.values(), default=self.blocks)
        current = self.epoch_of(self.clip_of(earliest))
        for epoch in [e for e in self.epochs if e < min(before, current)]:
            del self.epochs[epoch]

    def go_on(self, blocks: Sequence[int], first: Tensor | None) -> None:
        """Continue another generation of the same video, before anything was computed here.

        Args:
            blocks: the next block of every step, not rising from step to step. Rings are restored
                apart, and latents that a step made and the next has not used by ``receive``.
            first: the final latent of block 0, needed once it is finished.
        """
        self.start = tuple(blocks)
        self._next = {step: blocks[step] for step in self.local_steps}
        if first is not None:
            self._generated_ref = self._place(first)[:, :1].to(self.dtype)

    def under_way(self) -> dict[int, int]:
        """Blocks that had begun and were not finished where this generation goes on: the step
        that each comes to next, the oldest first."""
        return {
            block: sum(reached > block for reached in self.start)
            for block in range(self.start[-1], self.start[0])
        }

    # Blocks

    def latent(self, block: int, step: int) -> Tensor:
        """The latent ``[16,3,h,w]`` at ``step`` of ``block``; drawn noise at step 0.

        Raises ``ValueError`` when it is not here: not yet arrived, or already moved on.
        """
        if step == self.steps and block in self._final:
            return self._final[block]
        if step == 0 and block not in self._flight and block >= self._next.get(0, 0):
            self._flight[block] = (0, self._noise(block))
        at, x = self._flight.get(block, (None, None))
        if at != step or x is None:
            raise ValueError(f"the latent of block {block} at step {step} is not on this rank")
        return x

    def receive(self, step: int, block: int, x: Tensor) -> None:
        """Take a latent at ``step`` from another rank; at step ``steps`` it is final."""
        self._put(step, block, x.to(self.dtype))

    def item(self, step: int, block: int, x: Tensor | None = None) -> BlockItem:
        """Work item of one step of one block.

        ``x`` takes the latent's place on a rank that computes inner layers alone: any tensor of
        its shape, as hidden states come from elsewhere. Blocks of a step come in order.

        Raises ``ValueError`` for one out of order, a step that is not this rank's, or a block
        whose clip has no conditioning yet.
        """
        if step not in self._next:
            raise ValueError(f"step {step} is not on this rank")
        if block != self._next[step]:
            raise ValueError(f"step {step} expects block {self._next[step]}, not {block}")
        epoch = self.epoch_of(self.clip_of(block))
        if epoch not in self.epochs:
            raise ValueError(f"clip {self.clip_of(block)} has no conditioning yet")
        return BlockItem(
            x=self.latent(block, step) if x is None else x,
            t=self.schedule.timesteps[step],
            audio=self._voice(block),
            f0=block * BLOCK_LATENTS,
            relative_dist=self.relative_dist(step, block),
            kv=self.rings[step],
            cond=self.epochs[epoch],
            mask=self._mask,
        )

    def apply(self, step: int, block: int, velocity: Tensor) -> Tensor:
        """One Euler step along the item's result. Returns the latent at ``step + 1``."""
        x = self.schedule.euler(self.latent(block, step), velocity, step)
        self._put(step + 1, block, x)
        self._move_on(step, block)
        return x

    def pass_on(self, step: int, block: int) -> None:
        """A step that ends on another rank has left this one: its latent here is of no use."""
        self._flight.pop(block, None)
        self._move_on(step, block)

    def _move_on(self, step: int, block: int) -> None:
        self._next[step] = block + 1
        if step == self.local_steps[-1]:
            self._voices.pop(block, None)
        self._drop_epochs(before=max(self.epochs, default=0))

    def finished(self, block: int) -> Tensor | None:
        """The final latent of a block, or None."""
        return self._final.get(block)

    def release(self, block: int) -> None:
        """Forget a block's latent, final or handed on to another rank."""
        self._final.pop(block, None)
        self._flight.pop(block, None)

    def relative_dist(self, step: int, block: int) -> int:
        """Distance of the reference at one step of one block: injected, fixed or drawn."""
        if self._inputs.relative_dist is not None:
            return int(self._inputs.relative_dist[block][step])
        if self.options.relative_dist is not None:
            return self.options.relative_dist
        clip, number = divmod(block, self.blocks_per_clip)
        return random.relative_dist(self.options.seed, clip, number, step)

    def run(self, walk: Walk) -> Iterator[tuple[int, Tensor]]:
        """Block by block, step by step: yields (block, final latent) with ``walk`` a DiT.

        Under ``single_online`` its user calls ``renew_motion`` before it asks for clip 1.
        """
        for block in range(self.blocks):
            clip = self.clip_of(block)
            if block == clip * self.blocks_per_clip and self.needs_prefill(clip):
                walk([self.prefill(clip)])
            for step in range(self.steps):
                velocity = walk([self.item(step, block)])[0]
                assert velocity is not None  # a block always has one
                self.apply(step, block, velocity)
            x = self._final[block]
            self.release(block)
            yield block, x

    def _put(self, step: int, block: int, x: Tensor) -> None:
        if step < self.steps:
            self._flight[block] = (step, x)
            return
        self._flight.pop(block, None)
        self._final[block] = x
        if block == 0:
            self._generated_ref = x[:, :1]

    def _noise(self, block: int) -> Tensor:
        clip, number = divmod(block, self.blocks_per_clip)
        shape = (self.cfg.in_dim, BLOCK_LATENTS, self._height, self._width)
        given = self._inputs.noise
        if given is not None:
            first = number * BLOCK_LATENTS
            return self._place(given[clip][:, first : first + BLOCK_LATENTS]).to(self.dtype)
        drawn = random.normals(shape, self.options.seed, "noise", clip, number, dtype=self.dtype)
        return self._place(drawn)

    def _voice(self, block: int) -> BlockAudio:
        if block not in self._voices:
            first = block * BLOCK_FRAMES
            self._voices[block] = BlockAudio(
                self._place(self._audio[..., first : first + BLOCK_FRAMES])
            )
        return self._voices[block]

    def _place(self, x: Tensor) -> Tensor:
        """On this rank's device; through pinned memory, so that the host need not wait."""
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.contiguous().pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

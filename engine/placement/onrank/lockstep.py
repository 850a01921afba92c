"""The executor for weights that come and go: all ranks walk all layers together, tick by tick.

Weights that are gathered from peers or copied from the host serve every item of a rank in one
walk over the layers: gather this rank's work items, walk, step, hand latents on to whoever needs
them next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.model.dit import Item
from engine.placement.onrank.clock import Clock
from engine.placement.onrank.groups import dit_ranks
from engine.placement.onrank.observe import Duty, Finished
from engine.placement.onrank.schedule import Tick, Timetable, Work
from engine.placement.onrank.wire import FINAL, LATENT, Label, Wire
from engine.placement.plan import Plan

#: Ticks whose latents may be on their way from one rank to another: then its slowness is felt.
_UNDER_WAY = 2


@dataclass(frozen=True)
class Transfer:
    """One latent at ``step`` of ``block`` from rank ``src`` to rank ``dst``."""

    step: int
    block: int
    src: int
    dst: int


class Lockstep:
    """One rank's part in one video.

    Raises (from ``run``):
        WireError, RuntimeError: a latent was lost, or its sender.
    """

    def __init__(self, duty: Duty) -> None:
        plan, rank, generation = duty.plan, duty.rank, duty.generation
        self.plan, self.rank, self.generation = plan, rank, generation
        self.network, self.stop, self.observer = duty.network, duty.stop, duty.observer
        self.groups = duty.groups
        self.timetable = Timetable(
            plan.order,
            generation.steps,
            generation.blocks_per_clip,
            generation.clips,
            start=generation.start,
            drain=plan.lead == "single",
        )
        self._owner = owners(plan)
        self._last = self._owner[-1]
        self._own_vae = plan.vae_rank not in dit_ranks(plan)
        self._latent = duty.latent
        self._clock = Clock(generation.device)
        self._wire = Wire(duty.groups, generation.dtype, generation.device, window=_UNDER_WAY)

    @property
    def clips(self) -> int:
        """Clips that will be made, as things stand (a stop lowers it)."""
        return self.timetable.clips

    def run(self) -> Iterator[Finished]:
        """Work until the video is done. Yields finished blocks in order on the VAE's rank."""
        if self._own_vae and self.rank == self.plan.vae_rank:
            yield from self._receive_all()
            return
        if self.rank not in self.groups.walkers:
            return  # more ranks than there is work, and no shards to hold
        while True:
            if self.groups.agree(int(self.stop())):
                self.timetable.stop_after_clip()
            tick = self.timetable.next()
            if tick is None:
                break
            made = self._walk(tick)
            yield from self._hand_on(tick, made)
        self._clock.settle()
        if self._own_vae and self.rank == self._last:
            self._wire.tell(self.plan.vae_rank, 0)
        self._wire.close()

    def _receive_all(self) -> Iterator[Finished]:
        steps, block = self.generation.steps, self.generation.start[-1]
        # A word goes before each block: 1, or 0 when none follows.
        while self._wire.hear(self._last):
            label = Label(FINAL, steps, block, 0)
            yield Finished(block, self._wire.receive(self._last, label, self._latent))
            block += 1
        self._wire.close()
        self.timetable.clips = block // self.generation.blocks_per_clip

    def _walk(self, tick: Tick) -> list[tuple[Work, Tensor]]:
        """This rank's items of the tick: through the layers once, then their Euler steps."""
        generation = self.generation
        mine = tuple(work for work in tick.items if self._owner[work.step] == self.rank)
        self._clock.begin()
        with self.observer.window(f"tick {tick.index}"):
            items = self._items(mine)
            self.observer.caches(generation)
            velocities = [v for v in self.network(items) if v is not None]
            self.observer.caches(generation)  # what was conditioned, before an epoch goes
            made = [
                generation.apply(work.step, work.block, velocity)
                for work, velocity in zip(mine, velocities, strict=True)
            ]
            self.observer.caches(generation)
        self._clock.end(lambda seconds: self.observer.tick_done(tick, mine, seconds))
        return list(zip(mine, made, strict=True))

    def _items(self, mine: Sequence[Work]) -> list[Item]:
        """Items of one walk; before a clip's first block the prefill that conditions it.

        Every layer conditions before it takes the block, so both go through in one walk.
        """
        generation = self.generation
        items: list[Item] = []
        for work in mine:
            clip = generation.clip_of(work.block)
            if generation.epoch_of(clip) not in generation.epochs:
                items.append(generation.prefill(clip))
            items.append(generation.item(work.step, work.block))
        return items

    def _hand_on(self, tick: Tick, made: Sequence[tuple[Work, Tensor]]) -> Iterator[Finished]:
        generation, steps = self.generation, self.generation.steps
        transfers = [t for work in tick.items for t in self._transfers(work)]
        sent = {
            (t.step, t.block): generation.latent(t.block, t.step)
            for t in transfers
            if t.src == self.rank != t.dst
        }
        for t in transfers:
            if t.src == self.rank != t.dst:
                self._wire.send(t.dst, _label(t), sent[t.step, t.block])
        for work, latent in made:  # what is mirrored of it is large: a peer need not wait for that
            self.observer.done(work.step, work.block, latent)
        for t in transfers:
            if t.dst == self.rank != t.src:
                latent = self._wire.receive(t.src, _label(t), self._latent)
                generation.receive(t.step, t.block, latent)
        for step, block in sent:
            if step < steps:
                generation.release(block)
        for work in tick.items:
            if work.step + 1 == steps:
                yield from self._finish(work.block)

    def _transfers(self, work: Work) -> list[Transfer]:
        """Where the latent that ``work`` makes is needed next, equal on every rank."""
        src, step = self._owner[work.step], work.step + 1
        if step < self.generation.steps:
            return [Transfer(step, work.block, src, self._owner[step])]
        wanted = set() if self._own_vae else {self.plan.vae_rank}
        if work.block == 0 and self.generation.clips > 1:
            wanted |= set(self._owner)  # the reference of clip 1
        return [Transfer(step, work.block, src, dst) for dst in sorted(wanted)]

    def _finish(self, block: int) -> Iterator[Finished]:
        """Give a finished block to whoever decodes it, and forget it here."""
        latent = self.generation.finished(block)
        if latent is None:
            return  # finished elsewhere, of no use here
        if self._own_vae and self.rank == self._last:
            self._wire.tell(self.plan.vae_rank, 1)
            label = Label(FINAL, self.generation.steps, block, 0)
            self._wire.send(self.plan.vae_rank, label, latent)
        self.generation.release(block)
        if self.rank == self.plan.vae_rank:
            yield Finished(block, latent)


def _label(transfer: Transfer) -> Label:
    return Label(LATENT, transfer.step, transfer.block, 0)


def owners(plan: Plan) -> list[int]:
    """Rank of every step, by the plan's stages, which hold whole steps."""
    found: dict[int, int] = {}
    for stage in plan.stages:
        for step in range(*stage.steps):
            found[step] = stage.rank
    return [found[step] for step in range(plan.sample_steps)]

"""The executor for weights that stay: every rank does its tasks as soon as their inputs are there.

It serves any cut of timesteps × layers: one stage, stages of steps (tpp), of layers (ring), or of
both. A block's latent and hidden states travel along the ``Route``; who does what when is the
``Flow``. Ranks that hold no latent of a block still embed it from a blank one: that gives them
modulation, rotations and audio, and the hidden states come from the rank before.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.model.config import BLOCK_LATENTS
from engine.model.dit import PrefillItem
from engine.model.layers import State
from engine.placement.onrank.clock import Clock
from engine.placement.onrank.flow import Flow, Task
from engine.placement.onrank.observe import Duty, Finished
from engine.placement.onrank.route import Part, Route
from engine.placement.onrank.schedule import Tick, Work
from engine.placement.onrank.wire import FINAL, HIDDEN, LATENT, REFERENCE, Label, Wire


class Pipeline:
    """One rank's part in one video.

    Raises (from ``run``):
        WireError, RuntimeError: a message was lost, or its sender.
    """

    def __init__(self, duty: Duty) -> None:
        plan, generation, frame = duty.plan, duty.generation, duty.frame
        self.rank, self.generation, self.network = duty.rank, generation, duty.network
        self.stop, self.observer = duty.stop, duty.observer
        self.route = Route.of(plan)
        epochs = {generation.epoch_of(clip) for clip in range(min(2, generation.clips))}
        self.flow = Flow(
            self.route,
            generation.blocks_per_clip,
            generation.clips,
            prefills=len(epochs),
            start=generation.start,
            drain=plan.lead == "single",
        )
        self.clips = generation.clips
        self._entry = self.route.parts[0].rank
        self._exit = self.route.parts[-1].rank
        width = generation.cfg.dim
        self._latent = duty.latent
        self._hidden = (BLOCK_LATENTS * generation.cfg.frame_tokens(*frame), width)
        self._conditions = (generation.cfg.condition_tokens(*frame), width)
        blank = (generation.cfg.in_dim, BLOCK_LATENTS, *frame)
        self._blank = torch.zeros(blank, dtype=generation.dtype, device=generation.device)
        # A video that goes on may bring more blocks than this route has under way itself.
        window = max(self.flow.window, generation.start[0] - generation.start[-1] + 1)
        self._wire = Wire(duty.groups, generation.dtype, generation.device, window=window)
        self._clock = Clock(generation.device)
        # The clip whose beginning was last agreed on.
        self._clip = max(0, generation.start[0] - 1) // generation.blocks_per_clip
        self._prefill: PrefillItem | None = None
        self._acknowledged = self.flow.finished
        self._ticks, self._entered = 0, generation.start[0]

    def run(self) -> Iterator[Finished]:
        """Work until the video is done. Yields finished blocks in order on the VAE's rank."""
        finals = self.flow.finished
        for task in self.flow:
            finals += task.kind == "final"
            if task.rank == self.rank and self._begun(task.block):
                if task.kind == "prefill":
                    self._condition(task)
                elif task.kind == "part":
                    self._advance(task)
                else:
                    yield self._finish(task.block)
            if finals >= self.clips * self.flow.per_clip:
                break
        self._clock.settle()
        self._settle()

    # -- what ranks agree on -------------------------------------------------------------------

    def _begun(self, block: int) -> bool:
        """Whether ``block`` will be made: at each clip's first, the entry's rank says so."""
        while self._clip < min(block // self.flow.per_clip, self.clips - 1):
            self._clip += 1
            if self.rank == self._entry:
                word = int(self.stop())
                for rank in self.route.everyone:
                    if rank != self.rank:
                        self._wire.tell(rank, word)
            else:
                word = self._wire.hear(self._entry)
            if word:
                self.clips = self._clip
        return block < self.clips * self.flow.per_clip

    def _await_room(self, block: int) -> None:
        """Before a block enters, one that entered ``window`` blocks ago must have left."""
        if self.rank == self.route.vae_rank:
            return
        while self._acknowledged <= block - self.flow.window:
            self._wire.hear(self.route.vae_rank)
            self._acknowledged += 1

    def _settle(self) -> None:
        """Take every word that was sent here, and see that ours have arrived."""
        if self.rank == self._entry != self.route.vae_rank:
            done = self.clips * self.flow.per_clip
            while self._acknowledged < min(done, self.flow.blocks - self.flow.window):
                self._wire.hear(self.route.vae_rank)
                self._acknowledged += 1
        held = self.rank in self.route.ranks and self.rank != self._exit
        if held and self.clips < 2 <= self.flow.prefills and not self.generation.prefill_ready(1):
            self._reference()  # of a clip that was stopped before it began
        self._wire.close()

    # -- tasks ---------------------------------------------------------------------------------

    def _condition(self, task: Task) -> None:
        """Prefill one run of this rank's layers."""
        generation, run = self.generation, self.route.runs[task.at]
        clip = task.block // self.flow.per_clip
        own = [n for n, other in enumerate(self.route.runs) if other.rank == self.rank]
        self._clock.begin()
        if task.at == own[0] and not generation.prefill_ready(clip):
            generation.receive(generation.steps, 0, self._reference())
            generation.release(0)
        with self.observer.window(f"conditioning clip {clip}"):
            if task.at == own[0]:
                self._prefill = generation.prefill(clip)
                self.observer.caches(generation)
            assert self._prefill is not None  # a rank's runs come in order
            states = self.network.embed([self._prefill])
            if run.source is not None:
                label = Label(HIDDEN, -1, task.block, run.layers[0])
                source = self.route.runs[run.source].rank
                states[0].x = self._wire.receive(source, label, self._conditions)
            for n in range(*run.layers):
                self._tap(task, n, states[0])
                self.network.run_layer(n, states)
            self._tap(task, run.layers[1], states[0])
            self.observer.caches(generation)
        if task.at == own[-1]:
            self._prefill = None
        self._tell(clip, ())

    def _reference(self) -> Tensor:
        """The final latent of block 0, from the rank that finished it."""
        label = Label(REFERENCE, self.generation.steps, 0, 0)
        return self._wire.receive(self._exit, label, self._latent)

    def _tap(self, task: Task, layer: int, state: State) -> None:
        """Send a prefill's hidden states to the runs that begin at ``layer``."""
        for at, rank in self.route.runs[task.at].taps:
            if at == layer:
                self._wire.send(rank, Label(HIDDEN, -1, task.block, layer), state.x)

    def _advance(self, task: Task) -> None:
        """Take a block through one part of its way."""
        generation, block = self.generation, task.block
        part = self.route.parts[task.at]
        step = part.step
        if task.at == 0:
            self._await_room(block)
            self._entered = block + 1
        holds = self.rank in self.route.latent_ranks(step)
        here = [n for n in self.route.of_step(step) if self.route.parts[n].rank == self.rank]
        if holds and step and task.at == here[0]:
            self._fetch(step, block)
        self._clock.begin()
        with self.observer.window(f"step {step} of block {block}"):
            item = generation.item(step, block, None if holds else self._blank)
            self.observer.caches(generation)
            states = self.network.embed([item])
            if part.layers[0]:
                before = self.route.parts[task.at - 1].rank
                label = Label(HIDDEN, step, block, part.layers[0])
                states[0].x = self._wire.receive(before, label, self._hidden)
                self._clock.begin()  # waiting is not work
            for n in range(*part.layers):
                self.network.run_layer(n, states)
            if done := part.layers[1] == self.route.layers:
                velocity = self.network.finish(states)[0]
                assert velocity is not None  # a block always has one
                latent = generation.apply(step, block, velocity)
                self._hand_on(part, block)
            else:
                after = self.route.parts[task.at + 1].rank
                label = Label(HIDDEN, step, block, part.layers[1])
                self._wire.send(after, label, states[0].x)
                if task.at == here[-1]:
                    generation.pass_on(step, block)
            self.observer.caches(generation)
        if task.at == here[-1]:
            self.observer.done(step, block, latent if done else None)
        self._tell(None, (Work(step, block),))

    def _fetch(self, step: int, block: int) -> None:
        """Get the latent at ``step`` from the rank that ended the step before."""
        source = self.route.last(step - 1).rank
        if source != self.rank and block >= self.generation.start[step - 1]:
            label = Label(LATENT, step, block, 0)
            self.generation.receive(step, block, self._wire.receive(source, label, self._latent))

    def _hand_on(self, part: Part, block: int) -> None:
        """Send a latent that has just taken its step to whoever needs it next."""
        generation, step = self.generation, part.step + 1
        latent = generation.latent(block, step)
        if step < generation.steps:
            wanted = self.route.latent_ranks(step)
            for rank in wanted:
                if rank != self.rank:
                    self._wire.send(rank, Label(LATENT, step, block, 0), latent)
            if self.rank not in wanted:
                generation.release(block)
            return
        if block == 0 and self.flow.prefills > 1:
            for rank in self.route.ranks:
                if rank != self.rank:
                    label = Label(REFERENCE, step, 0, 0)
                    self._wire.send(rank, label, latent)
        if self.route.vae_rank != self.rank:
            self._wire.send(self.route.vae_rank, Label(FINAL, step, block, 0), latent)
            generation.release(block)

    def _finish(self, block: int) -> Finished:
        """Take a finished block, on the VAE's rank."""
        generation = self.generation
        if self._exit == self.rank:
            latent = generation.latent(block, generation.steps)
            generation.release(block)
        else:
            label = Label(FINAL, generation.steps, block, 0)
            latent = self._wire.receive(self._exit, label, self._latent)
        if self.rank != self._entry and block + self.flow.window < self.flow.blocks:
            self._wire.tell(self._entry, block)
        return Finished(block, latent)

    def _tell(self, prefill: int | None, mine: tuple[Work, ...]) -> None:
        tick = Tick(self._ticks, prefill, mine, self._entered)
        self._ticks += 1
        self._clock.end(lambda seconds: self.observer.tick_done(tick, mine, seconds))

"""Weights that lie in host memory and come to the device layer by layer, ahead of their use.

A unit is a layer with the injector that follows it. A few slots on the device take turns: while
one unit computes, the next is copied by a stream of its own. Every walk goes through all layers
and serves all of a rank's items, so the copy of one walk hides behind the compute of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.checkpoint.onrank.load import Place
from engine.checkpoint.onrank.slab import allocate, carve, slab_bytes
from engine.model.dit import DiT, Item
from engine.model.layers import State
from engine.placement.onrank.groups import Groups
from engine.placement.onrank.hostweights import HostMemory, share
from engine.placement.onrank.unshards import Books, OnUnit


class Source(Protocol):
    """Where weights come from (``engine.checkpoint.onrank.load.DiTSource``)."""

    def fill(self, modules: nn.Module | list[nn.Module], device: torch.device | str) -> int: ...
    def missing(self, modules: nn.Module | list[nn.Module]) -> list[Place]: ...


@dataclass
class Unit:
    """What streams together: ``host`` is its slab ``[bytes]`` in the shared memory."""

    layer: int
    places: list[Place]
    bytes: int
    host: Tensor
    bound: Slot | None = None  # where its parameters point


@dataclass
class Slot:
    """A slab on the device, the unit it holds, and who must be waited for."""

    slab: Tensor
    unit: int | None = None
    ready: torch.cuda.Event | None = None  # its copy is done
    free: torch.cuda.Event | None = None  # the compute that used it is done
    # Parameters as views of this slab, per unit: made once.
    views: dict[int, list[nn.Parameter]] = field(default_factory=dict)


class Streamed:
    """The DiT with some layers streamed; called as the DiT is, by one rank.

    Args:
        units: in the order in which they are used, again and again.
        slots: on the device, 2 or more to copy ahead.
        books: told what the slots take.

    Raises ``ValueError`` for no slots.
    """

    def __init__(
        self,
        dit: DiT,
        units: Sequence[Unit],
        slots: int,
        device: torch.device,
        books: Books,
        *,
        pinned: bool,
    ) -> None:
        if slots < 1:
            raise ValueError(f"{slots} slots; streaming needs at least 1")
        self.dit, self.device, self.units = dit, device, list(units)
        self.copied_bytes = 0
        self._at = {unit.layer: n for n, unit in enumerate(self.units)}
        largest = max((unit.bytes for unit in self.units), default=0)
        count = min(slots, len(self.units))
        self._slots = [Slot(allocate(largest, device)) for _ in range(count)]
        books.add("streamed", count * largest)
        self._pinned = pinned
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            # The slots' memory may still be in use by what was freed before.
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._turn = 0  # the slot that is overwritten next
        if self.units:
            self._load(0)

    def __call__(self, items: Sequence[Item]) -> list[Tensor | None]:
        states = self.embed(items)
        for n in range(len(self.dit.blocks)):
            self.run_layer(n, states)
        return self.finish(states)

    def embed(self, items: Sequence[Item]) -> list[State]:
        return self.dit.embed(items)

    def finish(self, states: Sequence[State]) -> list[Tensor | None]:
        return self.dit.finish(states)

    def run_layer(self, n: int, states: Sequence[State]) -> None:
        """Layer ``n`` and its injector; the next unit is copied meanwhile."""
        at = self._at.get(n)
        if at is None:
            self.dit.run_layer(n, states)
            return
        slot = self._holding(at)
        if slot is None:
            slot = self._load(at)
        self._bind(slot, at)
        if self._pinned:
            self._ahead(at, slot)  # before the compute, so that both run at once
        if slot.ready is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.ready)
        self.dit.run_layer(n, states)
        if self._stream is not None:
            slot.free = torch.cuda.current_stream(self.device).record_event()
        if not self._pinned:
            self._ahead(at, slot)  # the host waits for each copy: let it hand out the compute first
        if len(self._slots) == 1 < len(self.units):
            self._load((at + 1) % len(self.units))

    def _ahead(self, at: int, slot: Slot) -> None:
        """Begin to copy the units that follow, never into the slot in use."""
        for ahead in range(1, len(self._slots)):
            following = (at + ahead) % len(self.units)
            if self._holding(following) is None:
                self._load(following, but=slot)

    def _holding(self, at: int) -> Slot | None:
        return next((slot for slot in self._slots if slot.unit == at), None)

    def _load(self, at: int, but: Slot | None = None) -> Slot:
        """Begin to copy a unit into the slot whose turn it is."""
        slot = self._slots[self._turn]
        if slot is but:
            self._turn = (self._turn + 1) % len(self._slots)
            slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % len(self._slots)
        unit = self.units[at]
        target = slot.slab[: unit.bytes]
        if self._stream is None:
            target.copy_(unit.host)
        else:
            if slot.free is not None:
                self._stream.wait_event(slot.free)
            with torch.cuda.stream(self._stream):
                target.copy_(unit.host, non_blocking=self._pinned)
            slot.ready = self._stream.record_event()
        slot.unit = at
        self.copied_bytes += unit.bytes
        return slot

    def _bind(self, slot: Slot, at: int) -> None:
        """Make a unit's parameters those that lie in ``slot``."""
        if self.units[at].bound is slot:
            return
        self.units[at].bound = slot
        places = self.units[at].places
        if at not in slot.views:
            views = carve({p.name: p.spec for p in places}, self.device, lambda *_: slot.slab)
            slot.views[at] = [nn.Parameter(views[p.name], requires_grad=False) for p in places]
        for place, parameter in zip(places, slot.views[at], strict=True):
            setattr(place.module, place.key, parameter)


def stream(
    dit: DiT,
    source: Source,
    groups: Groups,
    device: torch.device,
    books: Books,
    *,
    layers: Sequence[int],
    everyones: Sequence[int],
    slots: int,
    pinned: bool,
    on_unit: OnUnit | None = None,
) -> tuple[Streamed, HostMemory | None]:
    """Put layers of ``dit`` (on meta) into host memory, and make what streams them.

    Every rank of the job calls this; the first walker fills the memory through its device, so
    that the LoRA is merged where it is for resident weights, and at most one unit lies there. The
    others map it.

    Args:
        layers: that this rank streams.
        everyones: that any rank streams, equal on all.

    Raises:
        CheckpointError: the weights cannot be read.
        OSError: no host memory.
    """
    owner = groups.walkers[0]
    places = [(n, source.missing(modules_of(dit, n))) for n in everyones]
    sizes = [slab_bytes({p.name: p.spec for p in held}) for _, held in places]
    memory = share(groups, owner, sum(sizes), wanted=bool(layers))
    units: list[Unit] = []
    if memory is not None:
        if pinned:
            memory.pin(device)  # before it is filled: that copies faster too
        at = 0
        for (n, held), size in zip(places, sizes, strict=True):
            units.append(Unit(n, held, size, memory.bytes[at : at + size]))
            at += size
    if groups.rank == owner:
        for done, unit in enumerate(units):
            source.fill(modules_of(dit, unit.layer), device)
            _store(unit)
            if on_unit is not None:
                on_unit(f"layer {unit.layer} in host memory", done + 1, len(units))
    groups.barrier()
    is_pinned = memory is not None and memory.pinned
    own = [unit for unit in units if unit.layer in layers]
    return Streamed(dit, own, slots, device, books, pinned=is_pinned), memory


def modules_of(dit: DiT, layer: int) -> list[nn.Module]:
    """A layer, and the injector with its norm that follow it."""
    found: list[nn.Module] = [dit.blocks[layer]]
    if (k := dit.cfg.injector_of(layer)) is not None:
        injector = dit.audio_injector
        found += [injector.injector_adain_layers[k], injector.injector[k]]
    return found


def _store(unit: Unit) -> None:
    """Move a unit that was just filled to its place in host memory; on the device it goes."""
    views = carve({p.name: p.spec for p in unit.places}, unit.host.device, lambda *_: unit.host)
    for place in unit.places:
        views[place.name].copy_(getattr(place.module, place.key))
        empty = torch.empty(place.spec.shape, dtype=place.spec.dtype, device="meta")
        setattr(place.module, place.key, nn.Parameter(empty, requires_grad=False))

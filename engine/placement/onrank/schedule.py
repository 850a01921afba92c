"""In which order steps of blocks are computed: ticks of work, as data.

One tick is one walk over the layers on every rank. Which rank computes an item follows from its
step alone. A rank conditions a clip in the walk in which the clip's first block reaches it, layer
by layer just ahead of that block: so no rank holds an epoch before it needs it, and a video that
is stopped has conditioned no clip in vain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Order = Literal["sequential", "diagonal"]


@dataclass(frozen=True)
class Work:
    """One step of one block (blocks count through the video)."""

    step: int
    block: int


@dataclass(frozen=True)
class Tick:
    """What happens in one walk over the layers, on all ranks together.

    ``prefill`` is a clip with conditioning of its own that enters, or None. Items are in order of
    their step, so blocks in it fall. ``entered`` counts blocks that have begun, this tick included.
    """

    index: int
    prefill: int | None
    items: tuple[Work, ...]
    entered: int


@dataclass
class Timetable:
    """The ticks of one video. It may be told to end after the clip in progress.

    ``sequential`` holds one item per tick, block by block. ``diagonal`` lets a block enter on each
    tick, so that as many blocks are in flight as there are steps. In both, clip 1 enters only
    when block 0 is finished, as it is conditioned on it; with ``drain`` when all of clip 0 is. A
    video that goes on begins with ``start``, the next block of every step.

    Raises ``ValueError`` for counts under 1.
    """

    order: Order
    steps: int
    blocks_per_clip: int
    clips: int
    start: tuple[int, ...] = ()
    drain: bool = False
    _index: int = 0
    _entered: int = 0
    _finished: int = 0
    _flight: dict[int, int] = field(default_factory=dict)  # block → its next step

    def __post_init__(self) -> None:
        for name in ("steps", "blocks_per_clip", "clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.start:
            self._entered, self._finished = self.start[0], self.start[-1]
            for block in range(self._finished, self._entered):
                self._flight[block] = sum(reached > block for reached in self.start)

    @property
    def blocks(self) -> int:
        """Blocks that will be made, as things stand."""
        return self.clips * self.blocks_per_clip

    @property
    def done(self) -> bool:
        return self._finished >= self.blocks

    def stop_after_clip(self) -> int:
        """Let no clip enter after the one whose block entered last. Returns the clips that remain.

        Before any block has entered, the first clip is still made.
        """
        current = -(-max(1, self._entered) // self.blocks_per_clip)
        self.clips = min(self.clips, current)
        return self.clips

    def next(self) -> Tick | None:
        """The next tick, or None when every block is finished."""
        if self.done:
            return None
        prefill = self._enter()
        oldest: dict[int, int] = {}  # a video that goes on may bring two blocks to one step
        for block, step in sorted(self._flight.items()):
            oldest.setdefault(step, block)
        items = tuple(Work(step, block) for step, block in sorted(oldest.items()))
        for work in items:
            if work.step + 1 < self.steps:
                self._flight[work.block] = work.step + 1
            else:
                del self._flight[work.block]
                self._finished += 1
        tick = Tick(self._index, prefill, items, self._entered)
        self._index += 1
        return tick

    def _enter(self) -> int | None:
        """Begin the next block, if it may begin on this tick; the clip it conditions."""
        block = self._entered
        if block >= self.blocks or (self.order == "sequential" and self._flight):
            return None
        clip, number = divmod(block, self.blocks_per_clip)
        if clip and self._finished < (self.blocks_per_clip if self.drain else 1):
            return None
        self._flight[block] = 0
        self._entered += 1
        return clip if number == 0 and clip < 2 else None

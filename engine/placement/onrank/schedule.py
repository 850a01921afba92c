"""In which order steps of blocks are computed: ticks of work, as data.

One tick is one walk over the layers on every rank. A prefill item conditions a clip; the blocks
of that clip enter from the next tick on. Which rank computes an item follows from its step alone.
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

    ``prefill`` is a clip whose conditioning is made (by every rank that has steps), or None.
    Items are in order of their step, so blocks in it fall. ``entered`` counts blocks that have
    begun, this tick included.
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
    after its prefill, and that waits until block 0 is finished.

    Raises ``ValueError`` for counts under 1.
    """

    order: Order
    steps: int
    blocks_per_clip: int
    clips: int
    _index: int = 0
    _entered: int = 0
    _finished: int = 0
    _prefilled: int = 0  # clips whose prefill was given out (only 0 and 1 have one)
    _flight: dict[int, int] = field(default_factory=dict)  # block → its next step

    def __post_init__(self) -> None:
        for name in ("steps", "blocks_per_clip", "clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")

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
        prefill = self._due_prefill()
        self._enter(prefill)
        items = tuple(
            Work(step, block)
            for block, step in sorted(self._flight.items(), key=lambda item: item[1])
        )
        for work in items:
            if work.step + 1 < self.steps:
                self._flight[work.block] = work.step + 1
            else:
                del self._flight[work.block]
                self._finished += 1
        tick = Tick(self._index, prefill, items, self._entered)
        self._index += 1
        return tick

    def _due_prefill(self) -> int | None:
        if self._prefilled == 0:
            clip = 0
        elif self._prefilled == 1 and self.clips > 1 and self._finished > 0:
            # A sequence gains nothing by conditioning early, and one epoch of memory by waiting.
            if self.order == "sequential" and self._finished < self.blocks_per_clip:
                return None
            clip = 1
        else:
            return None
        self._prefilled += 1
        return clip

    def _enter(self, prefill: int | None) -> None:
        """Begin the next block, if it may begin on this tick."""
        block = self._entered
        if block >= self.blocks:
            return
        if self.order == "sequential" and (self._flight or prefill is not None):
            return
        clip = min(block // self.blocks_per_clip, 1)
        ready = self._prefilled - (prefill is not None)  # prefills of ticks before this one
        if clip >= ready:
            return
        self._flight[block] = 0
        self._entered += 1

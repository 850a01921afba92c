"""The order in which all ranks of a pipeline do their work: made ahead of time, equal on each.

Ranks do not tell each other what comes next. Every rank plays the same small simulation (each
part takes as long as it has layers, each rank does its oldest block first) and does its own tasks
in the order that comes out. As that is one order for all, and every task needs only tasks before
it, no rank waits in a circle, however fast or slow each is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.placement.onrank.route import Route

#: Blocks that may be under way beyond one for every rank: work to take up at once.
_AHEAD: Final = 1


@dataclass(frozen=True)
class Task:
    """One thing that one rank does.

    ``prefill``: condition a run of layers for a clip; ``at`` is the run's index and ``block`` the
    clip's first. ``part``: ``at`` is the part's index. ``final``: take the finished block (VAE).
    """

    rank: int
    kind: Literal["prefill", "part", "final"]
    block: int
    at: int


class Flow:
    """All tasks of one video, in order.

    Args:
        prefills: clips that are conditioned: the first, and the second if it differs.
        start: the next block of every step, in a video that goes on.
        drain: condition the second clip when the first has left, not when its block 0 has.
    """

    def __init__(
        self,
        route: Route,
        blocks_per_clip: int,
        clips: int,
        *,
        prefills: int,
        start: Sequence[int] = (),
        drain: bool = False,
    ) -> None:
        self.route = route
        self.per_clip, self.clips = blocks_per_clip, clips
        self.prefills = min(prefills, clips)
        self._drain = drain
        self.window = len(route.everyone) + _AHEAD
        self._progress: dict[int, int] = {}  # block under way → the part it comes to next
        self._entered = self._finals = 0
        self._conditioned: set[tuple[int, int]] = set()  # (clip, run)
        self._running: set[Task] = set()
        # A rank that has a step twice takes its blocks one after another.
        self._leaves = {(p.step, p.rank): at for at, p in enumerate(route.parts)}
        self.finished = 0  # blocks that are final before any task
        if start:
            self._go_on(start)

    @property
    def blocks(self) -> int:
        return self.clips * self.per_clip

    def _go_on(self, start: Sequence[int]) -> None:
        self.finished = self._finals = start[-1]
        self._entered = start[0]
        for block in range(start[-1], start[0]):
            step = sum(reached > block for reached in start)
            self._progress[block] = self.route.of_step(step).start
        if self.prefills > 1 and start[-1] >= self.per_clip:
            # No block to come sees the portrait's conditioning.
            self._conditioned |= {(0, run) for run in range(len(self.route.runs))}

    def __iter__(self) -> Iterator[Task]:
        clock = 0
        busy: dict[int, tuple[int, Task]] = {}  # rank → when it is done with what
        while self._finals < self.blocks or busy:
            for rank in self.route.everyone:
                if rank not in busy and (task := self._choose(rank)) is not None:
                    busy[rank] = clock + self._cost(task), task
                    self._running.add(task)
                    yield task
            clock = min(when for when, _ in busy.values())
            for rank, (when, task) in list(busy.items()):
                if when == clock:
                    del busy[rank]
                    self._running.remove(task)
                    self._complete(task)

    def _cost(self, task: Task) -> int:
        if task.kind == "final":
            # Decoding a block takes about half a step. Only the order depends on this figure.
            return max(1, self.route.layers // 2)
        span = self.route.parts[task.at] if task.kind == "part" else self.route.runs[task.at]
        return span.layers[1] - span.layers[0]

    def _complete(self, task: Task) -> None:
        if task.kind == "prefill":
            self._conditioned.add((task.block // self.per_clip, task.at))
        elif task.kind == "part":
            self._progress[task.block] += 1
        else:
            del self._progress[task.block]
            self._finals += 1

    def _choose(self, rank: int) -> Task | None:
        """The task of the oldest block that this rank can do now."""
        able = [task for task in self._candidates(rank) if task not in self._running]
        order = {"final": 0, "prefill": 1, "part": 2}
        chosen = min(able, key=lambda t: (t.block, order[t.kind], t.at), default=None)
        if chosen is not None and chosen.kind == "part" and chosen.block == self._entered:
            self._progress[chosen.block] = 0
            self._entered += 1
        return chosen

    def _candidates(self, rank: int) -> Iterator[Task]:
        parts = self.route.parts
        if rank == self.route.vae_rank and self._done(self._finals):
            yield Task(rank, "final", self._finals, 0)
        for block, at in self._progress.items():
            if at < len(parts) and parts[at].rank == rank and self._can_enter(block, at):
                yield Task(rank, "part", block, at)
        block = self._entered
        room = block < min(self.blocks, self._finals + self.window)
        if room and parts[0].rank == rank and self._can_enter(block, 0):
            yield Task(rank, "part", block, 0)
        for clip in range(self.prefills):
            for at, run in enumerate(self.route.runs):
                if run.rank == rank and self._can_condition(clip, at):
                    yield Task(rank, "prefill", clip * self.per_clip, at)

    def _done(self, block: int) -> bool:
        return self._progress.get(block) == len(self.route.parts)

    def _can_enter(self, block: int, at: int) -> bool:
        part = self.route.parts[at]
        before = self._progress.get(block - 1)
        if before is not None and before <= self._leaves[part.step, part.rank]:
            return False
        clip = min(block // self.per_clip, self.prefills - 1)
        return all(
            (clip, n) in self._conditioned
            for n, run in enumerate(self.route.runs)
            if run.rank == part.rank
        )

    def _left(self, clip: int) -> bool:
        """Whether of the clips before ``clip`` all is finished that it waits for."""
        needed = clip * self.per_clip if self._drain else 1
        done = self._finals
        while self._done(done):
            done += 1
        return done >= needed

    def _can_condition(self, clip: int, at: int) -> bool:
        run = self.route.runs[at]
        if (clip, at) in self._conditioned:
            return False
        before = [n for n, other in enumerate(self.route.runs[:at]) if other.rank == run.rank]
        if any((clip, n) not in self._conditioned for n in before):
            return False  # a rank's runs come in order
        # Not before the clip is due: one that is stopped before is not conditioned in vain.
        if clip and (self._entered < clip * self.per_clip or not self._left(clip)):
            return False
        return run.source is None or (clip, run.source) in self._conditioned

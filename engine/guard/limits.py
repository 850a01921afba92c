"""The two limits on a job, both on by default, and the silence that makes a rank stuck.

* no block for longer than max(120 s, 20 × the predicted block);
* wall clock: 7,200 s for external commands, max(7,200 s, 3 × the prediction) for our own jobs,
  because the longest preset takes hours by plan.

Pure: the clock is injected, nothing is ended here. A decision names the limit and the figures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from engine.sentence import sentence

#: Among a job's own variables: how many times as long it may stand still (``of_job``).
PATIENCE: Final = "AVATOP_PATIENCE"
_MOST_PATIENCE: Final = 100.0
NONE: Final = "none"
END: Final = "end"


@dataclass(frozen=True)
class Limits:
    """Seconds and factors. A limit of None is off."""

    block_floor: float | None = 120.0
    block_factor: float = 20.0
    wall_floor: float | None = 7200.0
    wall_factor: float = 3.0
    #: A rank whose heartbeats (two a second) stop for so long is stuck.
    silence: float | None = 60.0

    def of_job(self, environment: Mapping[str, str]) -> Limits:
        """The limits of one job: blocks and heartbeats may take ``AVATOP_PATIENCE`` times as
        long (1 to 100; anything else changes nothing), the whole job may not."""
        try:
            factor = float(environment.get(PATIENCE, "1"))
        except ValueError:
            return self
        if not 1.0 < factor <= _MOST_PATIENCE:
            return self
        return dataclasses.replace(
            self,
            block_floor=None if self.block_floor is None else factor * self.block_floor,
            block_factor=factor * self.block_factor,
            silence=None if self.silence is None else factor * self.silence,
        )

    def block(self, predicted: float | None) -> float | None:
        """Seconds allowed without a block. ``predicted``: seconds per block, None if unknown."""
        if self.block_floor is None:
            return None
        return max(self.block_floor, self.block_factor * (predicted or 0.0))

    def wall(self, predicted: float | None, *, external: bool) -> float | None:
        """Seconds allowed in all. ``predicted``: seconds of the whole job, None if unknown."""
        if self.wall_floor is None:
            return None
        if external:
            return self.wall_floor
        return max(self.wall_floor, self.wall_factor * (predicted or 0.0))


@dataclass(frozen=True)
class Decision:
    """What to do now, and why."""

    action: str  # NONE | END
    limit: str | None = None  # "block" | "wall"
    elapsed: float | None = None
    allowed: float | None = None
    reason: str = ""


class Watch:
    """Watches one job by its progress; pauses count for neither limit.

    Args:
        predicted_block: seconds per block by the plan.
        predicted_total: seconds of the whole job by the plan.
        external: another program's command, not a job of this engine.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        predicted_block: float | None = None,
        predicted_total: float | None = None,
        external: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or Limits()
        self._block = self._limits.block(predicted_block)
        self._wall = self._limits.wall(predicted_total, external=external)
        self._clock = clock
        self._started = clock()
        self._progress: float | None = None  # since when a block is due
        self._blocks = 0
        self._paused: float | None = None

    def running(self) -> None:
        """Loading is over: blocks are due from now on. A second call does nothing."""
        if self._progress is None:
            self._progress = self._now()

    def block(self) -> None:
        """A block is done."""
        self._blocks += 1
        self._progress = self._now()

    def decoding(self) -> None:
        """The last block is done: none is due any more, the wall clock goes on."""
        self._progress = None

    def pause(self) -> None:
        if self._paused is None:
            self._paused = self._clock()

    def resume(self) -> None:
        if self._paused is not None:
            gap = self._clock() - self._paused
            self._paused = None
            self._started += gap
            if self._progress is not None:
                self._progress += gap

    def decide(self) -> Decision:
        """Whether the job has to be ended now."""
        now = self._now()
        if self._progress is not None and self._block is not None:
            since = now - self._progress
            if since > self._block:
                after = (
                    sentence("block {number}", number=self._blocks)
                    if self._blocks
                    else sentence("loading")
                )
                text = sentence(
                    "no block for {since:.0f} s after {after}; {block:.0f} s are allowed",
                    since=since,
                    after=after,
                    block=self._block,
                )
                return Decision(END, "block", since, self._block, text)
        total = now - self._started
        if self._wall is not None and total > self._wall:
            text = sentence(
                "it has taken {total:.0f} s; {wall:.0f} s are allowed in all",
                total=total,
                wall=self._wall,
            )
            return Decision(END, "wall", total, self._wall, text)
        return Decision(NONE)

    def due_in(self) -> float | None:
        """Seconds until the next limit is reached; None while paused or without limits."""
        if self._paused is not None:
            return None
        now, left = self._now(), []
        if self._progress is not None and self._block is not None:
            left.append(self._progress + self._block - now)
        if self._wall is not None:
            left.append(self._started + self._wall - now)
        return max(0.0, min(left)) if left else None

    def _now(self) -> float:
        return self._clock() if self._paused is None else self._paused


def silent_ranks(silence: Mapping[int, float], limits: Limits | None = None) -> dict[int, str]:
    """Rank → why it is stuck, of those whose heartbeats stopped, the longest silent first.

    Args:
        silence: rank → seconds since it was last heard of (``RankGroup.silence``).
    """
    allowed = (limits or Limits()).silence
    if allowed is None:
        return {}
    late = sorted(((s, rank) for rank, s in silence.items() if s > allowed), reverse=True)
    return {
        rank: sentence(
            "rank {rank} has not been heard of for {seconds:.0f} s ({allowed:.0f} s are allowed)",
            rank=rank,
            seconds=seconds,
            allowed=allowed,
        )
        for seconds, rank in late
    }

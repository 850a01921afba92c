"""What a group tells of its ranks: captured lines, how each ended, how the whole ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from engine.ranks.protocol import Report
from engine.sentence import sentence

_SIGNALS: Final = {int(s) for s in signal.Signals}


@dataclass(frozen=True)
class RankLog:
    """One captured line of a rank."""

    rank: int
    stream: str  # "stdout" | "stderr", or "channel" for a malformed report
    t: float  # Unix seconds
    text: str


@dataclass(frozen=True)
class RankExit:
    """How one rank ended. Code and signal are None where nobody could see them."""

    rank: int
    pid: int
    code: int | None
    signal: int | None
    t: float
    finished: bool  # the job returned on this rank
    before_signal: bool  # it ended before the group was signalled: of itself, not as a victim
    because: str | None = None  # why the group was asked to end, if this rank ended by that

    @property
    def good(self) -> bool:
        """Its part of the job was done."""
        return self.finished and self.code == 0

    def describe(self) -> str:
        """In words, for a log line."""
        if self.signal is not None:
            if self.signal == signal.SIGKILL:
                return sentence(
                    "was killed by {name} (an operator, or the kernel when memory ran out)",
                    name="SIGKILL",
                )
            name = signal.Signals(self.signal).name if self.signal in _SIGNALS else "a signal"
            return sentence("was killed by {name}", name=name)
        if self.code is None:
            return sentence("ended, its exit status unknown")
        if self.code == 0 and not self.finished:
            return sentence("left with exit code 0 before its job was finished")
        return sentence("exited with code {code}", code=self.code)


@dataclass(frozen=True)
class GroupResult:
    """How a group ended."""

    reason: str
    ok: bool  # every rank's job returned
    stopped: bool  # ended on request
    root: int | None  # the rank that failed first; the others are its victims
    failed: Report | None  # the root's ``failed`` report, if it could send one
    exits: tuple[RankExit, ...]
    leftover: tuple[int, ...]  # PIDs that even SIGKILL did not end in time (state D)

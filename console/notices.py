"""What the console says: one sentence at a time in the footer, all of them in a history."""

from __future__ import annotations

from collections import deque
from typing import Final

from engine.plain import Plain, late_dataclass

KEPT: Final = 500
SECONDS: Final = 6.0  # how long a sentence stays in the footer


@late_dataclass(frozen=True)
class Notice(Plain):
    """One sentence.

    Args:
        t: the person's own clock. role: colour role, by which it is told apart (``state.act`` is an
            error).
        shown: the recorded moment that was on the screen; None: the present.
    """

    t: float
    text: str
    role: str = "text"
    shown: float | None = None


class Notices:
    """The newest sentence while it is fresh, and the history."""

    def __init__(self) -> None:
        self.said: deque[Notice] = deque(maxlen=KEPT)  # oldest first
        self.current: Notice | None = None
        self._until = 0.0

    def say(self, notice: Notice, now: float) -> None:
        """Show a sentence from ``now`` on (monotonic seconds)."""
        self.said.append(notice)
        self.current = notice
        self._until = now + SECONDS

    def expire(self, now: float) -> bool:
        """Take an old sentence away; whether one was."""
        if self.current is None or now <= self._until:
            return False
        self.current = None
        return True

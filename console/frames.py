"""When the next picture is drawn.

What an engine tells of its work comes forty times a second from four GPUs; drawn as it comes it
takes 6 % of a processor and 27 KB a second over the line, for figures that nobody reads so fast.
So streams wait for ``CALM``, and what happens seldom for ``FRAME`` at most.
"""

from __future__ import annotations

from typing import Final

FRAME: Final = 0.1  # seconds between pictures at most
CALM: Final = 0.5  # the same where only streams of figures and lines arrived


class Frames:
    """Of one screen; times in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.last = 0.0  # when one was drawn
        self._due: float | None = None

    def wait(self, pressing: bool, now: float) -> float | None:
        """Seconds until the picture that has to be asked for; None: an earlier one is on its way.

        Args:
            pressing: something arrived that does not come in a stream.
        """
        due = max(self.last + (FRAME if pressing else CALM), now)
        if self._due is not None and self._due <= due:
            return None
        self._due = due
        return due - now

    def due(self, now: float) -> bool:
        """Whether the picture that was asked for is still to be drawn."""
        return self._due is not None and self._due <= now + FRAME / 10

    def drawn(self, now: float) -> None:
        self.last, self._due = now, None

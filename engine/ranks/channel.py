"""Bytes from a rank, cut into lines in bounded memory: its channel and its captured output.

What a rank prints is untrusted: it may lack newlines, hold no valid UTF-8, or never end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

#: Longest line kept of captured output; the rest of a longer one is counted and told.
LOG_LINE_LIMIT: Final = 16 << 10
#: Longest message on the channel (previews are the largest, some tens of KiB).
CHANNEL_LINE_LIMIT: Final = 4 << 20
#: Captured lines per second and stream; more are counted and told.
LOG_RATE: Final = 2000
#: Seconds after which an unfinished line of output is shown as it is.
PARTIAL_SECONDS: Final = 0.5


class LineSplitter:
    """Cut a byte stream into lines, keeping at most ``limit`` bytes of each.

    Args:
        limit: bytes kept of one line.
        carriage_returns: let ``\\r`` end a line too (progress bars).
    """

    def __init__(self, limit: int, *, carriage_returns: bool = False) -> None:
        self._limit = limit
        self._returns = carriage_returns
        self._held = bytearray()
        self._cut = 0

    @property
    def pending(self) -> bool:
        """An unfinished line is held."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[tuple[bytes, int]]:
        """Finished lines in order, each with the number of bytes that were cut from its end."""
        if self._returns:
            data = data.replace(b"\r", b"\n")
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._take(piece)
            lines.append((bytes(self._held), self._cut))
            self._held.clear()
            self._cut = 0
        self._take(rest)
        return lines

    def flush(self) -> list[tuple[bytes, int]]:
        """The unfinished line, if any, as if it had ended."""
        return self.feed(b"\n") if self._held or self._cut else []

    def _take(self, piece: bytes) -> None:
        room = self._limit - len(self._held)
        self._held += piece[:room]
        self._cut += max(0, len(piece) - room)


class ChannelProtocol(asyncio.Protocol):
    """The engine's end of a rank's channel: whole lines to ``on_line``, the end to ``on_end``."""

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_overlong: Callable[[int], None],
        on_end: Callable[[], None],
    ) -> None:
        self._on_line = on_line
        self._on_overlong = on_overlong
        self._on_end = on_end
        self._lines = LineSplitter(CHANNEL_LINE_LIMIT)

    def data_received(self, data: bytes) -> None:
        for line, cut in self._lines.feed(data):
            if cut:
                self._on_overlong(len(line) + cut)
            elif line:
                self._on_line(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._on_end()


class OutputProtocol(asyncio.Protocol):
    """One captured stream of a rank: text lines to ``on_text``, the end to ``on_end``."""

    def __init__(self, on_text: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._on_text = on_text
        self._on_end = on_end
        self._lines = LineSplitter(LOG_LINE_LIMIT, carriage_returns=True)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0.0
        self._count = 0
        self._left_out = 0

    def data_received(self, data: bytes) -> None:
        self._show(self._lines.feed(data))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines.pending or self._left_out:
            self._timer = self._loop.call_later(PARTIAL_SECONDS, self._idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self._timer is not None:
            self._timer.cancel()
        self._idle()
        self._on_end()

    def _idle(self) -> None:
        self._timer = None
        self._show(self._lines.flush())
        self._tell_left_out()

    def _show(self, lines: list[tuple[bytes, int]]) -> None:
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._tell_left_out()
            self._second, self._count = now, 0
        for raw, cut in lines:
            text = raw.decode("utf-8", errors="backslashreplace").rstrip()
            if not text:
                continue
            self._count += 1
            if self._count > LOG_RATE:
                self._left_out += 1
                continue
            self._on_text(f"{text} … [{cut} more bytes]" if cut else text)

    def _tell_left_out(self) -> None:
        if self._left_out:
            self._on_text(f"… [{self._left_out} lines left out: more than {LOG_RATE} a second]")
            self._left_out = 0

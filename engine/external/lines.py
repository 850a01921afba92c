"""Bytes of a program's output into lines: progress bars, endless lines, any encoding."""

from __future__ import annotations

from typing import Final

#: Characters of a line that are kept; what follows is counted and said.
LONGEST: Final = 8192


class Lines:
    """Splits at newlines and carriage returns; a line rewritten by ``\\r`` counts as one of many.

    ``feed`` returns (text, passing) pairs: ``passing`` is a state of a progress bar that the next
    one will overwrite.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._cut = 0

    def feed(self, data: bytes) -> list[tuple[str, bool]]:
        """Take bytes as they come; returns what became whole."""
        found: list[tuple[str, bool]] = []
        for byte_line in data.replace(b"\r\n", b"\n").splitlines(keepends=True):
            ended = byte_line.endswith((b"\n", b"\r"))
            self._add(byte_line.rstrip(b"\r\n"))
            if ended:
                found += self._take(byte_line.endswith(b"\r"))
        return found

    def close(self) -> list[tuple[str, bool]]:
        """What the program left without an end of line."""
        return self._take(False)

    def _add(self, data: bytes) -> None:
        room = LONGEST * 4 - len(self._rest)
        self._rest += data[:room]
        self._cut += max(0, len(data) - room)

    def _take(self, passing: bool) -> list[tuple[str, bool]]:
        if not self._rest and not self._cut:
            return []
        text = self._rest.decode("utf-8", errors="replace")
        cut = self._cut + max(0, len(text) - LONGEST)
        self._rest, self._cut = bytearray(), 0
        if cut:
            text = f"{text[:LONGEST]} … ({cut:,} more)"
        return [(text, passing)]

"""Fewer bytes for the same picture: colours are set where they change, not for every piece.

Textual's compositor wraps every piece of text in its own full style and a reset. Within one frame
most neighbours share the ground, often the ink too; over a slow line half of a frame is that.
"""

from __future__ import annotations

import re
from typing import Final

from rich.console import Console
from textual._compositor import ChopsUpdate

_SGR: Final = re.compile(r"\x1b\[([0-9;]*)m")
_PLAIN: Final = frozenset({"", "1", "2"})  # flags that do not show on a blank
_RESET: Final = ("", "", "")  # flags, foreground, background


class Spans(ChopsUpdate):
    """A partial update that sends the changed spans of a row and nothing left of them."""

    def render_segments(self, console: Console) -> str:
        out: list[str] = []
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, first), min(end, last)
                if strip is None or start >= stop:
                    continue
                if (start, stop) != (x, end):
                    strip = strip.crop(start - x, stop - x)
                out.append(f"\x1b[{y + 1};{start + 1}H{strip.render(console)}")
        return "".join(out)


def slim(frame: str) -> str:
    """``frame`` with redundant SGR sequences left out; it ends with all attributes off."""
    parts = _SGR.split(frame)
    if len(parts) < 5:
        return frame
    out = [parts[0]]
    present = wanted = _RESET
    for n in range(1, len(parts), 2):
        codes, text = parts[n], parts[n + 1]
        wanted = _RESET if codes in ("", "0") else _read(codes, wanted)
        if not text or (text.startswith("\x1b") and text.isascii() and _only_moves(text)):
            out.append(text)
            continue
        if (
            text.strip(" ") == ""
            and wanted[2] == present[2]
            and wanted[0] in _PLAIN
            and (present[0] in _PLAIN)
        ):
            out.append(text)  # blanks show no ink
            continue
        if wanted != present:
            out.append(_change(present, wanted))
            present = wanted
        out.append(text)
    if present != _RESET:
        out.append("\x1b[0m")
    return "".join(out)


_MOVES: Final = re.compile(r"(?:\x1b\[[0-9;?]*[A-Za-ln-z]|\n)*")


def _only_moves(text: str) -> bool:
    return _MOVES.fullmatch(text) is not None


def _read(codes: str, before: tuple[str, str, str]) -> tuple[str, str, str]:
    """The attributes after an SGR sequence, as codes."""
    flags, ink, ground = before
    items = codes.split(";")
    n = 0
    while n < len(items):
        code = items[n]
        if code in ("38", "48"):
            size = 5 if n + 1 < len(items) and items[n + 1] == "2" else 3
            colour = ";".join(items[n : n + size])
            if code == "38":
                ink = colour
            else:
                ground = colour
            n += size
            continue
        if code in ("0", ""):
            flags, ink, ground = _RESET
        elif (len(code) == 2 and code[0] == "3") or (len(code) == 2 and code[0] == "9"):
            ink = "" if code == "39" else code
        elif (len(code) == 2 and code[0] == "4") or (len(code) == 3 and code[:2] == "10"):
            ground = "" if code == "49" else code
        else:
            flags = f"{flags};{code}" if flags else code
        n += 1
    return flags, ink, ground


def _change(present: tuple[str, str, str], wanted: tuple[str, str, str]) -> str:
    """The shortest sequence from one set of attributes to another."""
    if wanted == _RESET:
        return "\x1b[0m"
    if present[0] != wanted[0]:
        codes = [part for part in wanted if part]
        return f"\x1b[0;{';'.join(codes)}m"
    codes = []
    if present[1] != wanted[1]:
        codes.append(wanted[1] or "39")
    if present[2] != wanted[2]:
        codes.append(wanted[2] or "49")
    return f"\x1b[{';'.join(codes)}m"

"""Resolution by the length of the sound (B5): long sound, large frame, as the articles have it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from engine.sentence import sentence

#: Under 30 s, under 120 s, else.
DEFAULT_TABLE: Final = "30=384*256,120=688*368,else=704*384"

_SIZE: Final = re.compile(r"(\d{2,5})[*x×](\d{2,5})")


class SizeTableError(ValueError):
    """A table that cannot be read; says how one is written."""


@dataclass(frozen=True)
class SizeTable:
    """``rows`` are (seconds, size): the size of what is shorter; ``other`` of all the rest."""

    rows: tuple[tuple[float, str], ...]
    other: str

    def size(self, seconds: float) -> str:
        """The size for a sound of this length."""
        return next((size for limit, size in self.rows if seconds < limit), self.other)

    @property
    def text(self) -> str:
        """As ``parse_sizes`` reads it."""
        return ",".join([*(f"{limit:g}={size}" for limit, size in self.rows), f"else={self.other}"])


def parse_sizes(text: str) -> SizeTable:
    """``30=384*256,120=688*368,else=704*384`` → a table; limits in seconds, rising.

    Raises:
        SizeTableError: anything else.
    """
    rows: list[tuple[float, str]] = []
    other: str | None = None
    for part in text.split(","):
        limit, equals, size = (piece.strip() for piece in part.partition("="))
        found = _SIZE.fullmatch(size)
        if not equals or found is None or other is not None:
            raise SizeTableError(_usage(part))
        size = f"{int(found[1])}*{int(found[2])}"
        if limit == "else":
            other = size
            continue
        try:
            seconds = float(limit)
        except ValueError:
            raise SizeTableError(_usage(part)) from None
        if not seconds > (rows[-1][0] if rows else 0.0):
            raise SizeTableError(_usage(part))
        rows.append((seconds, size))
    if other is None:
        raise SizeTableError(
            sentence("{text!r} says nothing for longer sounds; end it with else=W*H", text=text)
        )
    return SizeTable(tuple(rows), other)


def _usage(part: str) -> str:
    return sentence(
        "{part!r} is no row of a resolution table; write it as {default_table}",
        part=part.strip(),
        default_table=DEFAULT_TABLE,
    )

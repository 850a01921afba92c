"""What a look at a line's bytes tells of a filter, so that few of a million lines are parsed.

The parser stays the judge: of each beginning that lines have (level, job, rank, stream) it reads
the first one, and what the filter says of that one holds for all lines that begin so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from engine.triage.query import by_head, needed
from engine.triage.records import Record, is_moment, parse_line

#: As in ``engine.triage.records``, of ASCII lines: level, moment, and what stands before the text.
#: ``\s`` of text has four characters more than ``\s`` of bytes.
_HEAD: Final = re.compile(
    rb"\[([A-Z]+)\] (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[.,]\d+)? [^\s\x1c-\x1f]+?:\d+ - "
    rb"((?:job \d+)?(?: ?rank \d+)?(?: ?(?:stdout|stderr))?: )?"
)
_KNOWN: Final = 4096  # beginnings remembered: a thousand jobs of four ranks


class Glance:
    """Judges lines by a query as far as their bytes tell. Any thread, several too.

    Raises:
        QueryError: as ``engine.triage.query.parse``.
    """

    def __init__(self, query: str) -> None:
        self._words = _needles(needed(query))
        self._head, self._whole = by_head(query)
        self._known: dict[tuple[bytes, bytes | None] | None, bool] = {}
        self._moment = b""  # the last one that is one: neighbouring lines have the same

    def verdict(self, line: bytes) -> bool | None:
        """Whether a line (without its end) passes; None: only who reads the whole can tell."""
        if not line.isascii():  # other letters may fold to ASCII ones, other digits be digits
            return None
        if self._words:
            low = line.lower()
            for word in self._words:
                if word not in low:
                    return False
        if self._head is None:
            return None
        key, found = None, _HEAD.match(line)
        if found is not None:
            level, moment, about = found.groups()
            if moment == self._moment or is_moment(moment.decode()):
                self._moment, key = moment, (level, about)
        passes = self._known.get(key)
        if passes is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            record = Record(text="") if key is None else parse_line(line.decode())
            passes = self._known[key] = self._head(record)
        return passes if self._whole or not passes else None


def _needles(words: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(word.encode() for word in words if word.isascii())

"""Log lines as records: R10's format, ``[LEVEL] 2025-12-25 10:30:22 file.py:145 - message``."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_LINE: Final = re.compile(
    r"\[(?P<level>[A-Z]+)\] (?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d+))?"
    r" (?P<where>\S+?:\d+) - (?P<text>.*)",
    re.DOTALL,
)
#: What ``engine.logfile.format_line`` puts before the text.
_ABOUT: Final = re.compile(
    r"(?:job (?P<job>\d+))?(?: ?rank (?P<rank>\d+))?(?: ?(?P<stream>stdout|stderr))?: "
)
_ALIASES: Final = {"WARN": "WARNING", "ERR": "ERROR", "FATAL": "CRITICAL", "CRIT": "CRITICAL"}


@dataclass(frozen=True)
class Record:
    """One line of a log. What a line does not tell is None; ``t`` is Unix seconds, local time.

    ``class_`` is what triage says of the line; ``node`` and ``version`` come from where the log
    was taken (events and metrics carry them; the line's format does not).
    """

    text: str
    level: str | None = None
    t: float | None = None
    where: str | None = None
    job: int | None = None
    rank: int | None = None
    stream: str | None = None
    node: str | None = None
    version: str | None = None
    class_: str | None = None
    line: int | None = None


def parse_line(
    line: str,
    *,
    node: str | None = None,
    version: str | None = None,
    number: int | None = None,
) -> Record:
    """A record of any line; one of another format is all text.

    >>> parse_line("[ERROR] 2025-12-25 10:30:22 rank.py:145 - job 3 rank 2: out of memory").rank
    2
    """
    line = line.rstrip("\r\n")
    found = _LINE.fullmatch(line)
    moment = _seconds(found["stamp"], found["fraction"]) if found is not None else None
    if found is None or moment is None:
        return Record(text=line, node=node, version=version, line=number)
    text = found["text"]
    about = _ABOUT.match(text)
    # An empty prefix would make a message that begins with ": " lose it.
    told = about is not None and any(about.groupdict().values())
    parts = about.groupdict() if about is not None and told else {}
    return Record(
        text=text[about.end() :] if about is not None and told else text,
        level=_ALIASES.get(found["level"], found["level"]),
        t=moment,
        where=found["where"],
        job=_number(parts.get("job")),
        rank=_number(parts.get("rank")),
        stream=parts.get("stream"),
        node=node,
        version=version,
        line=number,
    )


def is_moment(stamp: str) -> bool:
    """Whether digits in the form of a moment are one."""
    return _moment(stamp, time.tzname) is not None


def _seconds(stamp: str, fraction: str | None) -> float | None:
    moment = _moment(stamp, time.tzname)
    if moment is None:
        return None
    return moment + (float(f"0.{fraction}") if fraction else 0.0)


@lru_cache(1024)
def _moment(stamp: str, zone: tuple[str, str]) -> float | None:  # noqa: ARG001 - part of the key
    """Neighbouring lines have the same stamp, and reading one takes longer than all the rest."""
    try:
        return time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None else None

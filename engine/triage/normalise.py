"""One line of somebody's log without what launchers, terminals and mail put around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from engine.triage.source import is_source

#: Escape sequences, also those whose ESC was lost on the way (``[36m``), and Buildkite's stamps.
_ESCAPES: Final = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b_[^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[@-_]|\[\d{1,3}(?:;\d{1,3})*m|\[0?m|\[K(?=\s|$)|_bk;t=\d+\x07?"
)

_LEVEL: Final = r"(?:DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|ERR|CRITICAL|FATAL)"
_STAMP: Final = (
    r"(?:\d{4}[-/]\d\d[-/]\d\d[T_ ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?|[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d(?: \d{4})?"
    r"|\d\d:\d\d:\d\d(?:[.,]\d+)?)"
)

#: What may stand before the message, any number of times.
_PREFIX: Final = re.compile(
    r"\s*(?:"
    r"(?:> ?)+(?=\S)"  # quoted mail
    r"|\d+(?:\.\d+)?s\s+\d+\s+(?=\S)"  # Kaggle: seconds, number
    r"|[\w./-]*\.(?:log|txt|out|err):\d+:|\d+[:-](?=\D)"  # grep -n
    rf"|\[?{_STAMP}(?:\s+[A-Z]{{2,3}}\d+)*\]?(?:\s*-\s)?:?"
    rf"|\[?{_LEVEL}\]?(?=[\s:\[(])(?:\s*-\s|:)?"
    r"|\[(?:rank|default|Rank )\d+\]:?|\[\d+,\d+\]<std(?:err|out)>:"
    r"|\((?:\w+ )?(?:pid|rank)=[^)]*\)|\(\w+ [^)]*pid=[^)]*\)|\([\w.]+\(?[^)]*\) pid=[^)]*\)"
    r"|\[\s*\d+\.\d{6}\]"  # kernel time
    r"|\[[\w./-]+\.(?:py|cpp|cc):\d+\]|[\w./-]+\.(?:py|cpp|cc):\d+\]"
    r"|job \d+ (?:rank \d+ )?(?:stderr|stdout)?:"
    r")\s*"
)
_RANK: Final = re.compile(
    r"\[rank(\d+)\]|\[default(\d+)\]|\[Rank (\d+)\]|\bRank (\d+)\]|Worker_?(?:PP\d+_)?TP(\d+)\b"
    r"|\brank[ =:]\s*(\d+)\b|\[\d[^\]]* TP(\d+)[\] ]|local_rank: (\d+)|\[1,(\d+)\]<std|\bTP(\d+)\]",
    re.IGNORECASE,
)
#: Of each of these patterns, texts (for ``_RANK`` in lower case) of which a match has one.
_RANK_MARKS: Final = ("rank", "tp", "[default", "[1,")
_CLOCK: Final = re.compile(r"\d\d:\d\d:\d\d")
_UPTIME: Final = re.compile(r"\[ *(?P<uptime>\d+\.\d{6})\]")
_TIMES: Final = (
    re.compile(
        r"\b(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[T_ ]"
        r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:[.,]\d+)?)"
    ),
    # glog (E0227), c10 (E227): month and day run together
    re.compile(
        r"\b[DIWEF](?P<month>\d{1,2})(?P<day>\d\d) (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?)"
    ),
    re.compile(r"\b(?P<month>\d\d)-(?P<day>\d\d) (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:[.,]\d+)?)"),
    _UPTIME,
    re.compile(r"(?<![\d:])(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:[.,]\d+)?)(?![\d:])"),
)


#: A level at most "warning", where loggers put theirs: words, c10's [W123 …] and [W file.cpp:…],
#: glog's W0123, TensorFlow's ": W tensorflow/".
_WARNING: Final = re.compile(
    r"(?<![\w-])WARN(?:ING)?(?![\w-])|\w*Warning: |\[W(?: ?\d{3,4}| \w+\.\w+:\d+\]?|:\w) ?|^W\d{4} "
    r"|: W (?:tensorflow|external)/"
)
_CALM: Final = re.compile(
    r"(?<![\w-])(?:DEBUG|INFO(?!: (?:task|rcu))|NOTICE|TRACE(?!: \d)|VERBOSE)(?![\w-])"
    r"|\[I(?: ?\d{3,4}| \w+\.\w+:\d+\]?) ?|^I\d{4} |: I (?:tensorflow|external)/"
)
_LOUD: Final = re.compile(
    r"(?<![\w-])(?:ERROR|CRITICAL|FATAL|Traceback)(?![\w-])|\w+Error(?:: |\()"
)
_WARNING_MARKS: Final = ("W",)
_CALM_MARKS: Final = ("I", "DEBUG", "TRACE", "VERBOSE")
_LOUD_MARKS: Final = ("Error", "ERROR", "CRITICAL", "FATAL", "Traceback")


Level = Literal["info", "warning"]


@dataclass(frozen=True)
class Moment:
    """When a line was written. Only moments of the same ``clock`` can be compared."""

    clock: str
    seconds: float


def strip_escapes(text: str) -> str:
    """Without escape sequences; carriage returns (progress bars) become spaces."""
    return _ESCAPES.sub("", text).replace("\r", " ")


def body(text: str) -> str:
    """The message alone, white space collapsed; nothing of a line of source code."""
    text = strip_escapes(text)
    place = 0
    while (found := _PREFIX.match(text, place)) is not None and found.end() > place:
        place = found.end()
    rest = " ".join(text[place:].split())
    if is_source(rest):
        return ""
    return rest or " ".join(text.split())


def rank_of(text: str) -> int | None:
    """The rank a line names as its writer, or None."""
    found = _RANK.search(text) if _holds(text.lower(), _RANK_MARKS) else None
    if found is None:
        return None
    return int(next(group for group in found.groups() if group is not None))


def level_of(text: str) -> Level | None:
    """What a line calls itself, None where it does not say or speaks of an error."""
    head = text[:160]
    if _holds(head, _LOUD_MARKS) and _LOUD.search(head) is not None:
        return None
    if _holds(head, _WARNING_MARKS) and _WARNING.search(head) is not None:
        return "warning"
    return "info" if _holds(head, _CALM_MARKS) and _CALM.search(head) is not None else None


def moment_of(text: str) -> Moment | None:
    """The first timestamp of a line."""
    head = text[:200]
    clock = _CLOCK.search(head) is not None
    for number, pattern in enumerate(_TIMES):
        found = pattern.search(head) if clock or pattern is _UPTIME else None
        if found is None:
            continue
        parts = found.groupdict()
        if "uptime" in parts:
            return Moment("uptime", float(parts["uptime"]))
        seconds = (
            int(parts["h"]) * 3600 + int(parts["m"]) * 60 + float(parts["s"].replace(",", "."))
        )
        if "month" in parts:
            # Years are left out: glog's lines have none, and one incident lies within one.
            seconds += 86_400 * (31 * int(parts["month"]) + int(parts["day"]))
            return Moment("date", seconds)
        return Moment(f"clock{number}", seconds)
    return None


def _holds(text: str, marks: tuple[str, ...]) -> bool:
    """Whether one of the texts occurs; a plain loop, far faster than a pattern that starts so."""
    for mark in marks:  # noqa: SIM110
        if mark in text:
            return True
    return False

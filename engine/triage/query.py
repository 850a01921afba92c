"""The filter language of the log view: ``level>=warning rank=2 class=nccl since=10m text~unshard``.

Conditions stand side by side and must all hold; a comma inside a value lists alternatives
(``rank=0,1``), one between conditions is the same as a space; a word alone is searched in the
text. ``!`` before a word or a condition turns it round. Quotes keep spaces and commas together.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from engine.messages import LOG_LEVELS
from engine.sentence import sentence
from engine.triage.records import Record

Predicate = Callable[[Record], bool]

_OPERATORS: Final = (">=", "<=", "!=", "!~", "=", "~", ">", "<")
_ORDERED: Final = frozenset({">=", "<=", ">", "<"})
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LEVEL_NAMES: Final = {
    **{name.lower(): n for n, name in enumerate(LOG_LEVELS)},
    "warn": 2,
    "err": 3,
    "fatal": 4,
}
#: Field → which operators it takes.
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "level": ("=", "!=", ">=", "<=", ">", "<"),
    "rank": ("=", "!=", ">=", "<=", ">", "<"),
    "job": ("=", "!=", ">=", "<=", ">", "<"),
    "node": ("=", "!=", "~", "!~"),
    "version": ("=", "!=", "~", "!~"),
    "class": ("=", "!=", "~", "!~"),
    "where": ("=", "!=", "~", "!~"),
    "stream": ("=", "!="),
    "text": ("=", "!=", "~", "!~"),
    "since": ("=",),
    "until": ("=",),
}
#: Fields that stand before a line's text.
_HEAD: Final = frozenset({"level", "rank", "job", "stream"})
_TOKEN: Final = re.compile(r"""[^\s,"']+|"[^"]*"|'[^']*'|[\s,]""")
_CONDITION: Final = re.compile(r"(!?)([A-Za-z_]+)(>=|<=|!=|!~|=|~|>|<)(.*)", re.DOTALL)


class QueryError(ValueError):
    """A query that cannot be read; ``column`` (from 0) is where."""

    def __init__(self, message: str, column: int) -> None:
        self.column = column
        super().__init__(
            sentence("{message} (at character {column})", message=message, column=column + 1)
        )


@dataclass(frozen=True)
class _Token:
    """One condition or word; ``parts`` are its pieces and whether each was quoted."""

    column: int
    parts: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    def values(self, start: int) -> list[str]:
        """From character ``start``, cut at commas that were not quoted."""
        values, seen = [""], 0
        for text, quoted in self.parts:
            piece = text[max(0, start - seen) :]
            seen += len(text)
            if quoted:
                values[-1] += piece
                continue
            first, *others = piece.split(",")
            values[-1] += first
            values += others
        return [value for value in values if value]


def parse(query: str, *, now: float | None = None) -> Predicate:
    """A predicate over records. An empty query lets everything through.

    ``now`` (Unix seconds) is what ``since=10m`` counts back from; the clock by default.

    Raises:
        QueryError: an unknown field, operator or value, or an open quote.
    """
    moment = time.time() if now is None else now
    conditions = [_condition(token, moment) for token in _tokens(query)]
    return lambda record: all(condition(record) for condition in conditions)


def needed(query: str) -> tuple[str, ...]:
    """Words that every record's text must hold to pass, casefolded: a quick look tells the rest.

    Raises:
        QueryError: an open quote.
    """
    return tuple(
        token.text.casefold()
        for token in _tokens(query)
        if token.parts[0][1] or not (token.text.startswith("!") or _field(token))
    )


def by_head(query: str) -> tuple[Predicate | None, bool]:
    """The conditions on level, rank, job and stream, and whether there are no others.

    A record that fails them fails the query. None where there is no such condition.

    Raises:
        QueryError: as ``parse``.
    """
    tokens = _tokens(query)
    conditions = [_condition(token, 0.0) for token in tokens if _field(token) in _HEAD]
    if not conditions:
        return None, False
    whole = len(conditions) == len(tokens)
    return lambda record: all(condition(record) for condition in conditions), whole


def _field(token: _Token) -> str | None:
    """The field that a token is a condition on; None for a word."""
    found = None if token.parts[0][1] else _CONDITION.match(token.text)
    return found[2].lower() if found is not None else None


def _tokens(query: str) -> list[_Token]:
    tokens: list[_Token] = []
    parts: list[tuple[str, bool]] = []
    begun = place = 0

    def close() -> None:
        if parts:
            tokens.append(_Token(begun, tuple(parts)))
        parts.clear()

    while place < len(query):
        found = _TOKEN.match(query, place)
        if found is None:
            raise QueryError(sentence("the quote {query} is not closed", query=query[place]), place)
        piece = found[0]
        if piece.isspace() or (piece == "," and not _inside_list(parts, query, found.end())):
            close()
        else:
            if not parts:
                begun = place
            quoted = piece[0] in "\"'"
            parts.append((piece[1:-1] if quoted else piece, quoted))
        place = found.end()
    close()
    return tokens


def _inside_list(parts: list[tuple[str, bool]], query: str, after: int) -> bool:
    """Whether a comma continues a list of values rather than ending a condition."""
    if not parts or _CONDITION.match("".join(t for t, _ in parts)) is None:
        return False
    rest = query[after:]
    if not rest or rest[0].isspace() or rest[0] == ",":
        return False
    following = _CONDITION.match(rest)
    return following is None or following[2].lower() not in FIELDS


def _condition(token: _Token, now: float) -> Predicate:
    text = token.text
    bare = token.parts[0][1]  # it begins with a quote: a phrase to search for
    found = None if bare else _CONDITION.match(text)
    if found is None:
        return _word(token, text, bare)
    turned, field, operator, value = found.groups()
    field = field.lower()
    if field not in FIELDS:
        close = get_close_matches(field, FIELDS, 1)
        hint = (
            sentence("did you mean {close}?", close=close[0])
            if close
            else sentence("fields are {fields}", fields=", ".join(FIELDS))
        )
        raise QueryError(
            sentence("there is no field {field!r}; {hint}", field=field, hint=hint), token.column
        )
    if operator not in FIELDS[field]:
        raise QueryError(
            sentence(
                "{field} does not take {operator}; it takes {fields}",
                field=field,
                operator=operator,
                fields=" ".join(FIELDS[field]),
            ),
            token.column,
        )
    values = token.values(found.start(4))
    if not values:
        raise QueryError(
            sentence("{field}{operator} has no value", field=field, operator=operator),
            token.column + len(text),
        )
    if operator in _ORDERED and len(values) > 1:
        raise QueryError(
            sentence(
                "{field}{operator} takes one value, not a list", field=field, operator=operator
            ),
            token.column,
        )
    column = token.column + len(text) - len(value)
    predicate = _made(field, operator, values, now, column)
    return (lambda record: not predicate(record)) if turned else predicate


def _word(token: _Token, text: str, quoted: bool) -> Predicate:
    turned = not quoted and text.startswith("!")
    wanted = (text[1:] if turned else text).casefold()
    if not wanted:
        raise QueryError(sentence("a ! stands alone"), token.column)
    if turned:
        return lambda record: wanted not in record.text.casefold()
    return lambda record: wanted in record.text.casefold()


def _made(field: str, operator: str, values: list[str], now: float, column: int) -> Predicate:
    if field in ("since", "until"):
        if len(values) > 1:
            raise QueryError(sentence("{field} takes one moment", field=field), column)
        limit = _moment(values[0], now, column)
        if field == "since":
            return lambda record: record.t is not None and record.t >= limit
        return lambda record: record.t is not None and record.t <= limit
    if field == "level":
        return _ordered(operator, [_level(value, column) for value in values], _level_of)
    if field in ("rank", "job"):
        numbers = [_integer(field, value, column) for value in values]
        return _ordered(operator, numbers, lambda record: getattr(record, field))
    attribute = "class_" if field == "class" else field
    if operator in ("~", "!~"):
        patterns = [_pattern(value, column) for value in values]
        positive = operator == "~"
        return lambda record: (
            any(p.search(getattr(record, attribute) or "") for p in patterns) is positive
        )
    wanted = [value.casefold() for value in values]
    positive = operator == "="

    def same(record: Record) -> bool:
        held = (getattr(record, attribute) or "").casefold()
        if field == "class":
            # A word of the name is a family: nccl_init_failure and nccl_timeout_watchdog are
            # "nccl", cuda_oom and host_oom_killed "oom".
            hit = any(f"_{value}_" in f"_{held}_" for value in wanted)
        else:
            hit = held in wanted
        return hit is positive

    return same


def _ordered(operator: str, values: list[int], of: Callable[[Record], int | None]) -> Predicate:
    """A record that does not tell the value passes only ``!=``."""
    limit = values[0]
    match operator:
        case "=":
            return lambda record: of(record) in values
        case "!=":
            return lambda record: of(record) not in values
        case ">=":
            return lambda record: (held := of(record)) is not None and held >= limit
        case "<=":
            return lambda record: (held := of(record)) is not None and held <= limit
        case ">":
            return lambda record: (held := of(record)) is not None and held > limit
        case _:
            return lambda record: (held := of(record)) is not None and held < limit


def _level_of(record: Record) -> int | None:
    return _LEVEL_NAMES.get(record.level.lower()) if record.level is not None else None


def _level(value: str, column: int) -> int:
    number = _LEVEL_NAMES.get(value.lower())
    if number is None:
        names = ", ".join(name.lower() for name in LOG_LEVELS)
        raise QueryError(
            sentence("{value!r} is no level; levels are {names}", value=value, names=names), column
        )
    return number


def _integer(field: str, value: str, column: int) -> int:
    if not value.isascii() or not value.isdigit():
        raise QueryError(
            sentence("{field} is a number, not {value!r}", field=field, value=value), column
        )
    return int(value)


def _pattern(value: str, column: int) -> re.Pattern[str]:
    try:
        return re.compile(value, re.IGNORECASE)
    except re.error as error:
        raise QueryError(
            sentence("{value!r} is not a regular expression: {error}", value=value, error=error),
            column,
        ) from error


def _moment(value: str, now: float, column: int) -> float:
    """``10m`` ago, the last ``10:30``, ``2025-12-25`` or ``2025-12-25T10:30:22``, local time."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value)
    if found is not None:
        return now - float(found[1]) * _UNITS[found[2]]
    text = value.replace("T", " ")
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"):
        with contextlib.suppress(ValueError, OverflowError):
            return time.mktime(time.strptime(text, form))
    there = time.localtime(now)
    for form in ("%H:%M:%S", "%H:%M"):
        with contextlib.suppress(ValueError, OverflowError):
            hour, minute, second = time.strptime(text, form)[3:6]
            last = time.mktime((*there[:3], hour, minute, second, 0, 0, -1))
            # Not yet come today: at three in the morning 23:40 is yesterday's.
            return last if last <= now else last - _UNITS["d"]
    raise QueryError(
        sentence(
            "{value!r} is no moment; write 10m, 2h, 10:30 or 2025-12-25T10:30:22", value=value
        ),
        column,
    )

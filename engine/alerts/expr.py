"""The language of conditions: ``mean(latency, 5m) > 2 * mean(latency, 1h)``.

    condition = and-terms joined by "or" · "and" binds closer · "not" closest
    comparison = sum  (> | >= | < | <= | == | !=)  sum
    sum, product = + - * / over numbers, measurements, functions and brackets
    functions = mean avg sum count min max increase (MEASUREMENT, DURATION)

Numbers may carry a unit: ``20GiB`` ``5m`` (seconds) ``85%`` (the sign is only for the reader).
Nothing is evaluated by Python. A value that nobody measured makes its comparison unknown (None),
by the logic of three values: ``unknown and false`` is false, ``unknown or true`` is true.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from engine.alerts.measures import DEVICE, HOST, JOB, MEASURES
from engine.alerts.units import UNITS, duration_seconds

FUNCTIONS: Final = ("mean", "avg", "sum", "count", "min", "max", "increase")
LONGEST: Final = 1_000
DEEPEST: Final = 32
#: Windows are kept in memory, per device or job.
WIDEST_WINDOW: Final = 24 * 3600.0

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<unit>[A-Za-z]+|%|°C)?"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<op>>=|<=|==|!=|[-+*/()<>,]))"
)
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class ExprError(ValueError):
    """A condition that cannot be read; says where and what was expected."""


class Values(Protocol):
    """Where an expression finds its figures."""

    def now(self, name: str) -> float | None:
        """The present value of a measurement."""

    def window(self, function: str, name: str, seconds: float) -> float | None:
        """A function over the last ``seconds``; None without a single observation."""


@dataclass(frozen=True)
class Outcome:
    """What a condition says, and the two sides of the comparison that decided."""

    truth: bool | None
    value: float | None = None
    threshold: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Number:
    value: float

    def of(self, values: Values) -> float | None:  # noqa: ARG002
        return self.value


@dataclass(frozen=True)
class Name:
    name: str

    def of(self, values: Values) -> float | None:
        return values.now(self.name)


@dataclass(frozen=True)
class Window:
    function: str
    name: str
    seconds: float

    def of(self, values: Values) -> float | None:
        return values.window(self.function, self.name, self.seconds)


@dataclass(frozen=True)
class Arithmetic:
    op: str
    left: Term
    right: Term

    def of(self, values: Values) -> float | None:
        left, right = self.left.of(values), self.right.of(values)
        if left is None or right is None:
            return None
        match self.op:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case _:
                return left / right if right else None


Term = Number | Name | Window | Arithmetic


@dataclass(frozen=True)
class Compare:
    op: str
    left: Term
    right: Term

    def judge(self, values: Values) -> Outcome:
        left, right = self.left.of(values), self.right.of(values)
        truth = None if left is None or right is None else _COMPARE[self.op](left, right)
        return Outcome(truth, left, right, self.unit)

    @property
    def unit(self) -> str:
        """The unit of both sides, by the first measurement that stands there."""
        return next((MEASURES[leaf.name].unit for leaf in terms(self)), "")


@dataclass(frozen=True)
class Not:
    part: Condition

    def judge(self, values: Values) -> Outcome:
        inner = self.part.judge(values)
        truth = None if inner.truth is None else not inner.truth
        return Outcome(truth, inner.value, inner.threshold, inner.unit)


@dataclass(frozen=True)
class Both:
    """``and`` (or, with ``any``, ``or``) of two conditions."""

    left: Condition
    right: Condition
    any: bool = False

    def judge(self, values: Values) -> Outcome:
        sides = (self.left.judge(values), self.right.judge(values))
        deciding = next((s for s in sides if s.truth is self.any), None)
        if deciding is not None:
            return deciding
        return next((s for s in sides if s.truth is None), sides[0])


Condition = Compare | Not | Both


def parse(text: str) -> Condition:
    """A condition out of text.

    Raises:
        ExprError: with the column and, for an unknown name, the nearest known one.
    """
    return _Parser(text).whole()


def terms(condition: Condition) -> Iterator[Name | Window]:
    """Every measurement a condition uses."""
    stack: list[Condition | Term] = [condition]
    while stack:
        match stack.pop():
            case Not(part):
                stack.append(part)
            case Both() | Compare() | Arithmetic() as node:
                stack += [node.right, node.left]
            case Name() | Window() as leaf:
                yield leaf
            case Number():
                pass


def scope_of(condition: Condition) -> str:
    """What the condition is about: each device, each job, or the host.

    Raises:
        ExprError: it mixes devices and jobs, or measures nothing.
    """
    scopes = {MEASURES[leaf.name].scope for leaf in terms(condition)}
    if not scopes:
        raise ExprError("the condition measures nothing: it is always the same")
    if {DEVICE, JOB} <= scopes:
        raise ExprError("a condition is about devices or about jobs, not both: make two rules")
    return next((s for s in (DEVICE, JOB) if s in scopes), HOST)


@dataclass(frozen=True)
class _Token:
    kind: str  # number | name | op | end
    text: str
    at: int  # column, from 1
    value: float = 0.0


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ExprError(f"longer than {LONGEST} characters")
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        found = self._condition(self._or())
        if self._peek.kind != "end":
            raise self._error("'and', 'or' or the end")
        return found

    # Brackets may hold a condition or a term, so both go through the same methods; the kind is
    # checked where one of them is needed.
    def _or(self) -> Condition | Term:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExprError(f"nested more than {DEEPEST} deep")
        left = self._and()
        while self._take("or"):
            left = Both(self._condition(left), self._condition(self._and()), any=True)
        self._depth -= 1
        return left

    def _and(self) -> Condition | Term:
        left = self._not()
        while self._take("and"):
            left = Both(self._condition(left), self._condition(self._not()))
        return left

    def _not(self) -> Condition | Term:
        if self._take("not"):
            return Not(self._condition(self._comparison()))
        return self._comparison()

    def _comparison(self) -> Condition | Term:
        left = self._sum()
        token = self._peek
        if token.kind == "op" and token.text in _COMPARE:
            self._next += 1
            left = Compare(token.text, self._term(left), self._term(self._sum()))
            if self._peek.text in _COMPARE:
                raise self._error("'and' between two comparisons")
        return left

    def _sum(self) -> Condition | Term:
        left = self._product()
        while (op := self._peek.text) in ("+", "-") and self._take(op):
            left = Arithmetic(op, self._term(left), self._term(self._product()))
        return left

    def _product(self) -> Condition | Term:
        left = self._atom()
        while (op := self._peek.text) in ("*", "/") and self._take(op):
            left = Arithmetic(op, self._term(left), self._term(self._atom()))
        return left

    def _atom(self) -> Condition | Term:
        token = self._peek
        if self._take("("):
            inner = self._or()
            self._expect(")")
            return inner
        if self._take("-"):
            number = self._peek
            if number.kind != "number":
                raise self._error("a number after '-'")
            self._next += 1
            return Number(-number.value)
        if token.kind == "number":
            self._next += 1
            return Number(token.value)
        if token.kind == "name" and token.text not in ("and", "or", "not"):
            self._next += 1
            if self._take("("):
                return self._window(token)
            return self._name(token)
        raise self._error("a measurement, a number or '('")

    def _window(self, function: _Token) -> Window:
        if function.text not in FUNCTIONS:
            raise ExprError(
                f"column {function.at}: no function {function.text!r}; there are "
                f"{', '.join(FUNCTIONS)}"
            )
        name = self._peek
        if name.kind != "name":
            raise self._error("the name of a measurement")
        self._next += 1
        _known(name)
        self._expect(",")
        span = self._peek
        if span.kind != "number":
            raise self._error("a duration such as 5m")
        self._next += 1
        self._expect(")")
        if not 0 < span.value <= WIDEST_WINDOW:
            raise ExprError(f"column {span.at}: a window is between 1s and 24h")
        counter = MEASURES[name.text].kind == "counter"
        if counter != (function.text == "increase"):
            hint = "is a counter: use increase" if counter else "is no counter: increase"
            raise ExprError(
                f"column {function.at}: {name.text} {hint}"
                + (f"({name.text}, …)" if counter else " does not apply")
            )
        return Window(function.text, name.text, span.value)

    def _name(self, token: _Token) -> Name:
        _known(token)
        kind = MEASURES[token.text].kind
        if kind == "observation":
            raise ExprError(
                f"column {token.at}: {token.text} is one figure per clip or block: write "
                f"mean({token.text}, 5m)"
            )
        if kind == "counter":
            raise ExprError(
                f"column {token.at}: {token.text} only ever grows: write increase({token.text}, 5m)"
            )
        return Name(token.text)

    def _condition(self, node: Condition | Term) -> Condition:
        if isinstance(node, Compare | Not | Both):
            return node
        if isinstance(node, Name):  # a bare measurement asks whether it is there at all
            return Compare("!=", node, Number(0.0))
        raise self._error("a comparison such as '> 90'")

    def _term(self, node: Condition | Term) -> Term:
        if isinstance(node, Compare | Not | Both):
            raise self._error("a figure, not a condition")
        return node

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, text: str) -> bool:
        if self._peek.kind in ("op", "name") and self._peek.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._error(repr(text))

    def _error(self, expected: str) -> ExprError:
        token = self._peek
        found = repr(token.text) if token.kind != "end" else "the end"
        return ExprError(f"column {token.at}: expected {expected}, found {found}")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        found = _TOKEN.match(stripped, at)
        if found is None:
            column = at + 1 + len(stripped[at:]) - len(stripped[at:].lstrip())
            raise ExprError(f"column {column}: {stripped[column - 1]!r} means nothing here")
        kind = str(found.lastgroup if found.lastgroup != "unit" else "number")
        column = found.start(kind) + 1
        value = _number(found, column) if kind == "number" else 0.0
        yield _Token(kind, found[kind], column, value)
        at = found.end()
    yield _Token("end", "", len(stripped) + 1)


def _number(found: re.Match[str], column: int) -> float:
    value, unit = float(found["number"]), found["unit"]
    if unit is None:
        return value
    if unit in UNITS:
        return value * UNITS[unit]
    seconds = duration_seconds(found["number"] + unit)
    if seconds is None:
        raise ExprError(f"column {column}: no unit {unit!r}; there are {', '.join(UNITS)}, s m h d")
    return seconds


def _known(token: _Token) -> None:
    if token.text not in MEASURES:
        near = difflib.get_close_matches(token.text, MEASURES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ExprError(f"column {token.at}: no measurement {token.text!r}{hint}")

"""Rules in Prometheus' own form, for a server that scrapes ``avatop metrics``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.alerts.expr import (
    Arithmetic,
    Both,
    Compare,
    Condition,
    ExprError,
    Name,
    Not,
    Number,
    Term,
    Window,
    scope_of,
)
from engine.alerts.measures import HOST, MEASURES
from engine.alerts.rules import Rule
from engine.alerts.units import duration_text

_OPPOSITE: Final = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
_OVER_TIME: Final = {"mean": "avg", "avg": "avg", "sum": "sum", "count": "count"}


@dataclass(frozen=True)
class Export:
    """The file's text, and why some rules are not in it."""

    text: str
    left_out: tuple[str, ...]


def export(rules: Iterable[Rule]) -> Export:
    """The enabled rules as one group, in YAML (whose scalars are written as JSON)."""
    lines = ["groups:", "  - name: avatop", "    rules:"]
    left_out, count = [], 0
    for rule in rules:
        if not rule.enabled:
            continue
        try:
            expr = promql(rule.condition)
        except ExprError as error:
            left_out.append(f"{rule.id}: {error}")
            continue
        count += 1
        lines += [
            f"      - alert: {json.dumps(_camel(rule.id))}",
            f"        expr: {json.dumps(expr)}",
            f"        for: {duration_text(rule.for_seconds)}",
        ]
        if rule.clear_for_seconds:
            lines.append(f"        keep_firing_for: {duration_text(rule.clear_for_seconds)}")
        labels = {"severity": rule.severity, "rule": rule.id, **rule.labels}
        lines.append("        labels:")
        lines += [f"          {k}: {json.dumps(v, ensure_ascii=False)}" for k, v in labels.items()]
        lines.append("        annotations:")
        lines.append(f"          summary: {json.dumps(_summary(rule), ensure_ascii=False)}")
    if not count:
        lines[-1] = "    rules: []"
    return Export("\n".join(lines) + "\n", tuple(left_out))


def promql(condition: Condition) -> str:
    """One condition as a PromQL expression.

    Raises:
        ExprError: it has no counterpart there.
    """
    return _condition(condition, positive=True)


def _condition(node: Condition, *, positive: bool) -> str:
    match node:
        case Not(part):
            return _condition(part, positive=not positive)
        case Both(left, right, either):
            # Without "not": by De Morgan into the comparisons, which filter in PromQL.
            word = "or" if either is positive else "and"
            one, other = (_condition(side, positive=positive) for side in (left, right))
            scopes = (scope_of(left), scope_of(right))
            if scopes[0] != scopes[1]:
                if word == "or":
                    raise ExprError("'or' over devices or jobs and the host has no counterpart")
                if scopes[0] == HOST:
                    one, other = other, one
                word = "and on(host)"
            return f"({one}) {word} ({other})"
        case Compare(op, left, right):
            op = op if positive else _OPPOSITE[op]
            if len({s for s in (_scope(left), _scope(right)) if s}) > 1:
                raise ExprError("a comparison of the host with devices or jobs has no counterpart")
            return f"{_term(left)} {op} {_term(right)}"


def _scope(term: Term) -> str:
    match term:
        case Name(name) | Window(_, name, _):
            return MEASURES[name].scope
        case Arithmetic(_, left, right):
            return _scope(left) or _scope(right)
        case _:
            return ""


def _term(term: Term) -> str:
    match term:
        case Number(value):
            return repr(value) if value != int(value) else str(int(value))
        case Name(name):
            metric = _metric(name)
            return metric if re.fullmatch(r"[\w:]+(\{.*\})?", metric) else f"({metric})"
        case Window(function, name, seconds):
            return _window(function, name, seconds)
        case Arithmetic(op, left, right):
            return f"({_term(left)} {op} {_term(right)})"


def _window(function: str, name: str, seconds: float) -> str:
    metric, span = _metric(name), duration_text(seconds)
    if function == "increase":
        return f"increase({metric}[{span}])"
    if MEASURES[name].kind == "observation":
        match function:
            case "mean" | "avg":
                # Sum over count; the article's expression measures throughput.
                return f"(rate({metric}_sum[{span}]) / rate({metric}_count[{span}]))"
            case "sum" | "count":
                return f"increase({metric}_{function}[{span}])"
            case _:
                raise ExprError(f"{function} of single observations is not exported")
    if not re.fullmatch(r"[\w:]+(\{.*\})?", metric):
        raise ExprError(f"{function} over {name}, which is computed there, has no counterpart")
    return f"{_OVER_TIME.get(function, function)}_over_time({metric}[{span}])"


def _metric(name: str) -> str:
    metric = MEASURES[name].prom
    if not metric:
        raise ExprError(f"{name} is not among the metrics")
    return metric


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def _summary(rule: Rule) -> str:
    slots = {
        "gpu": "{{ $labels.gpu }}",
        "device": "{{ $labels.uuid }}",
        "job": "{{ $labels.job }}",
        "host": "{{ $labels.host }}",
        "value": "{{ $value | humanize }}",
        "threshold": "the limit",
        "for": duration_text(rule.for_seconds),
        "rule": rule.id,
    }
    return rule.message.format(**slots)

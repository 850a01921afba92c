"""Can a person write a condition, and is every mistake answered with where and what instead?"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.alerts.expr import ExprError, parse, scope_of
from engine.alerts.units import duration_seconds, duration_text


class Figures:
    """Fixed figures; windows give the widest of their seconds."""

    def __init__(self, **values: float | None) -> None:
        self.values = values

    def now(self, name: str) -> float | None:
        return self.values.get(name)

    def window(self, function: str, name: str, seconds: float) -> float | None:
        return self.values.get(f"{function}_{name}_{seconds:.0f}")


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("memory_percent > 90", True),
        ("memory_percent > 95%", False),
        ("not memory_percent > 95", True),
        ("memory_percent > 90 and temperature_c > 85", False),
        ("memory_percent > 90 or temperature_c > 85", True),
        ("memory_percent > 99 or temperature_c >= 40 and throttle", True),
        ("(memory_percent + 8) / 2 * 3 - 1 == 149", True),
        ("throttle", True),
        ("memory_used > 20GiB", True),
        ("memory_used > -1", True),
        ("power_w > 1", None),
        ("power_w > 1 or memory_percent > 90", True),
        ("power_w > 1 and memory_percent > 95", False),
        ("not power_w > 1", None),
        ("memory_percent / (temperature_c - 40) > 1", None),
    ],
)
def test_conditions_mean_what_they_say(text: str, truth: bool | None) -> None:
    figures = Figures(
        memory_percent=92.0, temperature_c=40.0, throttle=1.0, memory_used=21 * 2.0**30
    )
    assert parse(text).judge(figures).truth is truth


def test_the_two_sides_that_decided_are_told() -> None:
    figures = Figures(mean_latency_300=50.0, mean_latency_3600=20.0)
    found = parse("mean(latency, 5m) > 2 * mean(latency, 1h)").judge(figures)
    assert (found.truth, found.value, found.threshold, found.unit) == (True, 50.0, 40.0, "s")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found the end"),
        ("memory_percnt > 3", "did you mean memory_percent?"),
        ("memory_percent >", "column 17: expected a measurement"),
        ("memory_percent > 3 > 2", "'and' between two comparisons"),
        ("memory_percent > 3 temperature_c", "expected 'and', 'or' or the end"),
        ("latency > 3", "write mean(latency, 5m)"),
        ("oom_errors > 3", "write increase(oom_errors, 5m)"),
        ("increase(memory_percent, 5m) > 1", "increase does not apply"),
        ("mean(oom_errors, 5m) > 1", "use increase"),
        ("median(latency, 5m) > 1", "no function 'median'"),
        ("mean(latency, 5x) > 1", "no unit 'x'"),
        ("mean(latency, 30d) > 1", "between 1s and 24h"),
        ("memory_percent + 1", "expected a comparison"),
        ("(memory_percent > 1) + 1 > 2", "a figure, not a condition"),
        ("__import__('os').system('true')", "means nothing here"),
        ("(" * 200 + "throttle" + ")" * 200, "nested"),
        ("throttle or " * 200 + "throttle", "longer than"),
    ],
)
def test_a_mistake_says_where_and_what_instead(text: str, says: str) -> None:
    with pytest.raises(ExprError) as error:
        parse(text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("1 > 2", "measures nothing"), ("fps < 5 and throttle", "make two rules")],
)
def test_a_rule_is_about_one_kind_of_thing(text: str, says: str) -> None:
    with pytest.raises(ExprError, match=says):
        scope_of(parse(text))
    assert scope_of(parse("zombies > 3 and throttle")) == "device"


@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_condition_or_a_sentence(text: str) -> None:
    with contextlib.suppress(ExprError):
        parse(text)


@given(st.integers(0, 10**8))
def test_durations_are_read_as_they_are_written(milliseconds: int) -> None:
    text = duration_text(milliseconds / 1000)
    assert duration_seconds(text) == pytest.approx(milliseconds / 1000)
    assert duration_seconds("soon") is None

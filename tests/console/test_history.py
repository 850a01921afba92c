"""Does a plot keep what was seen: short spikes, gaps, the present at the right?"""

from __future__ import annotations

import random

from console import history
from console.history import Series
from console.theme import load
from console.widgets import plot
from console.widgets.paint import Paint

T = 1_700_000_000.0


def level(value: float) -> history.Stack:
    return history.stack({"weights": value})


def test_a_spike_of_one_sample_survives_any_zoom() -> None:
    series = Series()
    for n in range(600):
        series.add(T + n, level(10), level(99) if n == 100 else None)
    for seconds in (0.5, 1, 2, 5, 10, 60):
        columns = series.columns(T + 599, int(600 / seconds) + 2, seconds)
        assert max(c[0] for c in columns if c) == 99


def test_the_present_is_at_the_right_and_the_unknown_blank() -> None:
    series = Series(hold=3)
    series.add(T, level(5))
    columns = series.columns(T + 1, 10, 1.0)
    assert columns[-1] == columns[-2] == level(5)
    assert columns[:-2] == [None] * 8
    assert series.columns(T + 60, 10, 1.0) == [None] * 10


def test_nothing_is_held_after_the_end() -> None:
    series = Series(hold=30)
    series.add(T, level(5))
    series.end(T + 2)
    assert series.columns(T + 9, 10, 1.0)[-5:] == [None] * 5


def test_drawing_step_by_step_equals_drawing_at_once() -> None:
    rng = random.Random(7)
    steps, whole = Series(), Series()
    t = T
    for _ in range(200):
        t += rng.choice((0.2, 0.7, 1.0, 4.0))
        value = level(rng.randrange(1, 50))
        steps.add(t, value)
        whole.add(t, value)
        drawn = steps.columns(t, 40, 2.0)
    assert drawn == whole.columns(t, 40, 2.0)


def test_memory_stays_bounded() -> None:
    series = Series()
    for n in range(history.FINE_BINS * 3):
        series.add(T + n, level(1))
    assert len(series._fine.bins) <= history.FINE_BINS
    assert len(series._coarse.bins) <= history.COARSE_BINS


def test_the_rise_belongs_to_the_owner_that_rose() -> None:
    ground = history.stack({"weights": 10, "gathered": 1})
    top = history.raised(ground, 15, {"weights": 10, "gathered": 5})
    assert dict(top[1]) == {"weights": 10, "gathered": 5}
    assert history.raised(ground, 3, {}) == ground


def rows(unicode: bool, **options: float) -> list[str]:
    paint = Paint(load("signature"), unicode)
    columns = [level(v) for v in (0, 25, 50, 75, 100, 100)]
    drawn = plot.area(paint, columns, 2, 100, **options)  # type: ignore[arg-type]
    return ["".join(cell for cell, _role in row) for row in drawn]


def test_braille_area() -> None:
    assert rows(True) == [" ⢠⣿", "⢠⣿⣿"]


def test_letters_where_there_is_no_braille() -> None:
    assert rows(False) == ["   www", " wwwww"]


def test_the_plan_is_on_the_picture_and_what_is_over_it_stands_out() -> None:
    paint = Paint(load("signature"))
    drawn = plot.area(paint, [level(10)] * 2 + [level(90)] * 2, 4, 100, plan=50)
    assert drawn[2][0][1] == "plan" or drawn[1][0][1] == "plan"
    assert drawn[0][1][1] == "over"
    assert drawn[3][1][1] == "owner.weights"


def test_a_cell_shows_the_owner_that_has_most_of_it() -> None:
    paint = Paint(load("signature"))
    held = history.stack({"weights": 26.0, "kv": 12.5, "conditioning": 0.8, "slack": 2.8})
    drawn = plot.area(paint, [held] * 2, 9, 140)
    roles = [row[0][1] for row in drawn if row[0][1].startswith("owner")]
    assert roles == ["owner.kv", "owner.weights", "owner.weights"]


def test_monochrome_tells_owners_apart_by_pattern() -> None:
    paint = Paint(load("mono"))
    shapes = {owner: paint.swatch(owner) for owner in plot._ROLES}
    assert len(set(shapes.values())) == len(shapes)

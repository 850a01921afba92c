"""Does every step of every block happen once, in an order that its inputs allow?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.placement.onrank.schedule import Tick, Timetable


def ticks(table: Timetable) -> list[Tick]:
    out = []
    while (tick := table.next()) is not None:
        out.append(tick)
        assert len(out) < 10_000, "the timetable does not end"
    return out


@settings(max_examples=150, deadline=None)
@given(
    order=st.sampled_from(["sequential", "diagonal"]),
    steps=st.integers(1, 9),
    per_clip=st.integers(1, 6),
    clips=st.integers(1, 5),
    stop_at=st.none() | st.integers(0, 30),
)
def test_every_step_of_every_block_once_and_after_what_it_needs(
    order, steps, per_clip, clips, stop_at
) -> None:
    table = Timetable(order, steps, per_clip, clips)
    when: dict[tuple[int, int], int] = {}
    prefills: dict[int, int] = {}
    while True:
        if stop_at == table._index:
            table.stop_after_clip()
        tick = table.next()
        if tick is None:
            break
        if tick.prefill is not None:
            assert tick.prefill not in prefills
            prefills[tick.prefill] = tick.index
        for work in tick.items:
            assert (work.step, work.block) not in when
            when[work.step, work.block] = tick.index
        assert len({work.step for work in tick.items}) == len(tick.items)
        if order == "sequential":
            assert len(tick.items) <= 1
    blocks = table.blocks
    assert set(when) == {(s, b) for s in range(steps) for b in range(blocks)}
    assert blocks % per_clip == 0
    if stop_at is None:
        assert blocks == clips * per_clip
    for (step, block), index in when.items():
        if step:
            assert when[step - 1, block] < index
        if block:  # a ring takes its blocks in order
            assert when[step, block - 1] < index
        assert prefills[min(block // per_clip, 1)] + step <= index
    if 1 in prefills:
        assert when[steps - 1, 0] < prefills[1]
        assert blocks > per_clip, "a clip that is not made is not conditioned"


def test_a_full_pipeline_works_on_as_many_blocks_as_there_are_steps() -> None:
    out = ticks(Timetable("diagonal", 4, 4, 3))
    assert [(w.step, w.block) for w in out[3].items] == [(0, 3), (1, 2), (2, 1), (3, 0)]
    # Clip 1 is conditioned in the walk that takes its first block: no bubble.
    assert out[4].prefill == 1
    assert [w.block for w in out[4].items] == [4, 3, 2, 1]
    assert len(out) == 12 + 3


def test_a_pipeline_deeper_than_a_clip_waits_for_block_0() -> None:
    out = ticks(Timetable("diagonal", 6, 2, 3))
    entry = next(t.index for t in out if any(w.block == 2 for w in t.items))
    finish = next(t.index for t in out if any((w.step, w.block) == (5, 0) for w in t.items))
    assert entry == finish + 1


def test_one_step_one_clip() -> None:
    out = ticks(Timetable("diagonal", 1, 1, 1))
    assert [(t.prefill, len(t.items)) for t in out] == [(0, 1)]


def test_stopping_finishes_the_clip_in_progress_and_begins_no_other() -> None:
    table = Timetable("diagonal", 4, 4, 100)
    for _ in range(6):
        tick = table.next()
    assert tick is not None
    assert tick.entered == 6
    assert table.stop_after_clip() == 2
    assert max(w.block for t in ticks(table) for w in t.items) == 7


@pytest.mark.parametrize("field", ["steps", "blocks_per_clip", "clips"])
def test_counts_under_one_are_refused(field: str) -> None:
    counts = {"steps": 1, "blocks_per_clip": 1, "clips": 1, field: 0}
    with pytest.raises(ValueError, match=field):
        Timetable("diagonal", **counts)

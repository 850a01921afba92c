"""Do ranks of a pipeline find their work in an order in which nobody waits in a circle?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.placement.onrank.flow import Flow, Task
from engine.placement.onrank.route import Route
from tests.placement.harness import Cut, plan_of


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[Cut], int, int]:
    """Any cut of a few steps over a few ranks: (stages, steps, the VAE's rank)."""
    steps = draw(st.integers(1, 4))
    ranks = draw(st.integers(1, 4))
    stages: list[Cut] = []
    for step in range(steps):
        ends = [*sorted(draw(st.sets(st.integers(1, 7), max_size=2))), 8]
        firsts = [0, *ends[:-1]]
        for first, end in zip(firsts, ends, strict=True):
            rank = draw(st.integers(0, ranks - 1))
            stages.append((rank, (step, step + 1), (first, end)))
    return stages, steps, draw(st.integers(0, ranks))


def route_of(found: tuple[list[Cut], int, int]) -> Route:
    stages, steps, vae = found
    return Route.of(plan_of(stages, steps=steps, vae_rank=vae))


def tasks(flow: Flow) -> list[Task]:
    out = []
    for task in flow:
        out.append(task)
        assert len(out) < 10_000, "the flow does not end"
    return out


@settings(max_examples=150, deadline=None)
@given(
    found=cuts(), per_clip=st.integers(1, 5), clips=st.integers(1, 4), prefills=st.integers(1, 2)
)
def test_every_task_once_and_after_all_that_it_needs(found, per_clip, clips, prefills) -> None:
    route = route_of(found)
    flow = Flow(route, per_clip, clips, prefills=prefills)
    when = {task: n for n, task in enumerate(tasks(flow))}
    blocks, parts, runs = clips * per_clip, route.parts, route.runs
    place = {(t.kind, t.block, t.at): n for t, n in when.items()}
    assert len(place) == len(when)
    wanted = {("part", b, at) for b in range(blocks) for at in range(len(parts))}
    wanted |= {("final", b, 0) for b in range(blocks)}
    epochs = min(prefills, clips)
    wanted |= {("prefill", c * per_clip, n) for c in range(epochs) for n in range(len(runs))}
    assert set(place) == wanted
    for (kind, block, at), n in place.items():
        if kind == "part":
            if at:
                assert place["part", block, at - 1] < n
            rank, step = parts[at].rank, parts[at].step
            same = [m for m in route.of_step(step) if parts[m].rank == rank]
            if block:  # a ring takes its blocks in order
                assert place["part", block - 1, same[-1]] < n
            first = min(block // per_clip, epochs - 1) * per_clip
            for m, run in enumerate(runs):
                if run.rank == rank:
                    assert place["prefill", first, m] < n
            if at == 0 and block >= flow.window:
                assert place["final", block - flow.window, 0] < n
        elif kind == "final":
            assert place["part", block, len(parts) - 1] < n
        else:
            if block:
                assert place["part", 0, len(parts) - 1] < n
            if runs[at].source is not None:
                assert place["prefill", block, runs[at].source] < n


@settings(max_examples=100, deadline=None)
@given(found=cuts())
def test_every_layer_that_a_rank_holds_is_conditioned_once(found) -> None:
    route = route_of(found)
    for rank in route.ranks:
        runs = [n for run in route.runs if run.rank == rank for n in range(*run.layers)]
        assert tuple(sorted(runs)) == route.layers_on(rank)
    for run in route.runs:
        assert (run.source is None) == (run.layers[0] == 0)
        if run.source is not None:
            assert (run.layers[0], run.rank) in route.runs[run.source].taps


def pace(route: Route) -> float:
    """Time per block amid a long video if each layer takes 1 and messages nothing."""
    flow = Flow(route, 8, 6, prefills=1)
    free = dict.fromkeys(route.everyone, 0)
    done: dict[tuple[str, int, int], int] = {}
    ends: list[int] = []
    for task in flow:
        begin = free[task.rank]
        if task.kind == "part":
            begin = max(begin, done.get(("part", task.block, task.at - 1), 0))
            begin = max(begin, done.get(("final", task.block - flow.window, 0), 0))
        elif task.kind == "final":
            begin = max(begin, done["part", task.block, len(route.parts) - 1])
            ends.append(begin)
        free[task.rank] = done[task.kind, task.block, task.at] = begin + flow._cost(task)
    return (ends[31] - ends[15]) / 16


@pytest.mark.parametrize(
    ("stages", "vae", "wanted"),
    [
        ([(n, (0, 4), (2 * n, 2 * n + 2)) for n in range(4)], 4, 8),  # ring: a quarter of 4 × 8
        ([(n, (n, n + 1), (0, 8)) for n in range(4)], 4, 8),  # tpp
        ([(n, (n, n + 1), (0, 8)) for n in range(4)], 3, 12),  # its last rank decodes too
        ([(0, (0, 2), (0, 8)), (1, (2, 4), (0, 8))], 2, 16),
        ([(n, (0, 1), (4 * n, 4 * n + 4)) for n in range(2)], 2, 4),  # more ranks than steps
    ],
)
def test_the_busiest_rank_never_waits(stages: list[Cut], vae: int, wanted: int) -> None:
    steps = max(stage[1][1] for stage in stages)
    assert pace(Route.of(plan_of(stages, steps=steps, vae_rank=vae))) == wanted


def test_one_rank_works_block_by_block_and_conditions_late() -> None:
    out = tasks(Flow(Route.of(plan_of([(0, (0, 2), (0, 8))], steps=2)), 2, 2, prefills=2))
    assert [(t.kind, t.block) for t in out[:9]] == [
        *[("prefill", 0), ("part", 0), ("part", 0), ("final", 0)],
        *[("part", 1), ("part", 1), ("final", 1), ("prefill", 2), ("part", 2)],
    ]


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ([(0, (0, 4), (0, 4)), (1, (0, 4), (5, 8))], "follow layer 4"),
        ([(0, (0, 4), (0, 5)), (1, (0, 4), (4, 8))], "follow layer 5"),
        ([(0, (0, 2), (0, 8)), (1, (2, 4), (0, 4))], "4-8 of step 2"),
        ([(0, (0, 3), (0, 8))], "0-8 of step 3"),
    ],
)
def test_a_layer_on_no_rank_or_on_two_is_refused(stages: list[Cut], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Route.of(plan_of(stages))

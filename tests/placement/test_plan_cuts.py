"""Does every step of every layer have exactly one rank, whatever the mode and the counts?"""

from __future__ import annotations

import json

import pytest

from engine.placement.place import place
from engine.placement.plan import HostStream, Stage, plan_from_dict
from engine.placement.presets import (
    VAE_STEPS,
    Choice,
    cells_of,
    cut_cells,
    cut_layers,
    cut_steps,
    layers_of,
)
from tests.placement.questions import question


def cells(stages: tuple[Stage, ...]) -> list[tuple[int, int]]:
    return [(step, n) for s in stages for step in range(*s.steps) for n in range(*s.layers)]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 9])
@pytest.mark.parametrize("layers", [1, 8, 40])
def test_is_every_layer_of_every_step_computed_once(steps: int, ranks: int, layers: int) -> None:
    everything = {(step, n) for step in range(steps) for n in range(layers)}
    for spared in (0.0, VAE_STEPS * layers):
        for stages in (
            cut_steps(steps, ranks, layers),
            cut_cells(steps, ranks, layers, spared),
            cut_layers(steps, ranks, layers, spared),
        ):
            got = cells(stages)
            assert len(got) == len(set(got)) == len(everything)
            assert set(got) == everything
            assert sum(cells_of(stages, rank) for rank in range(ranks)) == len(everything)


def test_has_every_rank_work_where_there_is_enough() -> None:
    for ranks in range(1, 17):
        assert {s.rank for s in cut_cells(4, ranks, 40, 20)} == set(range(ranks))
        assert {s.rank for s in cut_layers(4, ranks, 40, 20)} == set(range(ranks))


def test_is_the_vae_counted_in_a_balanced_cut() -> None:
    stages = cut_cells(4, 4, 40, VAE_STEPS * 40)
    work = [cells_of(stages, rank) for rank in range(4)]
    assert work == [44, 44, 44, 28]  # and 16 more for the VAE
    assert layers_of(stages, 3) == tuple(range(12, 40))


def test_may_there_be_more_ranks_than_steps() -> None:
    plan = place(question(6, None), Choice("tpp", 6, "bf16", "bf16", variant="balanced"))
    assert {stage.rank for stage in plan.stages} == set(range(6))
    assert max(cells_of(plan.stages, rank) for rank in range(6)) < 40


def test_runs_a_ring_all_steps_of_a_range_of_layers_on_each_rank() -> None:
    plan = place(question(4, None), Choice("tpp", 4, "bf16", "bf16", variant="ring"))
    assert all(stage.steps == (0, 4) for stage in plan.stages)
    assert plan.stages[0].layers[0] == 0
    assert plan.stages[-1].layers[1] == 40
    assert plan.vae_rank == 3
    # With the VAE's share counted no rank of four holds more than the others' even part.
    assert [len(layers_of(plan.stages, rank)) for rank in range(4)] == [11, 11, 11, 7]


def test_is_the_vae_given_a_rank_of_its_own_or_shares_the_last() -> None:
    for variant in ("", "balanced", "ring", "streamed"):
        shared = place(question(5, None), Choice("tpp", 4, "bf16", "bf16", variant=variant))
        own = Choice("tpp", 4, "bf16", "bf16", own_vae=True, variant=variant)
        assert shared.vae_rank == 3
        alone = place(question(5, None), own)
        assert alone.vae_rank == alone.encoder_rank == 4
        assert not {"weights", "kv"} & set(alone.devices[4].by_owner)


def test_does_offload_walk_diagonally_and_single_in_sequence() -> None:
    offload = place(question(1, None), Choice("offload", 1, "bf16", "bf16"))
    assert offload.order == "diagonal"
    assert isinstance(offload.weights, HostStream)
    single = place(question(1, None), Choice("single", 1, "bf16", "bf16"))
    assert single.order == "sequential"


def test_does_every_kind_of_plan_survive_json() -> None:
    for choice in (
        Choice("offload", 1, "bf16", "bf16", kv="host"),
        Choice("tpp", 3, "fp8", "fp8", variant="streamed"),
        Choice("tpp", 4, "bf16", "bf16", variant="ring"),
        Choice("fsdp", 3, "fp8", "bf16", own_vae=True),
    ):
        plan = place(question(4), choice)
        assert plan_from_dict(json.loads(json.dumps(plan.to_dict()))) == plan

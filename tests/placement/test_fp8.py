"""Does fp8 run wherever bf16 does, with the same bits in every mode and the bytes of the plan?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.checkpoint.expected import DiTShape
from engine.checkpoint.layout import find
from engine.geometry import FrameGeometry
from engine.placement.memory import RankLoad, Shapes, weights_bytes
from engine.placement.plan import HostStream, Plan
from tests.placement.harness import CKPT, SIZE, Case, Outcome, plan_for, plan_of, run

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]

SHAPE = DiTShape.from_config(find(CKPT).config)
CASE = Case(clips=1, dtype="bf16", prefetch=1)
STEPS = 2


def made(plan: Plan) -> list[Outcome]:
    return run(dataclasses.replace(plan, dtype="fp8"), CASE)


@pytest.fixture(scope="module")
def alone() -> Outcome:
    return made(plan_for("single", steps=STEPS, clips=1))[0]


def held(home: str, ranks: int = 1) -> int:
    """Weights on one rank, by the plan."""
    layers = tuple(range(SHAPE.num_layers))
    load = RankLoad(1, layers, home, False, "cpu", shards=ranks)
    return weights_bytes(Shapes(SHAPE, FrameGeometry(*SIZE), "fp8", "bf16"), load)


def test_shards_of_fp8_give_the_bits_of_one_rank(alone: Outcome) -> None:
    ranks = made(plan_for("fsdp", 3, steps=STEPS, clips=1))
    found = {block: latent for rank in ranks for block, latent in rank.latents.items()}
    assert all(np.array_equal(found[block], latent) for block, latent in alone.latents.items())
    assert ranks[0].peak_by_owner["weights"] == held("sharded", 3)


def test_fp8_streams_from_the_host_with_the_same_bits(alone: Outcome) -> None:
    whole = (0, SHAPE.num_layers)
    plan = plan_of(
        [(0, (0, STEPS), whole)],
        steps=STEPS,
        clips=1,
        mode="offload",
        weights=HostStream(slots=2, pinned=False),
    )
    found = made(plan)[0].latents
    assert all(np.array_equal(found[block], latent) for block, latent in alone.latents.items())


def test_a_rank_holds_the_bytes_that_the_plan_says(alone: Outcome) -> None:
    assert alone.peak_by_owner["weights"] == held("resident")

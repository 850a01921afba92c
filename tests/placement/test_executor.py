"""Does every mode give the same video, bit for bit, and does every unshard show?"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from engine.checkpoint.expected import DiTShape
from engine.checkpoint.layout import find
from engine.placement.plan import PeerGather
from engine.placement.units import held_units, units
from tests.placement.harness import CKPT, Case, Outcome, plan_for, run

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]


@functools.cache
def single(steps: int = 4, case: Case = Case()) -> Outcome:  # noqa: B008 - frozen
    return run(plan_for("single", steps=steps), case)[0]


def assert_same_video(outcomes: list[Outcome], wanted: Outcome, vae_rank: int) -> None:
    for rank, outcome in enumerate(outcomes):
        assert bool(outcome.latents) == (rank == vae_rank)
    found = outcomes[vae_rank].latents
    assert sorted(found) == sorted(wanted.latents)
    for block, latent in wanted.latents.items():
        np.testing.assert_array_equal(found[block], latent, strict=True)
        assert np.isfinite(latent).all()
        assert latent.std() > 0.1, "a constant latent would be equal in every mode too"


@pytest.mark.parametrize(
    ("ranks", "steps", "vae", "prefetch"),
    [
        (2, 4, False, 0),
        (3, 4, False, 1),
        (4, 4, False, 0),
        (5, 4, False, 1),  # the fifth is a ghost
        (2, 4, True, 0),
        (2, 1, False, 0),
        (2, 6, True, 1),  # deeper than a clip has blocks
    ],
)
def test_sharded_ranks_give_the_latents_of_a_single_one(
    ranks: int, steps: int, vae: bool, prefetch: int
) -> None:
    plan = plan_for("fsdp", ranks, vae=vae, steps=steps)
    outcomes = run(plan, Case(prefetch=prefetch))
    assert_same_video(outcomes, single(steps), plan.vae_rank)


def test_every_rank_gathers_every_unit_once_per_walk_in_the_same_order() -> None:
    outcomes = run(plan_for("fsdp", 3, steps=2), Case(clips=1, infer_frames=24))
    shape = DiTShape.from_config(find(CKPT).config)
    size = {unit.name: unit.params * 4 for unit in held_units(shape, 3)}
    for outcome in outcomes:
        assert len(outcome.records) == outcome.ticks == 3  # 2 blocks, 1 to drain
        for tick in outcome.records:
            assert {record.unit: record.bytes for record in tick} == size
            assert len(tick) == len(size)
            assert [r.unit for r in tick] == [r.unit for r in outcomes[0].records[0]]
            assert all(record.seconds >= 0 for record in tick)
            assert all((record.transient_bytes or 0) > 0 for record in tick)
        # A gather's buffer and its copy: what one unit takes beside the root, at least.
        assert outcome.peak_by_owner["gathered"] > size["root"] + size["layer 0"]


def test_both_wrappings_give_the_same_latents_and_the_sizes_they_were_planned_with() -> None:
    """The reference leaves injectors, embeddings and head in one unit: its spike is the largest."""
    shape = DiTShape.from_config(find(CKPT).config)
    plan = plan_for("fsdp", 2)
    theirs = dataclasses.replace(plan, weights=PeerGather((0, 1), "reference"))
    outcomes = run(theirs, Case(prefetch=2, threshold=1))
    assert_same_video(outcomes, single(), plan.vae_rank)
    table = {unit.name: unit for unit in units(shape, 2, "reference")}
    assert max(table.values(), key=lambda unit: unit.params).name == "root"
    for outcome in outcomes:
        for tick in outcome.records:
            found = {record.unit: record for record in tick}
            assert {n: r.bytes for n, r in found.items()} == {
                n: unit.params * 4 for n, unit in table.items()
            }
            # The gather's buffer and the parameters that are copied out of it.
            assert (found["root"].transient_bytes or 0) >= 2 * table["root"].padded * 4
    spikes = [spike for outcome in outcomes for spike in outcome.spikes]
    assert {spike.owner for spike in spikes if spike.owner.startswith("gathered")} == {
        "gathered: root"
    }


def test_a_rise_above_the_threshold_is_flagged_with_its_owner() -> None:
    low = run(plan_for("fsdp", 2, steps=1), Case(clips=1, infer_frames=12, threshold=1))
    gathered = [spike for spike in low[0].spikes if spike.owner.startswith("gathered: ")]
    assert len(gathered) == low[0].ticks, "the largest of each walk"
    assert {spike.owner for spike in gathered} == {"gathered: root"}
    for spike in gathered:
        assert spike.peak == spike.level + spike.bytes > spike.threshold
    high = run(plan_for("fsdp", 2, steps=1), Case(clips=1, infer_frames=12, threshold=1 << 50))
    assert not high[0].spikes


def test_a_stop_ends_every_rank_after_the_same_clip() -> None:
    case = Case(clips=5, infer_frames=24, stop_at_tick=3)
    outcomes = run(plan_for("fsdp", 2, vae=True, clips=5), case)
    assert [outcome.clips for outcome in outcomes] == [1, 1, 1]
    assert sorted(outcomes[2].latents) == [0, 1]
    assert outcomes[0].prefills == [0], "a clip that is not made is not conditioned"

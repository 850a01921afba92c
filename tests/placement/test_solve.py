"""What does a plan cost, where does everything go, and does it fit?"""

from __future__ import annotations

import json

import pytest

from engine.checkpoint.expected import DiTShape
from engine.parameters.modes import ModeReading
from engine.parameters.request import Request
from engine.placement.plan import PeerGather, Plan, plan_from_dict
from engine.placement.solve import DeviceOffer, cut_steps, solve
from engine.placement.units import DTYPE_BYTES, held_units, units

FOURTEEN_B = DiTShape(
    dim=5120,
    num_heads=40,
    num_layers=40,
    ffn_dim=13824,
    audio_inject_layers=(0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
)
SMALL = DiTShape(dim=50 * 4, num_heads=4, num_layers=3, ffn_dim=333, audio_inject_layers=(0, 2))
GIB = 2**30


def make(mode: str, ranks: int = 1, *, vae: bool = False, usable: float | None = None, **request):
    reading = ModeReading(mode, ranks + vae, ranks, vae)
    free = None if usable is None else int(usable * GIB)
    offers = [DeviceOffer(f"cuda:{n}", f"GPU-{n}", free, free) for n in range(ranks + vae)]
    return solve(Request(**request), reading, FOURTEEN_B, offers, size=(704, 384), clips=10)


def test_the_articles_root_unit_comes_out_to_the_byte() -> None:
    root = next(u for u in units(FOURTEEN_B, 4, "reference") if u.name == "root")
    assert root.params == 2_239_983_449
    assert round(root.params * DTYPE_BYTES["bf16"] / GIB, 4) == 4.1723


def test_with_our_wrapping_no_unit_exceeds_two_thirds_of_a_gib() -> None:
    plan = make("fsdp", 4)
    assert plan.unshard is not None
    assert plan.unshard.max_unit_bytes <= 0.66 * GIB
    assert plan.unshard.root_unit_bytes < plan.unshard.max_unit_bytes * 1.01


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7])
def test_shards_of_all_ranks_hold_every_parameter_and_only_padding_more(ranks: int) -> None:
    for unit in units(SMALL, ranks):
        assert unit.params <= unit.padded == unit.shard * ranks
        # A tensor is padded by less than one row per rank.
        assert unit.padded < unit.params + ranks * 20_000
    if ranks == 1:
        assert all(unit.params == unit.padded for unit in units(SMALL, 1))


@pytest.mark.parametrize(
    ("steps", "ranks", "cuts"),
    [
        (4, 1, [(0, 4)]),
        (4, 2, [(0, 2), (2, 4)]),
        (4, 3, [(0, 2), (2, 3), (3, 4)]),
        (4, 4, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (4, 6, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (1, 3, [(0, 1)]),
        (7, 3, [(0, 3), (3, 5), (5, 7)]),
    ],
)
def test_steps_are_cut_evenly_and_in_order(steps: int, ranks: int, cuts: list) -> None:
    stages = cut_steps(steps, ranks, 40)
    assert [stage.steps for stage in stages] == cuts
    assert [stage.rank for stage in stages] == list(range(len(cuts)))


def test_single_holds_everything_on_one_rank() -> None:
    plan = make("single", usable=139)
    assert plan.world_size == 1
    assert plan.vae_rank == plan.encoder_rank == 0
    assert plan.order == "sequential"
    assert plan.unshard is None
    owners = plan.devices[0].by_owner
    # Less what is needed once: the prompt's projections in 40 layers, text and time embeddings.
    once = 40 * (2 * (5120 * 5120 + 5120) + 5120) + (4096 + 5120 + 2) * 5120
    once += (256 + 5120 + 2) * 5120 + (5120 + 1) * 6 * 5120
    assert owners["weights"] == 2 * (16_295_755_609 - once)
    # Four rings of 12 latent frames with the conditions in front: 15,312 tokens, 40 layers.
    assert owners["kv"] == 4 * 2 * 40 * (12_672 + 2_640) * 5120 * 2
    assert plan.fits


def test_fsdp_has_ghosts_beyond_the_steps_and_the_vae_where_the_last_step_is() -> None:
    plan = make("fsdp", 6)
    assert plan.vae_rank == 3
    assert "kv" not in plan.devices[5].by_owner
    assert plan.devices[5].by_owner["weights"] == plan.devices[0].by_owner["weights"]
    assert isinstance(plan.weights, PeerGather)


def test_a_vae_of_its_own_gets_one_more_rank_that_holds_no_weights() -> None:
    plan = make("fsdp", 4, vae=True)
    assert plan.world_size == 5
    assert plan.vae_rank == plan.encoder_rank == 4
    assert "weights" not in plan.devices[4].by_owner
    assert isinstance(plan.weights, PeerGather)
    assert plan.weights.group == (0, 1, 2, 3)


def test_a_misfit_says_which_rank_lacks_how_much_and_what_takes_it() -> None:
    plan = make("fsdp", 4, usable=12)
    assert not plan.fits
    assert plan.reasons[0].startswith("rank 0 on cuda:0 needs ")
    assert "12.00 GiB can be used" in plan.reasons[0]
    assert "kv " in plan.reasons[0]


def test_what_is_not_built_is_refused_with_the_reason() -> None:
    plan = make("single", dtype="fp32", kv_dtype="bf16")
    assert not plan.fits
    assert "keys and values in bf16 are not built" in plan.reasons[0]


def test_cpu_ranks_share_the_hosts_memory() -> None:
    reading = ModeReading("fsdp", 3, 3)
    offer = DeviceOffer("cpu", None, 5 * GIB, 5 * GIB)
    few = solve(Request(), reading, SMALL, [offer], size=(256, 256), clips=2)
    assert few.dtype == "fp32"
    assert few.fits, few.reasons
    many = ModeReading("fsdp", 9, 9)
    crowd = solve(Request(), many, SMALL, [offer], size=(256, 256), clips=2)
    assert not crowd.fits
    assert "9 CPU ranks need" in crowd.reasons[0]


def test_spike_thresholds_are_the_prediction_and_one_block_unless_asked_otherwise() -> None:
    plan = make("fsdp", 4)
    one_block = plan.spike_threshold_bytes[0] - plan.devices[0].predicted_bytes
    layer = next(u for u in held_units(FOURTEEN_B, 1) if u.name == "layer 0")
    assert one_block == layer.params * 2
    assert make("fsdp", 4, spike_threshold=77).spike_threshold_bytes == (77,) * 4


def test_a_plan_survives_json() -> None:
    plan = make("fsdp", 3, vae=True)
    again: Plan = plan_from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan

"""Are bytes counted as they are allocated, and is nothing forgotten?"""

from __future__ import annotations

import dataclasses

import pytest

from engine.geometry import FrameGeometry
from engine.placement.memory import (
    RankLoad,
    Shapes,
    conditioning_bytes,
    kv_bytes,
    layer_bytes,
    ring_bytes,
)
from engine.placement.place import place
from engine.placement.plan import HostStream
from engine.placement.presets import Choice, layers_of
from engine.placement.units import held_units, units
from tests.placement.questions import FOURTEEN_B, GIB, question

BF16 = Shapes(FOURTEEN_B, FrameGeometry(704, 384), "bf16", "bf16")


def test_how_much_does_fp8_save() -> None:
    table = units(FOURTEEN_B, 1)
    assert sum(unit.params for unit in table) == 16_295_755_609
    assert sum(unit.bytes("bf16") for unit in table) / GIB == pytest.approx(30.35, abs=0.01)
    # A byte for each element of 460 matrices, and a scale for each of their rows.
    assert sum(unit.bytes("fp8") for unit in table) / GIB == pytest.approx(15.51, abs=0.02)


def test_is_a_ring_with_its_room_for_conditions_counted() -> None:
    load = RankLoad(40, tuple(range(40)), "resident", vae=False, device="cuda")
    room, ring, token = 2_640, 12_672, 2 * 5120 * 2
    assert kv_bytes(BF16, load) == 40 * (ring + room) * token
    # One window for all rings of a rank, where they share it or are stored otherwise.
    shared = dataclasses.replace(load, lead="shared")
    assert kv_bytes(BF16, shared) == (40 * ring + ring + room) * token
    fp8 = Shapes(FOURTEEN_B, BF16.frame, "bf16", "fp8")
    assert ring_bytes(fp8, 40) == 40 * ring * 2 * (5120 + 4 * 40)
    assert kv_bytes(fp8, load) == ring_bytes(fp8, 40) + (ring + room) * token


def test_is_conditioning_counted_once_and_only_what_is_asked_for_again() -> None:
    load = RankLoad(40, tuple(range(40)), "sharded", vae=False, device="cuda", together=True)
    token, text = 40 * 2 * 5120 * 2, 40 * 512 * 2 * 5120 * 2
    reference = 1_056 * token // 2  # its keys, un-rotated: the rest lies in the rings
    assert conditioning_bytes(BF16, load) == reference + text
    two = dataclasses.replace(load, epochs=2)
    assert conditioning_bytes(BF16, two) == 2 * reference + text
    apart = dataclasses.replace(load, together=False)
    assert conditioning_bytes(BF16, apart) == 2_640 * token + text
    shared = dataclasses.replace(two, lead="shared")
    assert conditioning_bytes(BF16, shared) == 2 * 2_640 * token + text


def test_do_four_capped_cards_hold_the_model_at_all() -> None:
    """The plans that the 24 GB cards run: four ranks, and one with its layers streamed."""
    for choice, most in (
        (Choice("tpp", 4, "bf16", "bf16", variant="streamed"), 21.0),
        (Choice("tpp", 4, "bf16", "bf16", variant="ring"), 21.5),
        (Choice("fsdp", 4, "fp8", "bf16"), 21.0),
        (Choice("offload", 1, "bf16", "bf16", kv="host", resident_layers=0), 21.0),
    ):
        plan = place(question(choice.dit_ranks), choice)
        assert plan.fits, plan.reasons
        assert max(d.predicted_bytes for d in plan.devices) < most * GIB, choice


@pytest.mark.parametrize("variant", ["", "balanced", "ring"])
def test_do_all_ranks_together_hold_the_model_and_its_caches(variant: str) -> None:
    plan = place(question(4, None), Choice("tpp", 4, "bf16", "bf16", variant=variant))
    total = {
        owner: sum(device.by_owner.get(owner, 0) for device in plan.devices)
        for owner in ("weights", "kv")
    }
    token = 2 * 5120 * 2
    assert total["kv"] == 160 * (12_672 + 2_640) * token
    parts = layer_bytes(BF16)
    root = next(u.bytes("bf16") for u in held_units(FOURTEEN_B, 1) if u.name == "root")
    held = sum(parts[n] for rank in range(4) for n in layers_of(plan.stages, rank))
    assert total["weights"] == held + 4 * root


def test_keeps_streaming_only_slots_and_what_stays() -> None:
    plan = place(question(1, None), Choice("offload", 1, "bf16", "bf16", slots=2))
    owners = plan.devices[0].by_owner
    assert owners["streamed"] == 2 * max(layer_bytes(BF16))
    assert owners["weights"] < 0.7 * GIB
    assert plan.host is not None
    assert plan.host.pinned_bytes == sum(layer_bytes(BF16))


def test_stay_as_many_layers_as_memory_allows() -> None:
    stays = []
    for usable in (21, 30, 40, 200):
        plan = place(question(1, usable), Choice("offload", 1, "bf16", "bf16", kv="host"))
        assert plan.fits, plan.reasons
        assert isinstance(plan.weights, HostStream)
        stays.append(plan.weights.resident_layers)
        assert plan.host is not None
        parts = layer_bytes(BF16)
        rings = ring_bytes(BF16, 160)
        assert plan.host.pinned_bytes == sum(parts[stays[-1] :]) + rings
    assert stays == sorted(stays)
    assert stays[0] > 0


def test_is_host_memory_shared_by_all_ranks_counted_once() -> None:
    one = place(question(1, None), Choice("offload", 1, "bf16", "bf16"))
    four = place(question(4, None), Choice("tpp", 4, "bf16", "bf16", variant="streamed"))
    assert one.host is not None
    assert four.host is not None
    assert one.host.pinned_bytes == four.host.pinned_bytes


def test_are_gathers_of_the_references_units_larger_than_ours() -> None:
    ours = place(question(4), Choice("fsdp", 4, "bf16", "bf16")).unshard
    theirs = place(question(4), Choice("fsdp", 4, "bf16", "bf16", wrap="reference")).unshard
    assert ours is not None
    assert theirs is not None
    assert theirs.root_unit_bytes == theirs.max_unit_bytes == 2 * 2_239_983_449
    assert theirs.transient_bytes > 8.3 * GIB  # the gather's buffer and its copy
    assert ours.max_unit_bytes <= 0.66 * GIB
    assert ours.transient_bytes <= 2.1 * GIB


@pytest.mark.parametrize(
    ("choice", "plain", "ours"),
    [
        (Choice("tpp", 4, "fp8", "bf16", own_vae=True), 28.8, 28.5),
        (Choice("tpp", 4, "fp8", "fp8", own_vae=True), 22.9, 22.1),
        (Choice("tpp", 4, "fp8", "bf16", variant="streamed", own_vae=True), 16.7, 15.2),
        (Choice("tpp", 4, "bf16", "bf16", variant="streamed", own_vae=True), 19.4, 16.5),
        (Choice("fsdp", 4, "bf16", "bf16", own_vae=True), 22.9, 23.4),
        (Choice("fsdp", 4, "fp8", "bf16", own_vae=True), 18.2, 19.35),
    ],
)
def test_do_the_figures_of_the_24_gb_table_come_out(
    choice: Choice, plain: float, ours: float
) -> None:
    """Of docs/plan.md, whose plain estimates count one ring per step and one conditioning cache."""
    choice = dataclasses.replace(choice, resident_layers=0)
    predicted = place(question(5), choice).devices[0].predicted_bytes / GIB
    assert predicted == pytest.approx(ours, abs=0.1)
    assert predicted == pytest.approx(plain, abs=3.0)


def test_is_nothing_counted_for_owners_that_a_rank_lacks() -> None:
    plan = place(question(5), Choice("tpp", 4, "bf16", "bf16", own_vae=True))
    assert "vae" not in plan.devices[0].by_owner
    assert set(plan.devices[4].by_owner) == {"vae", "context", "other"}

"""Are bytes counted as they are allocated, and is nothing forgotten?"""

from __future__ import annotations

import pytest

from engine.geometry import FrameGeometry
from engine.placement.memory import (
    KERNEL_BYTES,
    NCCL_BYTES,
    Shapes,
    kv_bytes,
    layer_bytes,
    units,
)
from engine.placement.place import place
from engine.placement.plan import HostStream
from engine.placement.presets import Choice, layers_of
from tests.placement.questions import FOURTEEN_B, GIB, question

BF16 = Shapes(FOURTEEN_B, FrameGeometry(704, 384), "bf16", "bf16")


def test_how_much_does_fp8_save() -> None:
    table = units(FOURTEEN_B, 1)
    assert sum(unit.params for unit in table) == 16_295_755_609
    assert sum(unit.bytes("bf16") for unit in table) / GIB == pytest.approx(30.35, abs=0.01)
    # A byte for each element of 460 matrices, and a scale for each of their rows.
    assert sum(unit.bytes("fp8") for unit in table) / GIB == pytest.approx(15.51, abs=0.02)


def test_is_a_ring_with_its_room_for_conditions_counted() -> None:
    whole = kv_bytes(BF16, 40)
    assert whole == 2 * 40 * (12_672 + 2_640) * 5120 * 2
    assert kv_bytes(Shapes(FOURTEEN_B, BF16.frame, "fp8", "fp8"), 40) * 2 == whole


@pytest.mark.parametrize("variant", ["", "balanced", "ring"])
def test_do_all_ranks_together_hold_the_model_and_its_caches(variant: str) -> None:
    plan = place(question(4, None), Choice("tpp", 4, "bf16", "bf16", variant=variant))
    total = {
        owner: sum(device.by_owner.get(owner, 0) for device in plan.devices)
        for owner in ("weights", "kv")
    }
    assert total["kv"] == kv_bytes(BF16, 160)
    parts = layer_bytes(BF16)
    root = next(u.bytes("bf16") for u in units(FOURTEEN_B, 1) if u.name == "root")
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
        rings = kv_bytes(BF16, 160)
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


def test_does_the_table_of_24_gb_plans_come_out_with_what_we_allocate_besides() -> None:
    """The plain estimates count one ring per step and one conditioning cache. Ours differ by the
    ring's room for conditions, the prompt's keys, a second epoch, and NCCL's buffers."""
    token = 2 * 40 * 5120 * 2
    besides = (2_640 + 512) * token / GIB + (KERNEL_BYTES + NCCL_BYTES["gathers"]) / GIB
    for choice, plain, own in (
        (Choice("tpp", 4, "fp8", "bf16", own_vae=True), 28.8, 0.0),
        (Choice("fsdp", 4, "bf16", "bf16", own_vae=True), 22.9, 0.62),
        (Choice("fsdp", 4, "fp8", "bf16", own_vae=True), 18.2, 0.60),
    ):
        plan = place(question(5), choice)
        assert plan.devices[0].predicted_bytes / GIB == pytest.approx(
            plain + besides + own - 0.4, abs=0.15
        )
        assert not plan.fits or plan.devices[0].predicted_bytes < 22.15 * GIB


def test_is_nothing_counted_for_owners_that_a_rank_lacks() -> None:
    plan = place(question(5), Choice("tpp", 4, "bf16", "bf16", own_vae=True))
    assert "vae" not in plan.devices[0].by_owner
    assert set(plan.devices[4].by_owner) == {"vae", "context", "other"}

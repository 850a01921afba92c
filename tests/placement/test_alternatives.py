"""What would fit instead, what does it change, and what does auto pick?"""

from __future__ import annotations

import pytest

from engine.parameters.modes import ModeReading
from engine.placement import alternatives as others
from engine.placement.alternatives import alternatives, choose, overview
from engine.placement.place import place
from engine.placement.plan import DType, Plan
from engine.placement.presets import Choice
from engine.placement.solve import solve
from tests.placement.questions import FOURTEEN_B, GIB, question

ASKED = Choice("tpp", 4, "bf16", "bf16")


def test_are_four_24_gb_cards_told_what_would_fit_them() -> None:
    asked = question(4)
    assert not place(asked, ASKED).fits
    found = alternatives(asked, ASKED)
    assert found
    assert all(one.plan.fits for one in found)
    changes = [len(one.alters_output) for one in found]
    assert changes == sorted(changes)  # first those that leave the output alone
    assert changes[0] == 0
    assert {"dtype", "KV precision"} <= {c for one in found for c in one.alters_output}


def test_does_an_alternative_say_all_that_it_changes() -> None:
    for one in alternatives(question(4), ASKED):
        changed = []
        if one.plan.dtype != "bf16":
            changed.append("dtype")
        if one.plan.kv_dtype != "bf16":
            changed.append("KV precision")
        if one.size != (704, 384):
            changed.append("size")
        assert list(one.alters_output) == changed
        assert ("--fp8" in one.flags) == ("dtype" in changed)
        assert ("--kv_dtype fp8" in one.flags) == ("KV precision" in changed)


def test_is_a_smaller_frame_offered_where_nothing_else_fits() -> None:
    asked = question(1, 8.5, capability=(8, 0))
    found = alternatives(asked, Choice("single", 1, "bf16", "bf16"))
    assert found
    assert {one.alters_output for one in found} == {("size",)}
    assert all("--size " in one.flags for one in found)


def test_is_a_small_host_told_what_fits_it() -> None:
    asked = question(1, host=20)
    streamed = Choice("offload", 1, "bf16", "bf16", kv="host")
    assert not place(asked, streamed).fits
    found = alternatives(asked, streamed)
    assert {one.alters_output for one in found} == {("dtype", "size")}


def test_is_fp8_never_offered_to_cards_that_lack_it() -> None:
    found = alternatives(question(4, capability=(8, 6)), ASKED)
    assert found
    assert not any("fp8" in (one.plan.dtype, one.plan.kv_dtype) for one in found)


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "altered"),
    [
        ("fp8", "bf16", ("dtype",)),
        ("bf16", "fp8", ("KV precision",)),
        ("fp8", "fp8", ("dtype", "KV precision")),
    ],
)
def test_are_cards_without_fp8_told_what_they_can_run(
    dtype: DType, kv_dtype: DType, altered: tuple[str, ...]
) -> None:
    asked = question(4, capability=(8, 0), fp8=dtype == "fp8", kv_dtype=kv_dtype)
    found = alternatives(asked, Choice("tpp", 4, dtype, kv_dtype))
    assert found
    assert all(one.plan.fits and one.alters_output == altered for one in found)
    assert not any("fp8" in one.flags for one in found)
    refused = choose(asked)
    assert not refused.possible
    assert "fp8 needs 8.9" in refused.reasons[0]
    assert max(d.predicted_bytes for d in refused.devices) > 10 * GIB  # not the emptiest of all


def test_are_keys_on_the_host_among_what_fits_in_every_mode() -> None:
    asked = question(4)
    choice = Choice("fsdp", 4, "bf16", "bf16")
    first = alternatives(asked, choice)[0]
    assert first.flags == "--mode fsdp --num_gpus_dit 4 --kv_home host"
    best = {(p.mode, p.variant): p for _, p in overview(asked, choice)}
    assert best["fsdp", ""].fits
    assert best["fsdp", ""].kv == "host"
    roomy = {(p.mode, p.variant): p for _, p in overview(question(4, 50), choice)}
    assert roomy["single", ""].fits
    assert roomy["single", ""].kv == "host"
    assert roomy["tpp", ""].kv == "device"  # fits so already, which is faster


def test_come_alternatives_that_run_before_those_that_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ring_only(plan: Plan) -> tuple[str, ...]:
        return () if plan.variant == "streamed" else ("not built",)

    monkeypatch.setattr(others, "unbuilt", ring_only)
    first = alternatives(question(4), ASKED)[0]
    assert first.built
    assert first.plan.variant == "streamed"


def test_is_every_mode_shown_side_by_side() -> None:
    lines = overview(question(5, 40), ASKED)
    assert [(plan.mode, plan.variant) for _, plan in lines] == [
        ("single", ""),
        ("offload", ""),
        ("tpp", ""),
        ("tpp", "balanced"),
        ("tpp", "ring"),
        ("tpp", "streamed"),
        ("fsdp", ""),
    ]
    assert all(plan.reasons for _, plan in lines if not plan.fits)
    assert len({plan.dtype for _, plan in lines}) == 1


def test_does_auto_pick_the_fastest_that_fits_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "unbuilt", lambda _: ())
    roomy = choose(question(4, 139))
    assert roomy.mode == "tpp"
    assert roomy.fits
    assert roomy.remarks[0].startswith("Mode auto picked ")
    assert choose(question(1, 139)).mode == "single"
    tight = choose(question(1, 22.15))
    assert tight.fits
    assert tight.mode == "offload"
    assert any("single does not fit" in remark for remark in tight.remarks)


def test_does_auto_pick_only_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def sharded_only(plan: Plan) -> tuple[str, ...]:
        return () if plan.mode in ("single", "fsdp") else (f"{plan.mode} is not built",)

    monkeypatch.setattr(others, "unbuilt", sharded_only)
    plan = choose(question(4, 139))
    assert plan.mode == "fsdp"
    assert plan.fits
    assert any("not built yet" in remark for remark in plan.remarks)


def test_does_auto_without_anything_that_fits_name_the_nearest() -> None:
    plan = choose(question(1, 2))
    assert not plan.fits
    assert plan.reasons
    assert "found nothing that fits" in plan.remarks[0]


def test_does_auto_keep_what_was_asked_of_the_output() -> None:
    plan = choose(question(4, 60, kv_dtype="fp8"))
    assert plan.kv_dtype == "fp8"
    assert plan.dtype == "bf16"


def test_can_a_launch_ask_for_auto() -> None:
    asked = question(2, 139)
    plan = solve(
        asked.request,
        ModeReading("auto", 2, 2),
        FOURTEEN_B,
        asked.devices,
        size=asked.size,
        clips=asked.clips,
    )
    assert plan.fits, plan.reasons
    assert plan.mode in ("single", "fsdp", "tpp", "offload")

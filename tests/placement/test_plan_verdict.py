"""Does a verdict say what is wrong, with the figures, and refuse what would hurt?"""

from __future__ import annotations

import dataclasses

import pytest

from engine.checkpoint.expected import DiTShape
from engine.parameters.request import Request
from engine.placement.hardware import DeviceOffer, HostOffer, hypothetical, parse_capability
from engine.placement.place import ask, place
from engine.placement.presets import Choice
from engine.placement.verdict import measured_misfit
from tests.placement.questions import GIB, TINY, question

FP8 = Choice("tpp", 4, "fp8", "bf16", variant="ring")


def test_is_the_articles_sum_judged_as_they_did() -> None:
    root = 2 * 2_239_983_449
    fits, sentence = measured_misfit(int(21.48 * GIB), root, int(22.15 * GIB))
    assert not fits
    assert "21.48 + 4.17 = 25.65 > 22.15" in sentence
    fits, sentence = measured_misfit(int(21.48 * GIB), root, 80 * GIB)
    assert fits
    assert "<= 80.00" in sentence
    assert measured_misfit(GIB, root, None)[0]


@pytest.mark.parametrize(("steady", "fits"), [(21.48, True), (23.0, False)])
def test_is_nothing_gathered_where_a_mode_gathers_nothing(steady: float, fits: bool) -> None:
    judged, sentence = measured_misfit(int(steady * GIB), 0, int(22.15 * GIB), "tpp")
    assert judged == fits
    assert "mode tpp gathers nothing" in sentence
    assert "+" not in sentence


@pytest.mark.parametrize(("capability", "fits"), [((8, 9), True), ((9, 0), True), ((8, 6), False)])
def test_is_fp8_refused_below_8_9(capability: tuple[int, int], fits: bool) -> None:
    plan = place(question(4, 80, capability=capability), FP8)
    assert plan.fits == fits
    if not fits:
        assert "compute capability 8.6 (sm_86): fp8 needs 8.9" in plan.reasons[0]


def test_is_an_unknown_capability_told_and_not_refused() -> None:
    plan = place(question(4, 80, capability=None), FP8)
    assert plan.fits
    assert any("compute capability is not known" in remark for remark in plan.remarks)


def test_do_cpu_ranks_take_fp8() -> None:
    asked = ask(
        Request(), TINY, [DeviceOffer("cpu", None, 8 * GIB, 8 * GIB)], size=(256, 256), clips=2
    )
    assert place(asked, Choice("single", 1, "fp8", "bf16")).fits


def test_is_a_launch_refused_that_would_bring_the_host_down() -> None:
    streamed = Choice("offload", 1, "bf16", "bf16", kv="host")
    assert place(question(1, 24, host=128), streamed).fits
    plan = place(question(1, 24, host=32), streamed)
    assert not plan.fits
    assert "the host would need" in plan.reasons[0]
    assert "32.00 GiB are available" in plan.reasons[0]


def test_is_a_device_not_blamed_for_what_the_host_lacks() -> None:
    # A ring on four fits each card by one of its options; the mirror fits this host by none.
    asked = question(4, host=50, mirror="on")
    (reason,) = place(asked, Choice("tpp", 4, "bf16", "bf16", variant="ring")).reasons
    assert reason.startswith("the host would need")


def test_is_it_told_when_a_switch_would_not_fit_the_host() -> None:
    plan = place(question(4, 139, host=30), Choice("tpp", 4, "bf16", "bf16"))
    assert plan.fits
    assert any("A switch would hold" in remark for remark in plan.remarks)


def test_is_the_disk_counted() -> None:
    asked = dataclasses.replace(question(1, 139, clips=1000), host=HostOffer(None, 1 << 20))
    plan = place(asked, Choice("single", 1, "bf16", "bf16"))
    assert any("of disk" in reason for reason in plan.reasons)


def test_may_the_text_encoder_run_on_the_host() -> None:
    choice = Choice("tpp", 4, "fp8", "fp8", variant="ring")
    for t5_cpu, fits in ((False, False), (True, True)):
        asked = dataclasses.replace(
            question(4, 16, host=64, size=(384, 256), t5_cpu=t5_cpu), encoder_file_bytes=17 * GIB
        )
        plan = place(asked, choice)
        assert plan.fits == fits, plan.reasons
        assert plan.encoder_device == ("host" if t5_cpu else "device")
        if not fits:
            assert "--t5_cpu" in plan.reasons[0]


def test_is_a_margin_kept_where_something_is_estimated() -> None:
    plan = place(question(1, None), Choice("single", 1, "bf16", "bf16"))
    device = plan.devices[0]
    assert 0 < device.margin_bytes < device.predicted_bytes / 10
    short = (device.predicted_bytes + device.margin_bytes // 2) / GIB
    refused = place(question(1, short), Choice("single", 1, "bf16", "bf16"))
    assert not refused.fits
    assert "margin" in refused.reasons[0]


def test_are_too_many_ranks_and_too_few_layers_refused() -> None:
    assert (
        "the plan needs 5 GPUs, 4 can be used"
        in place(question(4, 139), Choice("tpp", 4, "bf16", "bf16", own_vae=True)).reasons
    )
    shape = DiTShape(dim=128, num_heads=4, num_layers=3, ffn_dim=256, audio_inject_layers=(0,))
    asked = ask(Request(), shape, hypothetical(5, GIB * 20), size=(256, 256), clips=1)
    plan = place(asked, Choice("tpp", 5, "bf16", "bf16", variant="ring"))
    assert "--num_gpus_dit 3" in plan.reasons[0]
    assert not place(asked, Choice("fsdp", 1, "bf16", "bf16")).fits


def test_is_a_time_null_until_it_was_measured_and_a_copys_floor_told() -> None:
    streamed = Choice("offload", 1, "bf16", "bf16", kv="host", resident_layers=0)
    plan = place(question(1, 139, link=55e9), streamed)
    assert plan.seconds_per_block is None
    # 25.79 GiB over 55 GB/s.
    assert any("0.50 s a block at the least" in remark for remark in plan.remarks)


@pytest.mark.parametrize("text", ["8.9", "89", "sm_89", "SM89"])
def test_may_a_capability_be_written_in_any_usual_way(text: str) -> None:
    assert parse_capability(text) == (8, 9)


def test_is_a_bad_capability_refused() -> None:
    with pytest.raises(ValueError, match="write it as"):
        parse_capability("ada")

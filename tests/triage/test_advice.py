"""Advice: does it follow the figures, and keep silent where there are none?"""

from __future__ import annotations

import json

from engine.media.findings import Finding as MediaFinding
from engine.triage.advice import Advice, Alternative, Measured, advise
from engine.triage.quality import quality_findings

GIB = 1 << 30


def only(state: Measured) -> Advice:
    (advice,) = advise(state)
    return advice


def test_nothing_measured_nothing_advised() -> None:
    assert advise(Measured()) == []
    assert advise(Measured(mode="single", size="704*384", steps=4, fps=3.0)) == []


def test_foreign_memory_and_slack_are_told_with_their_bytes() -> None:
    foreign = only(Measured(by_owner=({"weights": GIB}, {"foreign": 3 * GIB})))
    assert (foreign.goal, foreign.alters_output, foreign.basis) == ("smaller", False, "measured")
    assert "3.00 GiB" in foreign.text
    assert foreign.change == {"kill_holder": 1}
    slack = only(Measured(peaks=(20 * GIB,), by_owner=({"slack": 4 * GIB},)))
    assert slack.figures == {"bytes": 4 * GIB, "share": 0.2}
    assert advise(Measured(peaks=(20 * GIB,), by_owner=({"slack": GIB},))) == []


def test_a_large_root_unit_is_wrapped_only_where_it_is_the_reference_s() -> None:
    unshard = {"root_unit_bytes": 4 * GIB, "max_unit_bytes": GIB, "transient_bytes": GIB}
    plan = {"unshard": unshard, "weights": {"kind": "peer_gather", "wrap": "reference"}}
    assert only(Measured(plan=plan)).change == {"fsdp_wrap": "block"}
    plan["weights"] = {"kind": "peer_gather", "wrap": "block"}
    assert advise(Measured(plan=plan)) == []


def test_uneven_stages_promise_no_more_than_their_mean() -> None:
    advice = only(Measured(mode="tpp", stage_seconds=(1.0, 1.0, 2.0)))
    assert advice.figures["speedup"] == 1.5
    assert advise(Measured(mode="tpp", stage_seconds=(1.0, 1.02, 1.01))) == []
    # Decoding is never cut: it bounds what an even cut gives.
    bound = only(Measured(mode="tpp", stage_seconds=(1.0, 1.0, 2.0), decode_seconds=1.6))
    assert bound.figures["speedup"] == 1.25
    assert advise(Measured(mode="tpp", stage_seconds=(0.4, 0.4, 1.2), decode_seconds=1.2)) == []


def test_the_decoder_gets_a_device_of_its_own_only_where_it_shares_one() -> None:
    state = {"decode_seconds": 0.4, "seconds_per_block": 2.0}
    shared = {"vae_rank": 0, "stages": [{"rank": 0}]}
    assert only(Measured(plan=shared, **state)).change == {"enable_vae_parallel": True}  # type: ignore[arg-type]
    alone = {"vae_rank": 1, "stages": [{"rank": 0}]}
    assert advise(Measured(plan=alone, **state)) == []  # type: ignore[arg-type]


def test_steps_cost_time_only_where_they_run_one_after_another() -> None:
    state = {"steps": 4, "step_seconds": 0.5, "seconds_per_block": 2.5}
    fewer = only(Measured(mode="single", **state))  # type: ignore[arg-type]
    assert fewer.alters_output
    assert fewer.figures == {"seconds": 0.5, "share": 0.2}
    assert advise(Measured(mode="tpp", **state)) == []  # type: ignore[arg-type]
    fast = advise(Measured(mode="single", fps=40.0, target_fps=25.0, **state))  # type: ignore[arg-type]
    assert [a.goal for a in fast] == ["faster", "better"]
    assert fast[1].change == {"sample_steps": 5}


def test_alternatives_are_told_with_both_figures_and_what_they_alter() -> None:
    smaller = Alternative({"size": "384*256"}, 10 * GIB, 1.0, ("size",))
    larger = Alternative({"size": "704*384"}, 21 * GIB, 3.0, ("size",), better=True)
    unfit = Alternative({"mode": "single"}, GIB, 0.1, fits=False)
    found = advise(
        Measured(
            peaks=(20 * GIB, None),
            usable_bytes=(22 * GIB,),
            seconds_per_block=2.0,
            alternatives=(smaller, larger, unfit),
        )
    )
    assert [(a.goal, dict(a.change)["size"]) for a in found] == [
        ("faster", "384*256"),
        ("better", "704*384"),
        ("smaller", "384*256"),
    ]
    assert all(a.alters_output and a.basis == "predicted" for a in found)
    assert "10.00 GiB instead of 20.00 GiB" in found[2].text
    assert json.loads(json.dumps(found[0].to_dict()))["figures"]["now_seconds"] == 2.0


def test_a_clip_s_check_becomes_bad_quality_with_remedies() -> None:
    checked = [
        MediaFinding("error", "nan", "clip-3.mp4", "the latents are not finite"),
        MediaFinding("warning", "frozen", "clip-3.mp4", "9 frames in a row are the same"),
        MediaFinding("error", "prompt_short", "prompt", "too short"),
    ]
    nan, frozen = quality_findings(checked, rank=1)
    assert (nan.class_, nan.severity, nan.rank) == ("bad_quality", "error", 1)
    assert nan.remedies[0].action == {"kind": "relaunch", "change": {"fp8": False}}
    assert (frozen.severity, frozen.remedies[0].id) == ("warning", "look_at_inputs")

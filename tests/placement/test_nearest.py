"""After memory ran out: is the next plan the one that changes least?"""

from __future__ import annotations

import dataclasses

from engine.placement.nearest import choice_of_plan, nearest_plans
from engine.placement.place import place
from engine.placement.presets import Choice
from tests.placement.questions import question


def test_those_that_leave_the_output_alone_come_first_and_need_less() -> None:
    asked = question(4, 22.15, num_gpus_dit=4)
    failed = place(asked, Choice("tpp", 4, "bf16", "bf16", variant="ring"))
    found = nearest_plans(asked, failed)
    assert found
    changed = [len(other.alters_output) for other in found]
    assert changed == sorted(changed)
    assert changed[0] == 0
    most = max(device.predicted_bytes for device in failed.devices)
    for other in found:
        assert other.built
        assert max(device.predicted_bytes for device in other.plan.devices) < most


def test_a_plan_that_took_more_than_it_said_makes_the_others_less_trusted() -> None:
    asked = question(4, 22.15)
    failed = place(asked, Choice("tpp", 4, "bf16", "bf16", variant="streamed"))
    predicted = {device.rank: device.predicted_bytes for device in failed.devices}
    trusting = nearest_plans(asked, failed, predicted)
    wary = nearest_plans(asked, failed, {0: round(1.4 * predicted[0])})
    fullest = max(d.predicted_bytes + d.margin_bytes for one in wary for d in one.plan.devices)
    assert fullest <= 22.15 * 2**30 / 1.4
    assert [one.flags for one in trusting] != [one.flags for one in wary]


def test_a_plan_tells_the_choice_that_it_was_made_from() -> None:
    asked = question(5, 139, num_gpus_dit=4)
    choice = Choice("tpp", 4, "bf16", "fp8", own_vae=True, kv="host", variant="ring")
    found = choice_of_plan(asked, place(asked, choice))
    assert dataclasses.replace(found, slots=choice.slots) == choice

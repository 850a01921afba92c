"""Is sequence parallelism refused with what it would take, and with what does the same?"""

from __future__ import annotations

from typing import Any

import pytest

from engine.parameters.modes import ALL_MODES, read_mode
from engine.placement.planner import Answer, answer
from engine.retry.changes import changes_for
from tests.placement.questions import question


def asked(gpus: int, **request: Any) -> Answer:
    found = question(gpus, 139, **request)
    return answer(found, read_mode(found.request, gpus, available=ALL_MODES))


@pytest.mark.parametrize(
    ("gpus", "request_", "told"),
    [
        (
            8,
            {"num_gpus_dit": 4, "ulysses_size": 2},
            ("40 heads divide by 2", "8 GPUs (8 can be used)", "balanced --num_gpus_dit 8"),
        ),
        (
            4,
            {"num_gpus_dit": 4, "ulysses_size": 3},
            ("do not divide by 3", "12 GPUs (4 can be used)", "balanced --num_gpus_dit 4"),
        ),
        (1, {"ulysses_size": 2}, ("2 GPUs (1 can be used)", "--mode single")),
        # The articles' ranks under another mode is not their line.
        (8, {"mode": "fsdp", "num_gpus_dit": 3, "ulysses_size": 3}, ("9 GPUs",)),
    ],
)
def test_more_than_one_is_refused(
    gpus: int, request_: dict[str, Any], told: tuple[str, ...]
) -> None:
    found = asked(gpus, **request_)
    assert not found.fits
    assert all(part in found.reasons[0] for part in told), found.reasons
    assert found.alternatives


@pytest.mark.parametrize(("gpus", "ranks"), [(4, 2), (8, 4)])
def test_what_is_taken_instead_has_the_ranks_that_are_advised(gpus: int, ranks: int) -> None:
    found = asked(gpus, num_gpus_dit=ranks, ulysses_size=2)
    assert not found.plan.possible
    near = found.alternatives[0]
    assert f"balanced --num_gpus_dit {gpus}" in found.reasons[0]
    assert near.flags == f"--mode tpp --num_gpus_dit {gpus} --variant balanced"
    request = found.question.request
    assert changes_for(request, near)["ulysses_size"] == 1


def test_the_cut_that_is_advised_fits() -> None:
    found = question(8, 22.15, num_gpus_dit=4, ulysses_size=2)
    told = answer(found, read_mode(found.request, 8, available=ALL_MODES))
    assert "--variant ring --num_gpus_dit 8" in told.reasons[0]
    assert told.alternatives[0].flags == "--mode tpp --num_gpus_dit 8 --variant ring"


def test_the_articles_line_is_read_as_three_stages_and_a_vae() -> None:
    found = asked(4, num_gpus_dit=3, ulysses_size=3, enable_vae_parallel=True)
    assert found.fits, found.reasons
    assert (found.plan.mode, found.plan.world_size, found.plan.vae_rank) == ("tpp", 4, 3)
    assert any("ulysses_size 3 was read as 1" in remark for remark in found.plan.remarks)

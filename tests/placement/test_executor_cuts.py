"""Does any cut of the work over ranks give the latents of a single one, bit for bit?"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from engine.placement.plan import HostStream, Lead, PeerGather
from tests.placement.harness import Case, Cut, Outcome, plan_of, run
from tests.placement.test_executor import assert_same_video, single

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]

WHOLE = (0, 8)


def by_steps(*counts: int) -> list[Cut]:
    cuts, first = [], 0
    for rank, count in enumerate(counts):
        cuts.append((rank, (first, first + count), WHOLE))
        first += count
    return cuts


def by_layers(*ends: int, steps: int = 4) -> list[Cut]:
    firsts = (0, *ends[:-1])
    return [(n, (0, steps), span) for n, span in enumerate(zip(firsts, ends, strict=True))]


CUTS: dict[str, tuple[list[Cut], int, int | None]] = {  # stages, steps, the VAE's rank
    "tpp on 2": (by_steps(2, 2), 4, None),
    "tpp on 3, uneven": (by_steps(1, 2, 1), 4, None),
    "tpp on 4, VAE apart": (by_steps(1, 1, 1, 1), 4, 4),
    "6 steps on 4, VAE with the first": (by_steps(2, 2, 1, 1), 6, 0),
    "ring of 2": (by_layers(4, 8), 4, None),
    "ring of 4, uneven, VAE apart": (by_layers(1, 4, 6, 8), 4, 4),
    # Cuts within steps; rank 1 holds two runs of layers that do not touch, and conditions both.
    "balanced, 4 steps on 3": (
        [
            (0, (0, 1), WHOLE),
            (0, (1, 2), (0, 3)),
            (1, (1, 2), (3, 8)),
            (1, (2, 3), (0, 2)),
            (2, (2, 3), (2, 8)),
            (2, (3, 4), WHOLE),
        ],
        4,
        None,
    ),
    "more ranks than steps, layers met twice": (
        [(0, (0, 1), (0, 3)), (1, (0, 1), (3, 5)), (0, (0, 1), (5, 8)), (2, (1, 2), WHOLE)],
        2,
        1,
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_every_cut_gives_the_latents_of_a_single_rank(name: str) -> None:
    cuts, steps, vae = CUTS[name]
    plan = plan_of(cuts, steps=steps, vae_rank=vae)
    outcomes = run(plan, Case())
    assert_same_video(outcomes, single(steps), plan.vae_rank)


STREAMS: dict[str, tuple[list[Cut], HostStream]] = {
    "2 slots": (by_steps(4), HostStream(slots=2)),
    "1 slot, half resident": (by_steps(4), HostStream(slots=1, resident_layers=4)),
    "streamed stages": (by_steps(2, 2), HostStream(slots=3, resident_layers=1)),
    "streamed ring": (by_layers(5, 8), HostStream(slots=2)),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streamed_weights_give_the_latents_of_resident_ones(name: str) -> None:
    cuts, weights = STREAMS[name]
    plan = plan_of(cuts, weights=weights, mode="offload")
    outcomes = run(plan, Case())
    assert_same_video(outcomes, single(), plan.vae_rank)
    for outcome in outcomes:
        assert 0 < outcome.peak_by_owner["streamed"] < single().peak_by_owner["weights"]
    assert len({memory for outcome in outcomes for memory in outcome.host_memory}) == 1
    assert all(outcome.host_memory for outcome in outcomes)


@pytest.mark.parametrize(
    ("cuts", "weights"), [(by_steps(4), HostStream(slots=2)), (by_layers(3, 8), None)]
)
def test_keys_and_values_on_the_host_give_the_same_latents(
    cuts: list[Cut], weights: HostStream | None
) -> None:
    plan = plan_of(cuts, weights=weights, kv="host")
    outcomes = run(plan, Case())
    assert_same_video(outcomes, single(), plan.vae_rank)
    for outcome in outcomes:
        assert "kv" not in outcome.peak_by_owner
        assert outcome.peak_by_owner["streamed"] > 0


def test_rings_that_share_their_conditioning_give_the_same_latents() -> None:
    leads: tuple[Lead, ...] = ("single", "shared")
    for lead, cuts, weights in zip(
        leads, (by_layers(3, 8), by_steps(4)), (None, HostStream(slots=2)), strict=True
    ):
        plan = plan_of(cuts, weights=weights, lead=lead)
        outcomes = run(plan, Case())
        assert_same_video(outcomes, single(), plan.vae_rank)
        for outcome in outcomes:
            assert outcome.peak_by_owner["kv"] < single().peak_by_owner["kv"]


@functools.cache
def coarse() -> Outcome:
    return run(plan_of(by_steps(4), kv_dtype="fp8"), Case())[0]


def test_keys_and_values_in_fp8_are_the_same_in_every_mode() -> None:
    for cuts, weights, kv in (
        (by_layers(4, 8), None, "host"),
        (by_steps(1, 3), PeerGather((0, 1)), "device"),
    ):
        mode = "fsdp" if isinstance(weights, PeerGather) else "tpp"
        plan = plan_of(cuts, weights=weights, mode=mode, kv=kv, kv_dtype="fp8")
        assert_same_video(run(plan, Case()), coarse(), plan.vae_rank)


def test_keys_and_values_in_fp8_take_less_and_change_little() -> None:
    exact, found = single(), coarse()
    # A byte and a shared scale in the place of 4 bytes; and the window that they are read through.
    assert found.peak_by_owner["kv"] < exact.peak_by_owner["kv"] / 2
    for block, latent in exact.latents.items():
        error = np.linalg.norm(found.latents[block] - latent) / np.linalg.norm(latent)
        assert 0 < error < 0.05


@pytest.mark.parametrize(("at", "clips"), [(1, 2), (0, 1)])
def test_a_stop_ends_a_pipeline_after_the_clip_in_progress(at: int, clips: int) -> None:
    # The first rank is asked as clips begin, and says yes from question ``at`` on.
    plan = plan_of(by_steps(2, 2), vae_rank=2, clips=5)
    outcomes = run(plan, Case(clips=5, stop_at_tick=at))
    assert [outcome.clips for outcome in outcomes] == [clips] * 3
    assert sorted(outcomes[2].latents) == list(range(2 * clips))
    # A clip that is not made is not conditioned either.
    assert [outcome.prefills for outcome in outcomes[:2]] == [list(range(clips))] * 2

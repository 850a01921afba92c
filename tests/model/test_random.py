"""Is every draw the same whoever makes it, and when?"""

from __future__ import annotations

import torch

from engine.model import random


def test_same_seed_same_noise_in_any_order() -> None:
    places = [(clip, block) for clip in range(3) for block in range(4)]

    def draw(order: list[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        return {at: random.normals((16, 3, 4, 4), 420, "noise", *at) for at in order}

    forward, backward = draw(places), draw(places[::-1])
    assert all(torch.equal(forward[at], backward[at]) for at in places)


def test_every_part_of_the_key_matters() -> None:
    keys = [
        (1, "noise", 0, 0, 0),
        (2, "noise", 0, 0, 0),
        (1, "other", 0, 0, 0),
        (1, "noise", 1, 0, 0),
        (1, "noise", 0, 1, 0),
        (1, "noise", 0, 0, 1),
        (-1, "noise", 0, 0, 0),
        (2**63, "noise", 0, 0, 0),
    ]
    drawn = [tuple(random.normals((8,), *key).tolist()) for key in keys]
    assert len(set(drawn)) == len(keys)


def test_bf16_noise_is_float32_noise_rounded_once() -> None:
    whole = random.normals((1000,), 3, "noise")
    rounded = random.normals((1000,), 3, "noise", dtype=torch.bfloat16)
    assert torch.equal(whole.bfloat16(), rounded)
    assert abs(whole.mean()) < 0.15
    assert abs(whole.std() - 1) < 0.1


def test_reference_distance_covers_its_range() -> None:
    drawn = {
        random.relative_dist(5, c, b, s) for c in range(20) for b in range(4) for s in range(4)
    }
    assert drawn == set(range(4, 31))

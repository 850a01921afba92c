"""Are the drawn faces repeatable, and do they follow the sound?"""

from __future__ import annotations

import torch

from sample_data.faces import control
from sample_data.faces.identity import draw
from sample_data.faces.render import pencil, render


def test_the_same_seed_draws_the_same_person() -> None:
    moves = torch.zeros(2, 1, 7)
    first, again = (render(draw(2, 5), moves, 64) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    other = render(draw(2, 6), moves, 64)
    assert not torch.equal(first, other)


def test_pictures_are_in_range_and_an_open_mouth_changes_only_the_mouths_half() -> None:
    moves = torch.zeros(3, 2, 7)
    moves[:, 1, 0] = 1
    video = render(draw(3, 8), moves, 64)
    assert video.shape == (3, 2, 3, 64, 64)
    assert video.abs().max() <= 1
    change = (video[:, 1] - video[:, 0]).abs().amax(1)
    assert change[:, 32:].amax() > 0.3
    assert change[:, :16].amax() < 0.1


def test_a_pencil_drawing_has_no_colour_of_its_own() -> None:
    drawn = pencil(render(draw(1, 3), torch.zeros(1, 1, 7), 64))
    red, _, blue = drawn[0, 0]
    assert ((red + 1) * 0.9 - (blue + 1)).abs().max() < 1e-5


def test_silence_closes_the_mouth_and_loud_vowels_open_it() -> None:
    t = torch.arange(2 * control.RATE) / control.RATE
    vowel = sum(torch.sin(2 * torch.pi * f * t) for f in (500.0, 1000.0, 1500.0))
    sound = torch.where((t > 0.7) & (t < 1.4), vowel, torch.zeros(()))
    track = control.controls(control.normalise(sound[None]))[0, :, 0]
    assert track[90:120].min() > 0.5
    assert max(track[:50].max(), track[170:].max()) < 0.05


def test_humming_through_closed_lips_hardly_opens_them() -> None:
    t = torch.arange(2 * control.RATE) / control.RATE
    hum, vowel = torch.sin(2 * torch.pi * 150 * t), torch.sin(2 * torch.pi * 700 * t)
    sound = torch.where(t < 1, hum, vowel)
    track = control.controls(control.normalise(sound[None]))[0, :, 0]
    assert track[20:80].mean() < 0.2 * track[120:180].mean()

"""Random people: every number that a drawn face depends on and that does not move."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

_SKIN = ((0.98, 0.84, 0.73), (0.94, 0.76, 0.62), (0.86, 0.65, 0.48), (0.70, 0.49, 0.35),
         (0.55, 0.37, 0.26), (0.42, 0.28, 0.20))  # fmt: skip
_HAIR = ((0.10, 0.08, 0.08), (0.24, 0.15, 0.10), (0.42, 0.26, 0.15), (0.66, 0.46, 0.24),
         (0.85, 0.70, 0.42), (0.62, 0.25, 0.12), (0.62, 0.62, 0.64), (0.88, 0.88, 0.87),
         (0.25, 0.30, 0.55), (0.60, 0.25, 0.45))  # fmt: skip
_IRIS = ((0.30, 0.19, 0.10), (0.20, 0.42, 0.62), (0.28, 0.46, 0.28), (0.40, 0.40, 0.42))


@dataclass
class Identity:
    """One value per person (``[N]``) or one colour (``[N, 3]``, 0…1)."""

    skin: Tensor
    hair: Tensor
    iris: Tensor
    lips: Tensor
    cloth: Tensor
    cloth2: Tensor
    hat_colour: Tensor
    frame_colour: Tensor
    back1: Tensor
    back2: Tensor
    back3: Tensor
    x: Tensor  # head's centre and size in the picture, −1…1
    y: Tensor
    scale: Tensor
    width: Tensor  # of the head
    taper: Tensor  # of the jaw
    power: Tensor  # squareness
    eye_x: Tensor
    eye_y: Tensor
    eye_size: Tensor
    brow_tilt: Tensor
    brow_thick: Tensor
    nose: Tensor
    mouth_y: Tensor
    mouth_width: Tensor
    lip_thick: Tensor
    hairline: Tensor
    hair_part: Tensor
    hair_volume: Tensor
    curl: Tensor
    curls: Tensor
    bald: Tensor
    long_hair: Tensor
    beard: Tensor
    moustache: Tensor
    glasses: Tensor
    glasses_round: Tensor
    hat: Tensor  # 0 none, 1 beanie, 2 brim
    ear: Tensor
    blush: Tensor
    outline: Tensor
    light_x: Tensor
    light_y: Tensor
    light: Tensor
    back_kind: Tensor  # 0 gradient, 1 discs, 2 stripes, 3 horizon, 4 window
    back_angle: Tensor
    back_size: Tensor
    collar: Tensor
    gamma: Tensor
    saturation: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, chosen: Tensor | slice) -> Identity:
        return Identity(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def to(self, device: torch.device | str) -> Identity:
        return Identity(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def draw(count: int, seed: int) -> Identity:
    """``count`` people; the same for the same seed everywhere (made on the host)."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=g)

    def chance(p: float) -> Tensor:
        return (torch.rand(count, generator=g) < p).float()

    def pick(table: tuple[tuple[float, ...], ...], spread: float) -> Tensor:
        colours = torch.tensor(table)[torch.randint(len(table), (count,), generator=g)]
        return (colours + spread * torch.randn(count, 3, generator=g)).clamp(0.03, 0.98)

    def colour(low: float, high: float, saturation: float) -> Tensor:
        hue = torch.rand(count, 1, generator=g) * 2 * math.pi
        wheel = torch.cos(hue - torch.tensor([0.0, 2.1, 4.2]))
        value = low + (high - low) * torch.rand(count, 1, generator=g)
        vivid = saturation * torch.rand(count, 1, generator=g)
        return (value * (1 + vivid * wheel)).clamp(0.02, 0.98)

    skin, hair = pick(_SKIN, 0.02), pick(_HAIR, 0.03)
    redden = torch.tensor([1.0, 0.62, 0.62])
    back1 = colour(0.15, 0.9, 0.5)
    near = chance(0.5)[:, None]
    back2 = near * (back1 * (0.6 + 0.6 * torch.rand(count, 1, generator=g))).clamp(0, 1)
    back2 = back2 + (1 - near) * colour(0.15, 0.9, 0.5)
    bald = chance(0.1)
    hat_draw = torch.rand(count, generator=g)
    return Identity(
        skin=skin,
        hair=hair,
        iris=pick(_IRIS, 0.04),
        lips=(skin * redden * uniform(0.75, 1.0)[:, None]).clamp(0, 1),
        cloth=colour(0.12, 0.8, 0.7),
        cloth2=colour(0.12, 0.9, 0.7),
        hat_colour=colour(0.12, 0.8, 0.7),
        frame_colour=colour(0.05, 0.4, 0.6),
        back1=back1,
        back2=back2,
        back3=colour(0.2, 0.9, 0.5),
        x=uniform(-0.1, 0.1),
        y=uniform(-0.22, 0.1),
        scale=uniform(0.42, 0.61),
        width=uniform(0.84, 1.02),
        taper=uniform(0.06, 0.3),
        power=uniform(2.0, 2.6),
        eye_x=uniform(0.34, 0.42),
        eye_y=uniform(-0.2, -0.04),
        eye_size=uniform(0.85, 1.25),
        brow_tilt=uniform(-0.25, 0.25),
        brow_thick=uniform(0.03, 0.065),
        nose=uniform(0.7, 1.3),
        mouth_y=uniform(0.52, 0.62),
        mouth_width=uniform(0.26, 0.36),
        lip_thick=uniform(0.045, 0.085),
        hairline=uniform(-0.78, -0.5),
        hair_part=uniform(-0.6, 0.6),
        hair_volume=uniform(0.04, 0.2),
        curl=chance(0.35) * uniform(0.01, 0.04),
        curls=torch.round(uniform(8, 16)),
        bald=bald,
        long_hair=chance(0.45) * (1 - bald) * uniform(0.6, 1.0),
        beard=chance(0.22) * uniform(0.6, 0.95),
        moustache=chance(0.2) * uniform(0.7, 1.0),
        glasses=chance(0.3),
        glasses_round=uniform(0.0, 1.0),
        hat=torch.where(hat_draw < 0.1, 1.0, torch.where(hat_draw < 0.18, 2.0, 0.0)),
        ear=uniform(0.8, 1.2),
        blush=chance(0.5) * uniform(0.1, 0.35),
        outline=chance(0.4) * uniform(0.3, 0.8),
        light_x=uniform(-1, 1),
        light_y=uniform(-1, 0.3),
        light=uniform(0.04, 0.22),
        back_kind=torch.randint(5, (count,), generator=g).float(),
        back_angle=uniform(0, 2 * math.pi),
        back_size=uniform(0, 1),
        collar=uniform(0, 1),
        gamma=uniform(0.85, 1.2),
        saturation=uniform(0.7, 1.15),
    )

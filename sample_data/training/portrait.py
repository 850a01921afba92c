"""The demo's own portrait with a mouth and lids that move: drawn over the picture.

So that what a person sees first is no face that training never saw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sample_data.faces.identity import Identity, draw
from sample_data.faces.render import Canvas, ellipse, mouth, segment

FILE = Path(__file__).resolve().parents[1] / "portraits" / "flat.png"
#: Where the face lies in the picture, −1…1, and its colours.
SCALE, TOP = 0.42, -0.062
SKIN, LIPS, LASH = (0.95, 0.776, 0.647), (0.75, 0.30, 0.35), (0.12, 0.08, 0.1)
EYES, LIDS = (0.16, -0.148), (0.125, 0.078)


def who() -> Identity:
    """One person whose mouth is where the portrait's is."""
    one = draw(1, 0)
    one.x[:], one.y[:], one.scale[:] = 0.0, TOP, SCALE
    one.mouth_y[:], one.mouth_width[:], one.lip_thick[:] = 0.57, 0.29, 0.065
    one.eye_y[:] = (EYES[1] - TOP) / SCALE
    one.lips[:] = torch.tensor(LIPS)
    return one


def picture(size: int = 128) -> Tensor:
    """The portrait ``[3, size, size]`` in [−1, 1]."""
    with Image.open(FILE) as opened:
        small = opened.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 127.5 - 1


def render(controls: Tensor, size: int = 128, device: torch.device | str = "cpu") -> Tensor:
    """Frames ``[T, 3, size, size]`` in [−1, 1] of ``controls [T, 7]``, on ``device``."""
    controls, person = controls.to(device), who().to(device)
    axis = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    frames = len(controls)
    base = (picture(size).to(device) + 1) / 2
    canvas = Canvas(base.expand(1, frames, -1, -1, -1), 2 / size / SCALE)
    fx, fy = x / SCALE, (y - TOP) / SCALE
    skin = torch.tensor([SKIN], device=device)

    def one(v: Tensor) -> Tensor:
        return v[:, None, None, None]

    opened, wide, blink, _, _, _, smile = (controls[None, :, n, None, None] for n in range(7))
    canvas.lay(ellipse(fx, fy - 0.6 + 0 * opened, 0.42, 0.27) / 3, skin)
    mouth(canvas, person, fx, fy, opened, wide, smile, one)
    ex, ey = x.abs() - EYES[0] + 0 * blink, y - EYES[1]
    shut, lash = controls[None, :, 2], torch.tensor([LASH], device=device)
    canvas.lay(ellipse(ex, ey, *LIDS) / SCALE, skin, shut)
    canvas.lay((segment(ex, ey - 0.03, 0.1, 0.0) - 0.012) / SCALE, lash, shut)
    return canvas.image[0].clamp(0, 1) * 2 - 1

"""Pictures of drawn faces from signed distances: any size, batches of people and frames at once.

Coordinates run from −1 to 1 over the picture, y downwards; a head is about one unit wide before
it is scaled. Every shape is blended by its distance to the pixel, which gives smooth edges.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sample_data.faces.identity import Identity

#: Controls of one frame, in this order; ``smile`` comes from the prompt, the others from sound.
CONTROLS = ("open", "wide", "blink", "brow", "nod", "sway", "smile")


class Canvas:
    """A picture that shapes are laid on. ``image [N, T, 3, H, W]``."""

    def __init__(self, image: Tensor, pixel: float) -> None:
        self.image, self.pixel = image, pixel

    def lay(self, distance: Tensor, colour: Tensor, opacity: Tensor | float = 1.0) -> None:
        """Blend ``colour [N, 3] or [N, T, 3, H, W]`` where ``distance [N, T, H, W]`` < 0."""
        alpha = (0.5 - distance / self.pixel).clamp(0, 1)
        if isinstance(opacity, Tensor):
            opacity = opacity.reshape(*opacity.shape, *[1] * (4 - opacity.dim()))
        alpha = (alpha * opacity).unsqueeze(2)
        if colour.dim() == 2:
            colour = colour[:, None, :, None, None]
        self.image = torch.lerp(self.image, colour, alpha)


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Distance to an ellipse around the origin, about."""
    k = torch.sqrt((x / rx) ** 2 + (y / ry) ** 2 + 1e-12)
    slope = torch.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2 + 1e-12)
    return k * (k - 1) / slope


def segment(x: Tensor, y: Tensor, half: Tensor | float, slope: Tensor | float) -> Tensor:
    """Distance to a bar along x of half length ``half``, bent by ``slope``."""
    t = x.clamp(-half, half) if not isinstance(half, Tensor) else x.clamp(min=-half, max=half)
    return torch.sqrt((x - t) ** 2 + (y - slope * t) ** 2 + 1e-12)


def render(who: Identity, controls: Tensor, size: int = 128) -> Tensor:
    """Frames ``[N, T, 3, size, size]`` in [−1, 1] of ``controls [N, T, 7]``, on their device."""
    device = controls.device
    axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    gx, gy = axis[None, None, None, :], axis[None, None, :, None]

    def one(v: Tensor) -> Tensor:  # a value per person
        return v[:, None, None, None]

    def each(n: int) -> Tensor:  # a value per frame
        return controls[..., n, None, None]

    opened, wide, blink, brow, nod, sway, smile = (each(n) for n in range(len(CONTROLS)))
    gx, gy = gx + 0 * one(who.x), gy + 0 * one(who.x)
    canvas = Canvas(_background(who, gx, gy), 2 / size)
    scale = one(who.scale)

    # Shoulders and clothes move a little, the neck between them and the head.
    bx = (gx - one(who.x) - 0.01 * sway) / scale
    by = (gy - one(who.y)) / scale
    pixel = canvas.pixel
    canvas.pixel = 2 / size / float(who.scale.mean())
    hx = (gx - one(who.x) - 0.03 * sway) / scale
    hy = (gy - one(who.y) - 0.025 * nod) / scale
    tilt = 0.05 * sway
    hx, hy = hx + tilt * hy, hy - tilt * hx

    width = one(who.width)
    jaw = hy.clamp(min=0)
    stretch = 1 + 0.07 * opened * (jaw > 0)
    rx = width * (1 - one(who.taper) * (jaw / 1.2) ** 2)
    ry = 1.25 * stretch
    power = one(who.power)
    radius = ((hx / rx).abs() ** power + (hy / ry).abs() ** power + 1e-9) ** (1 / power)
    head = (radius - 1) * 0.95
    angle = torch.atan2(hx, -hy)
    wave = one(who.curl) * torch.sin(angle * one(who.curls))
    grown = 1 + one(who.hair_volume) + wave
    crown = ((hx / (rx * grown)).abs() ** 2.1 + (hy / (1.25 * grown)).abs() ** 2.1 + 1e-9) ** (
        1 / 2.1
    )
    crown = (crown - 1) * 0.95

    dark = who.hair * 0.75
    long_hair = ellipse(hx, hy - 0.45, width * 1.2 + wave, 1.55 + wave)
    canvas.lay(long_hair, dark, (who.long_hair > 0).float())
    neck = torch.maximum((bx.abs() - 0.42), -(by - 0.6))
    body = ellipse(bx, by - 2.35, 1.65, 1.05)
    canvas.lay(neck, who.skin * 0.82, 1.0)
    canvas.lay(body, who.cloth)
    collar = ellipse(bx, by - 1.32, 0.5, 0.3 + 0.35 * one(who.collar))
    canvas.lay(torch.maximum(collar, body - 0.02), who.skin * 0.86, (who.collar > 0.5).float())
    strip = torch.maximum(bx.abs() - 0.09, body)
    canvas.lay(strip, who.cloth2, (who.collar <= 0.5).float())

    ear_x = hx.abs() - width * 0.98
    canvas.lay(ellipse(ear_x, hy - 0.05, 0.14 * one(who.ear), 0.22 * one(who.ear)), who.skin * 0.9)

    shade = 1 + one(who.light) * (one(who.light_x) * hx - one(who.light_y) * -hy)
    shade = shade - 0.12 * (radius - 0.75).clamp(min=0)
    face = (who.skin[:, None, :, None, None] * shade.unsqueeze(2)).clamp(0, 1)
    canvas.lay(head, face)
    canvas.lay(head.abs() - 0.02, who.skin * 0.35, who.outline)

    # What lies on the face turns with it a little further.
    fx, fy = hx - 0.03 * sway, hy - 0.03 * nod
    cheek = ellipse(fx.abs() - 0.52, fy - 0.32, 0.22, 0.15)
    glow = (0.5 - cheek / 0.25).clamp(0, 1) * one(who.blush)
    canvas.lay(cheek * 0 - 1, (who.skin * who.skin.new_tensor([1.0, 0.6, 0.6])).clamp(0, 1), glow)
    _eyes(canvas, who, fx, fy, blink, brow, one)
    nose = one(who.nose)
    canvas.lay(ellipse(fx, fy - 0.2, 0.13 * nose, 0.075 * nose), who.skin * 0.8)
    canvas.lay(ellipse(fx + 0.01, fy - 0.165, 0.11 * nose, 0.07 * nose), face)

    beard = torch.maximum(head, -(fy - 0.42 + 0.9 * (fx.abs() - 0.75).clamp(max=0) * 0.25))
    canvas.lay(beard, dark, who.beard)
    bar = segment(fx, fy - one(who.mouth_y) + 0.16, 0.26, 0.0) - 0.055
    canvas.lay(bar + 0.25 * fx.abs() * 0.3, who.hair, who.moustache)
    mouth(canvas, who, fx, fy, opened, wide, smile, one)

    edge = one(who.hairline) + 0.22 * (fx - one(who.hair_part)) ** 2 + 2.5 * wave
    cap = torch.maximum(crown, fy - edge)
    side = torch.maximum(crown, (-(fx.abs() - width * 0.86) * 0.8).maximum(fy - 0.15))
    hairy = 1 - who.bald
    canvas.lay(torch.minimum(cap, side), who.hair, hairy)
    gloss = torch.maximum(cap + 0.1, (fy + 0.95).abs() - 0.06)
    canvas.lay(gloss, (who.hair * 1.25 + 0.06).clamp(0, 1), hairy * 0.5)
    _hat(canvas, who, fx, fy, crown, width)

    canvas.pixel = pixel
    return _grade(canvas.image, who)


def _eyes(
    canvas: Canvas,
    who: Identity,
    fx: Tensor,
    fy: Tensor,
    blink: Tensor,
    brow: Tensor,
    one: Callable[[Tensor], Tensor],
) -> None:
    size = one(who.eye_size)
    side = torch.sign(fx)
    ex, ey = fx.abs() - one(who.eye_x), fy - one(who.eye_y)
    lid = (1 - 0.93 * blink).clamp(min=0.06)
    white = ellipse(ex, ey, 0.165 * size, 0.115 * size * lid)
    canvas.lay(white - 0.02, who.skin * 0.5)
    canvas.lay(white, who.skin.new_tensor([[0.97, 0.97, 0.96]]).expand(len(who), 3))
    for radius, colour in ((0.088, who.iris), (0.045, who.iris * 0.15)):
        canvas.lay(torch.maximum(ellipse(ex, ey, radius * size, radius * size), white), colour)
    spark = ellipse(ex * side - 0.03, ey + 0.03, 0.022, 0.022)
    canvas.lay(torch.maximum(spark, white), torch.ones_like(who.skin))
    lash = torch.maximum(white.abs() - 0.025, ey - 0.03 * blink)
    canvas.lay(lash, who.hair * 0.4)
    by = ey + 0.28 * size + 0.07 * brow
    bar = segment(ex, by, 0.17, one(who.brow_tilt)) - one(who.brow_thick)
    canvas.lay(bar, who.hair * 0.7)
    roundness = one(who.glasses_round)
    ring = ellipse(ex, ey, 0.235, 0.17 + 0.06 * roundness).abs() - 0.022
    bridge = torch.maximum(fx.abs() - (one(who.eye_x) - 0.22), (ey + 0.04).abs() - 0.022)
    canvas.lay(torch.minimum(ring, bridge), who.frame_colour, who.glasses)


def mouth(
    canvas: Canvas,
    who: Identity,
    fx: Tensor,
    fy: Tensor,
    opened: Tensor,
    wide: Tensor,
    smile: Tensor,
    one: Callable[[Tensor], Tensor],
) -> None:
    """Lips, teeth and tongue; ``fx``, ``fy`` are the face's coordinates."""
    smile = smile + 0.2
    half = one(who.mouth_width) * (1 + 0.28 * wide + 0.15 * smile - 0.08 * opened)
    bow = 0.13 * smile * (fx / half) ** 2
    drop = 0.25 * opened
    lift = (fx / half).abs() < 1.6
    my = fy - one(who.mouth_y) - 0.35 * drop + torch.where(lift, bow, bow.clamp(max=0.3))
    lip = one(who.lip_thick)
    inner = ellipse(fx, my, half, 0.012 + drop)
    canvas.lay(ellipse(fx, my, half + 0.6 * lip, 0.012 + drop + lip), who.lips)
    dark = who.lips * who.lips.new_tensor([0.38, 0.2, 0.2])
    canvas.lay(inner, dark)
    teeth = torch.maximum(inner + 0.012, my + 0.42 * drop)
    ivory = who.skin.new_tensor([[0.95, 0.94, 0.9]]).expand(len(who), 3)
    canvas.lay(teeth, ivory, ((opened - 0.12) * 8).clamp(0, 1))
    tongue = torch.maximum(
        inner + 0.012, ellipse(fx, my - 0.95 * drop, 0.62 * half, 0.5 * drop + 1e-3)
    )
    canvas.lay(
        tongue, who.lips * who.lips.new_tensor([0.95, 0.6, 0.6]), ((opened - 0.3) * 4).clamp(0, 1)
    )


def _hat(
    canvas: Canvas, who: Identity, fx: Tensor, fy: Tensor, crown: Tensor, width: Tensor
) -> None:
    beanie = torch.maximum(crown - 0.07, fy + 0.66)
    canvas.lay(beanie, who.hat_colour, (who.hat == 1).float())
    band = torch.maximum(crown - 0.1, (fy + 0.7).abs() - 0.13)
    canvas.lay(band, who.hat_colour * 0.75, (who.hat == 1).float())
    tall = torch.maximum(fx.abs() - width * 0.95, (fy + 1.15).abs() - 0.42)
    brim = segment(fx, fy + 0.74, 1.35, 0.0) - 0.075
    canvas.lay(tall, who.hat_colour, (who.hat == 2).float())
    canvas.lay(brim, who.hat_colour * 0.8, (who.hat == 2).float())


def _background(who: Identity, gx: Tensor, gy: Tensor) -> Tensor:
    def one(v: Tensor) -> Tensor:
        return v[:, None, None, None]

    def coloured(v: Tensor) -> Tensor:
        return v[:, None, :, None, None]

    cos, sin = one(who.back_angle.cos()), one(who.back_angle.sin())
    along = (0.5 + 0.4 * (gx * cos + gy * sin)).clamp(0, 1).unsqueeze(2)
    image = torch.lerp(coloured(who.back1), coloured(who.back2), along)
    size, kind = one(who.back_size), one(who.back_kind)
    soft = 0.06
    discs = torch.minimum(
        ellipse(gx - 0.7 * cos, gy - 0.7 * sin, 0.25 + 0.2 * size, 0.25 + 0.2 * size),
        ellipse(gx + 0.8 * cos, gy + 0.5 * sin, 0.35 - 0.2 * size, 0.35 - 0.2 * size),
    )
    stripes = torch.sin((gx * cos + gy * sin) * (4 + 6 * size)) * 0.15
    horizon = -(gy - 0.3 * (size - 0.3)) + 0.04 * torch.sin(
        3 * gx + who.back_angle[:, None, None, None]
    )
    window = torch.maximum((gx.abs() - 0.72).abs() - 0.16, (gy + 0.35).abs() - 0.3 - 0.2 * size)
    for number, shape in enumerate((discs, stripes, horizon, window), start=1):
        alpha = (0.5 - shape / soft).clamp(0, 1) * (kind == number) * 0.6
        image = torch.lerp(image, coloured(who.back3), alpha.unsqueeze(2))
    return image


def _grade(image: Tensor, who: Identity) -> Tensor:
    grey = image.mean(dim=2, keepdim=True)
    image = (grey + (image - grey) * who.saturation[:, None, None, None, None]).clamp(1e-4, 1)
    return image ** who.gamma[:, None, None, None, None] * 2 - 1


def pencil(image: Tensor) -> Tensor:
    """The same pictures ``[..., 3, H, W]`` as pencil drawings on warm paper."""
    flat = image.flatten(0, -4)
    grey = (flat * flat.new_tensor([0.3, 0.59, 0.11])[:, None, None]).sum(1, keepdim=True)
    padded = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    edge = (torch.sqrt(dx**2 + dy**2 + 1e-6) * 0.9).clamp(0, 1)
    tone = 0.55 + 0.4 * (grey * 0.5 + 0.5)
    drawn = (tone * (1 - 0.85 * edge)).clamp(0, 1)
    paper = flat.new_tensor([1.0, 0.97, 0.9])[:, None, None]
    return (drawn * paper * 2 - 1).reshape(image.shape)

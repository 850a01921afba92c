"""A canvas drawn larger than it is shown, with smooth curves, soft shapes and strokes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Point = tuple[float, float]
Points = Sequence[Point]
Colour = tuple[int, int, int]


def rgb(code: str) -> Colour:
    """``"#1a2b3c"`` as numbers."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def spline(points: Points, closed: bool = True, steps: int = 24) -> list[Point]:
    """A smooth curve through ``points`` (Catmull–Rom), as a polyline."""
    p = np.asarray(points, dtype=np.float64)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        pieces.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2)
            + 0.5 * (3 * b - a - 3 * c + d) * t**3
        )
    if not closed:
        pieces.append(p[-1:])
    curve = np.concatenate(pieces)
    return [(float(x), float(y)) for x, y in curve]


def mirrored(half: Points, middle: float) -> list[Point]:
    """A closed outline from its left half, top to bottom."""
    return [*half, *((2 * middle - x, y) for x, y in reversed(half) if x != middle)]


def flipped(points: Points, middle: float) -> list[Point]:
    """The same points on the other side of a vertical line."""
    return [(2 * middle - x, y) for x, y in points]


class Canvas:
    """Draws in the picture's pixels; keeps ``scale`` times as many in each direction."""

    def __init__(self, width: int, height: int, ground: Colour, scale: int = 3) -> None:
        self.size, self.scale = (width, height), scale
        self.picture = Image.new("RGB", (width * scale, height * scale), ground)

    def mask(self, points: Points, soft: float = 0.0) -> Image.Image:
        """Coverage of a polygon, its edge blurred over ``soft`` pixels."""
        cover = Image.new("L", self.picture.size, 0)
        ImageDraw.Draw(cover).polygon(self._scaled(points), fill=255)
        return cover.filter(ImageFilter.GaussianBlur(soft * self.scale)) if soft else cover

    def fill(
        self,
        points: Points,
        colour: Colour,
        *,
        soft: float = 0.0,
        opacity: float = 1.0,
        within: Image.Image | None = None,
    ) -> None:
        """Paint a polygon, optionally only where ``within`` covers."""
        if not soft and opacity == 1.0 and within is None:
            ImageDraw.Draw(self.picture).polygon(self._scaled(points), fill=colour)
            return
        cover = self.mask(points, soft)
        if within is not None:
            cover = ImageChops.multiply(cover, within)
        if opacity < 1.0:
            cover = cover.point(lambda value: int(value * opacity))
        self.picture.paste(colour, (0, 0), cover)

    def curve(self, points: Points, colour: Colour, **options: float) -> None:
        """Paint a smooth closed shape."""
        self.fill(spline(points), colour, **options)  # type: ignore[arg-type]

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, **options: float
    ) -> None:
        self.fill(oval(x, y, rx, ry), colour, **options)  # type: ignore[arg-type]

    def stroke(self, points: Points, colour: Colour, widths: Sequence[float]) -> None:
        """A pen's line: ``widths`` (two or more) are spread along it."""
        p = np.asarray(points, dtype=np.float64) * self.scale
        along = np.linspace(0, 1, len(p))
        radius = np.interp(along, np.linspace(0, 1, len(widths)), widths) * self.scale / 2
        draw = ImageDraw.Draw(self.picture)
        pairs = zip(p, p[1:], radius, strict=False)
        for (x0, y0), (x1, y1), r in pairs:
            draw.line([x0, y0, x1, y1], fill=colour, width=max(1, round(2 * r)))
            draw.ellipse([x1 - r, y1 - r, x1 + r, y1 + r], fill=colour)

    def done(self) -> Image.Image:
        """The picture at its own size."""
        return self.picture.resize(self.size, Image.Resampling.LANCZOS)

    def _scaled(self, points: Points) -> list[Point]:
        return [(x * self.scale, y * self.scale) for x, y in points]


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> list[Point]:
    """An ellipse as a polygon, turned by ``turn`` radians."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    a, b = rx * np.cos(angle), ry * np.sin(angle)
    c, s = np.cos(turn), np.sin(turn)
    return [(float(x + c * u - s * v), float(y + s * u + c * v)) for u, v in zip(a, b, strict=True)]


def texture(
    width: int, height: int, seed: int, grain: float, sizes: Sequence[float]
) -> NDArray[np.float64]:
    """Noise of several sizes ``[height, width]``, mean 0 and deviation ``grain``."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for size in sizes:
        noise = random.integers(0, 256, (height, width), dtype=np.uint8)
        blurred = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(size))
        layer = np.asarray(blurred, dtype=np.float64)
        total += (layer - layer.mean()) / max(float(layer.std()), 1e-9)
    return total / float(total.std()) * grain


def with_texture(picture: Image.Image, grain: NDArray[np.float64]) -> Image.Image:
    """The picture, lighter and darker by ``grain`` (in steps of 255)."""
    pixels = np.asarray(picture, dtype=np.float64) + grain[..., None]
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))

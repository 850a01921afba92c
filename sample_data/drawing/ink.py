"""Pen and ink on paper: an old man with round glasses and a beard, before his books."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageStat

from sample_data.drawing.canvas import (
    Canvas,
    Points,
    flipped,
    mirrored,
    oval,
    rgb,
    spline,
    texture,
    with_texture,
)

SIZE = (768, 512)
MIDDLE = 384.0
PAPER, INK, WASH = rgb("#f4eddd"), rgb("#2a2622"), rgb("#cdbfa6")
SEED = 11


class Pen:
    """Lines of an unsteady hand: every point is a little off, pressure swells in the middle."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.random = np.random.default_rng(SEED)

    def line(self, points: Points, width: float = 2.0, *, shaky: float = 0.5) -> None:
        """One stroke along a smooth open curve."""
        loose = [(x + self._off(shaky), y + self._off(shaky)) for x, y in points]
        self.canvas.stroke(
            spline(loose, closed=False), INK, [width * 0.35, width, width * 1.1, width * 0.3]
        )

    def hatch(
        self, region: Points, angle: float, gap: float, width: float = 1.0, bend: float = 0.0
    ) -> None:
        """Parallel strokes over the inside of ``region``, as long as it is wide there."""
        size = self.canvas.picture.size
        cover = Image.new("L", (size[0] // self.canvas.scale, size[1] // self.canvas.scale), 0)
        ImageDraw.Draw(cover).polygon(list(region), fill=255)
        if not ImageStat.Stat(cover).sum[0]:
            return
        inside = np.asarray(cover) > 0
        rows, columns = np.nonzero(inside)
        cx, cy = float(columns.mean()), float(rows.mean())
        reach = float(np.hypot(columns - cx, rows - cy).max())
        along = np.arange(-reach, reach, 1.5)
        ux, uy = math.cos(angle), math.sin(angle)
        for offset in np.arange(-reach, reach, gap):
            shift = offset + self._off(gap * 0.18)
            sag = bend * (1 - (along / reach) ** 2)
            xs = cx + ux * along - uy * (shift + sag)
            ys = cy + uy * along + ux * (shift + sag)
            ok = (xs >= 0) & (ys >= 0) & (xs < inside.shape[1]) & (ys < inside.shape[0])
            hit = np.zeros(len(along), bool)
            hit[ok] = inside[ys[ok].astype(int), xs[ok].astype(int)]
            for run in _runs(hit):
                points = [(float(xs[i]), float(ys[i])) for i in run]
                if len(points) > 3:
                    cut = int(self.random.integers(0, max(1, len(points) // 6)))
                    self.canvas.stroke(points[cut:], INK, [width * 0.5, width, width * 0.3])

    def _off(self, amount: float) -> float:
        return float(self.random.normal(0, amount))


def _runs(hit: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[range]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hit, [False]]).astype(int)))
    return [range(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def draw() -> Image.Image:
    """The finished picture."""
    canvas = Canvas(*SIZE, PAPER, scale=3)
    pen = Pen(canvas)
    _books(canvas, pen)
    _coat(canvas, pen)
    _head(canvas, pen)
    _beard(canvas, pen)
    for side in (False, True):
        _eye(canvas, pen, side)
    _nose_and_mouth(canvas, pen)
    _glasses(canvas, pen)
    _hair(canvas, pen)
    fibres = texture(*SIZE, SEED, 3.0, (0.6, 2.5, 9.0))
    return with_texture(canvas.done(), fibres)


def _books(canvas: Canvas, pen: Pen) -> None:
    for shelf in (150.0, 330.0):
        for start, stop in ((24.0, 236.0), (532.0, 744.0)):
            x = start
            while x < stop - 14:
                width = float(pen.random.uniform(13, 30))
                tall = float(pen.random.uniform(78, 122))
                right = min(x + width, stop)
                box = [(x, shelf - tall), (right, shelf - tall), (right, shelf), (x, shelf)]
                kind = int(pen.random.integers(0, 4))
                if kind == 0:
                    canvas.fill(box, WASH, opacity=0.55)
                for a, b in zip(box, [*box[1:], box[0]], strict=True):
                    middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
                    pen.line([a, middle, b], 1.3, shaky=0.7)
                if kind == 1:
                    pen.hatch(box, math.pi / 2, 4.0, 0.8)
                elif kind == 2:
                    pen.hatch(box, 0.9, 5.0, 0.8)
                for band in (0.16, 0.24):
                    y = shelf - tall * (1 - band)
                    pen.line([(x + 2, y), ((x + right) / 2, y), (right - 2, y)], 1.0, shaky=0.4)
                x = right + 1.5
            for drop in (2.0, 10.0):
                ends = [(start - 8, shelf + drop), (stop - 60, shelf + drop)]
                pen.line([*ends, (stop + 8, shelf + drop)], 1.8)


def _coat(canvas: Canvas, pen: Pen) -> None:
    half = [
        (384, 392), (330, 398), (282, 414), (226, 436), (190, 470), (176, 540), (384, 560),
    ]  # fmt: skip
    outline = spline(mirrored(half, MIDDLE))
    canvas.fill(outline, PAPER)
    canvas.fill(outline, WASH, opacity=0.5)
    for mirror in (False, True):

        def at(points: Points, mirror: bool = mirror) -> list[tuple[float, float]]:
            return flipped(points, MIDDLE) if mirror else list(points)

        pen.line(at(half[1:6]), 3.0)
        lapel = at([(326, 398), (282, 416), (290, 452), (306, 452), (300, 466), (372, 540)])
        canvas.fill(lapel, PAPER)
        pen.line(at([(326, 398), (300, 404), (282, 416), (288, 436), (290, 452)]), 2.2)
        pen.line(at([(290, 452), (306, 452), (300, 466)]), 2.0, shaky=0.2)
        pen.line(at([(300, 466), (330, 500), (372, 540)]), 2.4)
        pen.hatch(lapel, 1.0 if mirror else 2.1, 5.5, 0.9)
        sleeve = at([(190, 474), (226, 438), (280, 418), (286, 456), (340, 540), (180, 540)])
        pen.hatch(sleeve, 2.25 if mirror else 0.9, 5.0, 1.1)
        pen.hatch(at([(184, 500), (230, 470), (262, 520), (250, 540), (180, 540)]), 0.2, 6.0, 1.0)
    shirt = [(336, 396), (432, 396), (414, 470), (384, 520), (354, 470)]
    canvas.fill(shirt, PAPER)
    pen.line([(336, 398), (350, 450), (380, 530)], 2.2)
    pen.line([(432, 398), (418, 450), (388, 530)], 2.2)
    pen.hatch([(340, 400), (428, 400), (416, 440), (352, 440)], 0.3, 4.0, 1.0)


HEAD = [
    (384, 62), (330, 70), (292, 108), (276, 168), (278, 232), (292, 300), (322, 352), (384, 372),
]  # fmt: skip


def _head(canvas: Canvas, pen: Pen) -> None:
    for mirror in (False, True):
        ear = [(280, 202), (264, 196), (256, 218), (262, 250), (276, 268), (286, 262)]
        shape = flipped(ear, MIDDLE) if mirror else ear
        canvas.fill(spline(shape), PAPER)
        pen.line(shape, 2.4)
        inner = [(272, 210), (265, 222), (270, 240), (278, 250)]
        pen.line(flipped(inner, MIDDLE) if mirror else inner, 1.4)
    outline = spline(mirrored(HEAD, MIDDLE))
    canvas.fill(outline, PAPER)
    # The light comes from the left: the right side is hatched, twice towards the edge.
    shade = [(452, 96), (484, 140), (494, 210), (484, 290), (450, 344), (456, 280), (464, 190)]
    canvas.fill(spline(shade), WASH, opacity=0.5)
    pen.hatch(spline(shade), 2.3, 4.2, 1.0, bend=6)
    pen.hatch([(474, 140), (494, 200), (486, 290), (464, 320), (474, 230)], 0.9, 4.6, 0.9)
    pen.hatch([(278, 170), (294, 190), (292, 260), (280, 250)], 2.3, 5.0, 0.8)
    for y, reach in ((112, 44), (128, 54), (145, 50)):
        wrinkle = [(MIDDLE - reach, y + 5), (MIDDLE, y - 3), (MIDDLE + reach, y + 4)]
        pen.line(wrinkle, 1.2)
    pen.line(HEAD[2:7], 2.8)
    pen.line(flipped(HEAD[2:7], MIDDLE), 3.0)
    for mirror in (False, True):
        cheek = [(330, 262), (322, 276), (320, 292)]
        fold = [(356, 258), (342, 274), (336, 292)]
        pen.line(flipped(cheek, MIDDLE) if mirror else cheek, 1.2)
        pen.line(flipped(fold, MIDDLE) if mirror else fold, 1.7)


def _eye(canvas: Canvas, pen: Pen, right: bool) -> None:
    def at(points: Points) -> list[tuple[float, float]]:
        return flipped(points, MIDDLE) if right else list(points)

    white = [(314, 206), (326, 197), (341, 195), (354, 200), (361, 209), (346, 215), (328, 215)]
    cover = canvas.mask(spline(at(white)))
    canvas.fill(spline(at(white)), rgb("#fdf9ef"))
    x = 2 * MIDDLE - 339 if right else 339.0
    canvas.fill(oval(x, 204, 10, 10.5), rgb("#8a7d6b"), within=cover)
    canvas.fill(oval(x, 204, 5, 5.5), INK, within=cover)
    canvas.fill(oval(x - 3.5, 200.5, 2.4, 2.4), rgb("#fffdf6"))
    pen.line(at([(312, 208), (326, 196), (341, 193), (355, 199), (363, 211)]), 3.0, shaky=0.2)
    pen.line(at([(318, 212), (332, 217), (348, 216), (359, 211)]), 1.2, shaky=0.2)
    pen.line(at([(314, 196), (328, 186), (344, 185), (358, 191)]), 1.3, shaky=0.3)
    pen.line(at([(320, 226), (336, 231), (352, 228)]), 1.2)
    for ray in ((300, 200, 292, 194), (300, 208, 290, 208), (301, 215, 293, 221)):
        pen.line(at([(ray[0], ray[1]), (ray[2], ray[3])]), 1.1, shaky=0.3)
    for n in range(26):  # a bushy brow, hair by hair
        t = n / 25
        bx, by = 306 + 60 * t, 176 - 15 * math.sin(math.pi * (0.15 + 0.75 * t))
        lean = float(pen.random.normal(7 - 6 * t, 1.5))
        hair = [(bx, by + 6), (bx - 1 + lean / 3, by), (bx + lean, by - 6)]
        pen.line(at(hair), 1.9, shaky=0.4)


def _nose_and_mouth(canvas: Canvas, pen: Pen) -> None:
    pen.line([(372, 204), (368, 232), (358, 252), (361, 264), (371, 266)], 1.8, shaky=0.3)
    pen.line([(396, 206), (400, 232), (410, 252), (407, 264), (397, 266)], 2.2, shaky=0.3)
    pen.line([(370, 264), (378, 270), (384, 268), (390, 270), (398, 264)], 2.4, shaky=0.2)
    pen.hatch([(394, 208), (402, 234), (410, 254), (404, 264), (394, 250)], 2.2, 3.6, 0.9)
    lips = [(352, 306), (370, 301), (384, 304), (398, 301), (416, 306), (400, 320), (368, 320)]
    canvas.fill(spline(lips), PAPER)
    canvas.fill(spline(lips), rgb("#c9a58f"), opacity=0.75)
    pen.line([(350, 306), (368, 306), (384, 309), (400, 306), (418, 306)], 2.8, shaky=0.2)
    pen.line([(354, 303), (371, 299), (384, 302), (397, 299), (414, 303)], 1.5, shaky=0.2)
    pen.line([(362, 317), (384, 322), (406, 317)], 1.7, shaky=0.2)
    pen.hatch([(366, 310), (402, 310), (396, 319), (372, 319)], 1.5, 4.0, 0.8)


def _glasses(canvas: Canvas, pen: Pen) -> None:
    for x in (338.0, 430.0):
        ring = oval(x, 207, 34, 31)
        canvas.stroke([*ring, ring[0]], INK, [2.6, 3.4, 2.6])
        glint = [(x - 22, 196), (x - 16, 188), (x - 8, 184)]
        pen.line(glint, 1.1, shaky=0.2)
    pen.line([(371, 203), (384, 197), (397, 203)], 3.2, shaky=0.1)
    pen.line([(304, 203), (288, 199), (274, 200)], 2.8, shaky=0.1)
    pen.line([(464, 203), (480, 199), (494, 200)], 2.8, shaky=0.1)


def _beard(canvas: Canvas, pen: Pen) -> None:
    half = [
        (384, 284), (352, 284), (334, 300), (318, 296), (292, 262), (282, 246), (286, 310),
        (306, 372), (340, 418), (384, 434),
    ]  # fmt: skip
    outline = spline(mirrored(half, MIDDLE))
    canvas.fill(outline, rgb("#faf5e9"))
    cover = np.asarray(canvas.mask(outline))
    scale = canvas.scale
    for _ in range(620):
        x, y = float(pen.random.uniform(278, 490)), float(pen.random.uniform(246, 428))
        if not cover[int(y * scale), int(x * scale)]:
            continue
        # Hair grows down and away from the mouth, and curls in towards the tip.
        aside = (x - MIDDLE) / 100
        dx, dy = 0.55 * aside, 1.0
        if y < 304 and abs(x - MIDDLE) < 44:
            dx, dy = math.copysign(0.85, aside), 0.5
        long = float(pen.random.uniform(12, 30))
        tip = (x + dx * long * 0.55, y + dy * long)
        points = [(x, y), (x + dx * long * 0.5, y + dy * long * 0.5), tip]
        dark = x > MIDDLE + 34 or y > 396
        pen.line(points, 1.5 if dark else 1.0, shaky=0.8)
    pen.line(mirrored(half[4:], MIDDLE)[:6], 1.3, shaky=1.5)
    pen.line(flipped(half[4:], MIDDLE), 1.5, shaky=1.5)


def _hair(canvas: Canvas, pen: Pen) -> None:
    """White tufts over the ears, a few hairs combed across the top."""
    dome = [(286, 130), (304, 92), (338, 68), (384, 61), (430, 68), (464, 92), (482, 130)]
    pen.line(dome, 2.6)
    for mirror in (False, True):

        def at(points: Points, mirror: bool = mirror) -> list[tuple[float, float]]:
            return flipped(points, MIDDLE) if mirror else list(points)

        tuft = [
            (292, 122), (278, 128), (262, 146), (250, 172), (252, 196), (266, 204), (280, 202),
            (290, 168),
        ]  # fmt: skip
        canvas.fill(spline(at(tuft)), rgb("#faf5e9"))
        for n in range(44):
            t = n / 43
            x, y = 290 - 8 * t, 124 + 74 * t
            out = 16 + 18 * math.sin(math.pi * (0.25 + 0.6 * t))
            drop = -6 + 22 * t + float(pen.random.normal(0, 3))
            lock = [
                (x + float(pen.random.normal(0, 2)), y),
                (x - out * 0.6, y + drop * 0.2 - 3),
                (x - out + float(pen.random.normal(0, 3)), y + drop),
            ]
            pen.line(at(lock), 1.3, shaky=0.5)
    for n in range(11):
        t = n / 10
        combed = [(312 + 9 * t, 96 - 16 * t), (372, 66 - 4 * t), (440 + 14 * t, 76 + 10 * t)]
        pen.line(combed, 1.0, shaky=1.2)

"""Oil on canvas: a young man with curly hair in a mustard jumper, lit from the left.

A softly shaded figure is built first; then brush strokes, broad to fine, take their colours from
it and follow its forms.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

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

SIZE = (512, 768)
MIDDLE = 256.0
SEED = 5

SKIN, LIGHT, GLOW = rgb("#8a5638"), rgb("#c98a5e"), rgb("#eab98a")
DUSK, DARK = rgb("#5a3324"), rgb("#35201b")
HAIR, HAIR_LIGHT = rgb("#1f1718"), rgb("#4d3a38")
KNIT, KNIT_LIGHT, KNIT_DARK = rgb("#c08a26"), rgb("#e3b552"), rgb("#7d5417")
LIP, LIP_LIGHT, LIP_DARK = rgb("#8d4640"), rgb("#b9736a"), rgb("#4f2422")


def draw() -> Image.Image:
    """The finished picture."""
    canvas = Canvas(*SIZE, rgb("#2f5c5c"), scale=2)
    _background(canvas)
    _jumper(canvas)
    _hair(canvas)
    _face(canvas)
    for side in (False, True):
        _eye(canvas, side)
    _nose(canvas)
    _mouth(canvas)
    return _brushed(canvas.done())


def _background(canvas: Canvas) -> None:
    canvas.ellipse(120, 220, 260, 330, rgb("#5f958a"), soft=90)
    canvas.ellipse(440, 640, 240, 260, rgb("#1d3d44"), soft=80)
    canvas.ellipse(60, 60, 130, 110, rgb("#86b3a0"), soft=70, opacity=0.7)
    canvas.ellipse(470, 150, 110, 190, rgb("#2a4f57"), soft=60)


def _jumper(canvas: Canvas) -> None:
    half = [(256, 540), (190, 556), (112, 590), (52, 634), (20, 706), (4, 800), (256, 820)]
    body = canvas.mask(spline(mirrored(half, MIDDLE)))
    canvas.curve(mirrored(half, MIDDLE), KNIT)
    canvas.fill(oval(120, 640, 100, 70, -0.5), KNIT_LIGHT, soft=30, opacity=0.9, within=body)
    canvas.fill(oval(452, 720, 130, 120), KNIT_DARK, soft=36, opacity=0.9, within=body)
    canvas.fill(oval(256, 610, 90, 60), KNIT_DARK, soft=26, opacity=0.6, within=body)
    for x, lean in ((96, 26), (160, 14), (352, -12), (416, -26)):
        canvas.fill(oval(x + lean * 0.5, 710, 7, 70), KNIT_DARK, soft=9, opacity=0.5, within=body)
    neck = [
        (196, 440), (316, 440), (322, 520), (340, 566), (300, 606), (256, 616), (212, 606),
        (172, 566), (190, 520),
    ]  # fmt: skip
    throat = canvas.mask(spline(neck, steps=12))
    canvas.curve(neck, SKIN)
    canvas.fill(oval(264, 476, 96, 62), rgb("#24140f"), soft=14, opacity=0.9, within=throat)
    canvas.fill(oval(196, 548, 20, 50, 0.3), LIGHT, soft=14, opacity=0.8, within=throat)
    canvas.fill(oval(330, 540, 36, 70), DARK, soft=18, opacity=0.6, within=throat)
    collar = [
        (168, 548), (184, 584), (222, 610), (256, 617), (290, 610), (328, 584), (344, 548),
        (362, 574), (336, 614), (296, 642), (256, 650), (216, 642), (176, 614), (150, 574),
    ]  # fmt: skip
    cover = canvas.mask(spline(collar))
    canvas.curve(collar, KNIT)
    canvas.fill(oval(180, 590, 44, 40), KNIT_LIGHT, soft=14, within=cover)
    canvas.fill(oval(340, 606, 50, 50), KNIT_DARK, soft=16, within=cover)
    for n in range(25):  # the ribs of the knitting
        angle = math.pi * (0.06 + 0.88 * n / 24)
        c, s = math.cos(angle), math.sin(angle)
        rib = [(256 + 88 * c, 552 + 62 * s), (256 + 104 * c, 560 + 86 * s)]
        canvas.stroke(rib, KNIT_DARK, [1.2, 2.2])


def _hair(canvas: Canvas) -> None:
    random = np.random.default_rng(SEED)
    canvas.ellipse(256, 216, 142, 136, HAIR)
    for n in range(150):
        angle = math.pi * (0.96 + 1.08 * n / 149)
        reach = float(random.uniform(0.82, 1.05))
        x, y = 256 + 140 * reach * math.cos(angle), 226 + 142 * reach * math.sin(angle)
        wide, tall = random.uniform(11, 20, 2)
        canvas.ellipse(x, y, float(wide), float(tall), HAIR)


def _curls(canvas: Canvas) -> None:
    random = np.random.default_rng(SEED + 1)
    for _ in range(260):
        angle = float(random.uniform(0.98, 2.02)) * math.pi
        reach = float(random.uniform(0.62, 1.02))
        x, y = 256 + 136 * reach * math.cos(angle), 228 + 140 * reach * math.sin(angle)
        if y > 190 and abs(x - 256) < 104:
            continue
        size = float(random.uniform(6, 12))
        turn = float(random.uniform(0, 2 * math.pi))
        arc = [
            (x + size * math.cos(turn + k), y + size * math.sin(turn + k))
            for k in (0, 0.9, 1.8, 2.6)
        ]
        lit = x < 250 and random.random() < 0.75
        colour = HAIR_LIGHT if lit else rgb("#120c0e")
        canvas.stroke(spline(arc, closed=False), colour, [1, 3.2, 1])


FACE = [
    (256, 168), (196, 178), (156, 226), (146, 296), (150, 366), (168, 426), (206, 478),
    (256, 496),
]  # fmt: skip


def _face(canvas: Canvas) -> None:
    for mirror in (False, True):
        ear = [(150, 300), (132, 292), (122, 316), (130, 356), (146, 380), (156, 370)]
        shape = flipped(ear, MIDDLE) if mirror else ear
        canvas.curve(shape, DUSK if mirror else SKIN)
        canvas.ellipse(368 if mirror else 140, 332, 8, 22, DARK, soft=4, opacity=0.8)
    outline = spline(mirrored(FACE, MIDDLE))
    face = canvas.mask(outline)
    canvas.fill(outline, SKIN)

    def shade(shape: Points, colour: tuple[int, int, int], soft: float, opacity: float) -> None:
        canvas.fill(shape, colour, soft=soft, opacity=opacity, within=face)

    shade(oval(386, 330, 78, 190), DARK, 30, 0.85)
    shade(oval(330, 440, 70, 60), DUSK, 24, 0.8)
    shade(oval(256, 176, 120, 30), DARK, 14, 0.8)
    shade(oval(206, 232, 52, 36), LIGHT, 18, 0.9)
    shade(oval(212, 226, 26, 16), GLOW, 12, 0.75)
    shade(oval(186, 362, 34, 36), LIGHT, 15, 0.95)
    shade(oval(184, 350, 17, 14), GLOW, 9, 0.8)
    shade(oval(318, 366, 22, 24), SKIN, 12, 0.9)
    shade(oval(178, 392, 20, 30), rgb("#a5533c"), 14, 0.45)
    shade(oval(158, 430, 20, 50), DUSK, 12, 0.7)
    for x in (206, 306):
        shade(oval(x, 300, 38, 24), DUSK, 12, 0.9)
    shade(oval(244, 470, 27, 15), LIGHT, 9, 0.95)
    shade(oval(270, 494, 60, 8), DUSK, 7, 0.6)
    shade(oval(226, 478, 36, 9), SKIN, 6, 0.8)
    _curls(canvas)


def _eye(canvas: Canvas, right: bool) -> None:
    def at(points: Points) -> list[tuple[float, float]]:
        return flipped(points, MIDDLE) if right else list(points)

    white = [(178, 309), (190, 299), (206, 296), (222, 301), (232, 312), (216, 319), (194, 318)]
    cover = canvas.mask(spline(at(white)), soft=0.7)
    canvas.fill(oval(306 if right else 206, 308, 40, 20), DUSK, soft=7, opacity=0.6)
    canvas.fill(spline(at(white)), rgb("#cfc4b8") if right else rgb("#e9dfd2"), soft=0.7)
    x = 304.0 if right else 207.0
    canvas.fill(oval(x, 307, 12, 12.5), rgb("#3d2417"), within=cover, soft=0.6)
    canvas.fill(oval(x + 2, 311, 8, 6), rgb("#7a4a2a"), within=cover, soft=2)
    canvas.fill(oval(x, 307, 6, 6.5), rgb("#0f0a0a"), within=cover)
    canvas.fill(oval(206, 297, 40, 6), DARK, within=cover, soft=3, opacity=0.6)
    canvas.fill(oval(x - 4, 302, 2.8, 2.8), rgb("#fff8ea"))
    lid = spline(at([(174, 311), (188, 297), (206, 293), (223, 298), (235, 313)]), closed=False)
    canvas.stroke(lid, rgb("#1a1012"), [1.5, 4.5, 1.5])
    under = spline(at([(184, 319), (204, 324), (226, 318)]), closed=False)
    canvas.stroke(under, DARK, [0.8, 1.8, 0.8])
    fold = spline(at([(178, 298), (192, 286), (210, 284), (228, 292)]), closed=False)
    canvas.stroke(fold, DARK, [0.8, 2.2, 0.8])
    bag = spline(at([(186, 332), (206, 338), (226, 332)]), closed=False)
    canvas.stroke(bag, SKIN if right else LIGHT, [0.8, 2.5, 0.8])
    brow = [(166, 276), (184, 262), (208, 259), (236, 268), (237, 277), (208, 270), (186, 272)]
    canvas.fill(spline(at(brow)), HAIR, soft=1.2)


def _nose(canvas: Canvas) -> None:
    canvas.fill([(262, 290), (280, 350), (292, 384), (262, 392), (256, 330)], DUSK, soft=8)
    canvas.fill([(246, 282), (258, 282), (260, 372), (238, 372)], LIGHT, soft=6, opacity=0.95)
    canvas.ellipse(247, 368, 13, 11, GLOW, soft=6, opacity=0.85)
    canvas.fill(oval(250, 318, 4, 30), GLOW, soft=4, opacity=0.7)
    canvas.fill(oval(226, 380, 13, 12), SKIN, soft=3)
    canvas.fill(oval(285, 380, 13, 12), DUSK, soft=3)
    canvas.fill(oval(222, 374, 6, 5), LIGHT, soft=3, opacity=0.8)
    for x, turn in ((236, 0.25), (274, -0.25)):
        canvas.fill(oval(x, 390, 9, 4.2, turn), rgb("#241312"), soft=1.5)
    canvas.fill(oval(255, 396, 14, 4), DARK, soft=3, opacity=0.7)


def _mouth(canvas: Canvas) -> None:
    canvas.fill(oval(256, 408, 7, 10), DUSK, soft=4, opacity=0.7)
    canvas.fill(oval(256, 458, 34, 8), DARK, soft=6, opacity=0.65)
    upper = [
        (206, 430), (232, 420), (247, 416), (256, 419), (266, 416), (282, 420), (306, 429),
        (284, 434), (256, 436), (230, 434),
    ]  # fmt: skip
    lower = [(206, 430), (230, 433), (256, 435), (282, 433), (306, 429), (286, 449), (256, 455)]
    lower += [(228, 449)]
    canvas.fill(spline(lower), LIP, soft=1)
    canvas.fill(spline(upper), LIP_DARK, soft=1)
    canvas.fill(oval(244, 444, 20, 4.5), LIP_LIGHT, soft=3)
    canvas.fill(oval(240, 443, 8, 2), rgb("#dfa79a"), soft=1.5)
    canvas.fill(oval(236, 424, 12, 3), LIP, soft=2)
    line = spline([(203, 428), (230, 433), (256, 436), (282, 433), (309, 427)], closed=False)
    canvas.stroke(line, rgb("#2a1213"), [1.5, 3, 3, 1.5])
    for x in (203, 309):
        canvas.fill(oval(x, 428, 5, 4), DARK, soft=2.5, opacity=0.8)


def _flow(picture: Image.Image) -> NDArray[np.float64]:
    """Angle along the forms at every pixel: across the blurred brightness's gradient."""
    grey = picture.convert("L").filter(ImageFilter.GaussianBlur(5))
    down, across = np.gradient(np.asarray(grey, dtype=np.float64))
    along: NDArray[np.float64] = np.arctan2(down, across) + math.pi / 2
    return along


def _detail(picture: Image.Image) -> NDArray[np.float64]:
    """How much happens around every pixel, 0…1."""
    sharp = np.asarray(picture.convert("L"), dtype=np.float64)
    soft = np.asarray(picture.convert("L").filter(ImageFilter.GaussianBlur(4)), dtype=np.float64)
    change = np.abs(sharp - soft).round().clip(0, 255).astype(np.uint8)
    spread = Image.fromarray(change).filter(ImageFilter.GaussianBlur(3))
    return np.clip(np.asarray(spread, dtype=np.float64) / 9.0, 0, 1)


def _brushed(picture: Image.Image) -> Image.Image:
    """The picture in strokes, broad ones first; fine ones only where something happens."""
    random = np.random.default_rng(SEED + 2)
    width, height = picture.size
    flow, detail = _flow(picture), _detail(picture)
    zoom = 2
    sheet = picture.filter(ImageFilter.GaussianBlur(7)).resize((width * zoom, height * zoom))
    pen = ImageDraw.Draw(sheet)
    for thick, long, count, least in (
        (17.0, 46.0, 1500, -1.0),
        (9.0, 28.0, 4200, -1.0),
        (4.5, 15.0, 9000, 0.16),
        (2.2, 8.0, 16000, 0.34),
    ):
        colours = np.asarray(picture.filter(ImageFilter.GaussianBlur(thick / 6)), dtype=np.int64)
        places = zip(
            random.integers(0, width, count), random.integers(0, height, count), strict=True
        )
        for x, y in places:
            if detail[y, x] < least:
                continue
            tint = colours[y, x] + random.integers(-7, 8) * (1 if thick > 4 else 0)
            colour = tuple(int(v) for v in np.clip(tint, 0, 255))
            reach = long * float(random.uniform(0.5, 1.0)) * (1 - 0.55 * detail[y, x]) / 2
            angle = float(flow[y, x] + random.normal(0, 0.16))
            dx, dy = reach * math.cos(angle), reach * math.sin(angle)
            bend = float(random.normal(0, reach * 0.12))
            path = [
                ((x - dx) * zoom, (y - dy) * zoom),
                ((x - dy * bend / reach) * zoom, (y + dx * bend / reach) * zoom),
                ((x + dx) * zoom, (y + dy) * zoom),
            ]
            broad = max(2, round(thick * (1 - 0.4 * detail[y, x]) * zoom))
            pen.line(path, fill=colour, width=broad, joint="curve")
            for px, py in (path[0], path[-1]):
                r = broad / 2
                pen.ellipse([px - r, py - r, px + r, py + r], fill=colour)
    done = sheet.resize((width, height), Image.Resampling.LANCZOS)
    done = Image.blend(done, picture, 0.28)
    # Last, the smallest brush: eyes, brows, nostrils and lips are drawn over the strokes.
    fine = Image.new("L", (width, height), 0)
    for x, y, rx, ry in ((206, 300, 40, 34), (306, 300, 40, 34), (256, 384, 34, 16)):
        ImageDraw.Draw(fine).polygon(oval(x, y, rx, ry), fill=205)
    ImageDraw.Draw(fine).polygon(oval(256, 436, 60, 24), fill=165)
    done.paste(picture, (0, 0), fine.filter(ImageFilter.GaussianBlur(5)))
    return with_texture(done, texture(width, height, SEED, 2.2, (0.7,)))

"""Flat shapes: a young woman with dark hair in a blue suit, in an office."""

from __future__ import annotations

from PIL import Image

from sample_data.drawing.canvas import Canvas, Points, flipped, mirrored, oval, rgb, spline

SIZE = (640, 640)
MIDDLE = 320.0

SKIN, SHADE, BLUSH = rgb("#f2c6a5"), rgb("#dfa482"), rgb("#ec9f8c")
HAIR, HAIR_LIGHT, HAIR_DARK = rgb("#33232b"), rgb("#553a42"), rgb("#22161c")
SUIT, SUIT_DARK, SUIT_LIGHT = rgb("#2f5496"), rgb("#233f73"), rgb("#3f69b3")
BLOUSE, BLOUSE_SHADE = rgb("#fbf8f3"), rgb("#dfdce0")
LIP, LIP_DARK = rgb("#c4535a"), rgb("#9c3a45")
IRIS, BLACK, WHITE = rgb("#5b3b27"), rgb("#1d1418"), rgb("#fffdf9")


def draw() -> Image.Image:
    """The finished picture."""
    canvas = Canvas(*SIZE, rgb("#dfe7e6"), scale=4)
    _office(canvas)
    _hair_behind(canvas)
    _body(canvas)
    _face(canvas)
    for side in (False, True):
        _eye(canvas, side)
    _nose_and_mouth(canvas)
    _hair_in_front(canvas)
    return canvas.done()


def _box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _office(canvas: Canvas) -> None:
    canvas.fill(_box(0, 470, 640, 640), rgb("#cfd9d8"))
    # A window on a hazy town.
    canvas.fill(_box(34, 50, 222, 360), rgb("#f6f7f2"))
    canvas.fill(_box(46, 62, 210, 348), rgb("#b9dcec"))
    canvas.ellipse(90, 120, 44, 16, rgb("#e3f2f6"))
    canvas.ellipse(124, 130, 40, 13, rgb("#e3f2f6"))
    for x, top, width, tone in (
        (46, 232, 40, "#9dbfd0"),
        (92, 200, 34, "#8fb2c6"),
        (132, 250, 44, "#9dbfd0"),
        (172, 216, 38, "#86a9be"),
    ):
        canvas.fill(_box(x, top, x + width, 348), rgb(tone))
        for row in range(int(top) + 14, 340, 22):
            for column in range(int(x) + 8, int(x + width) - 8, 12):
                canvas.fill(_box(column, row, column + 5, row + 9), rgb("#cfe3ea"))
    canvas.fill(_box(124, 62, 132, 348), rgb("#f6f7f2"))
    canvas.fill(_box(46, 188, 210, 195), rgb("#f6f7f2"))
    canvas.fill(_box(26, 356, 230, 370), rgb("#c3cecd"))
    # A shelf with books and a plant.
    canvas.fill(_box(456, 206, 640, 218), rgb("#b98d63"))
    canvas.fill(_box(456, 218, 640, 223), rgb("#a47a53"))
    at = 562.0
    for width, tall, tone in (
        (15, 78, "#d9694f"),
        (12, 66, "#e9b44c"),
        (18, 84, "#4f8a8b"),
        (13, 72, "#7a5c8f"),
        (16, 60, "#d9694f"),
    ):
        canvas.fill(_box(at, 206 - tall, at + width, 206), rgb(tone))
        canvas.fill(_box(at + 3, 220 - tall, at + width - 3, 224 - tall), rgb("#f6efe2"))
        at += width + 2
    for dx, dy, lean in ((-34, -74, -0.7), (32, -78, 0.65), (-14, -100, -0.22), (14, -104, 0.25)):
        canvas.fill(oval(505 + dx, 172 + dy / 1.6, 11, 40, lean), rgb("#5d9a6b"))
    canvas.fill(oval(505, 104, 10, 42), rgb("#70ad7c"))
    canvas.fill([(482, 158), (528, 158), (521, 206), (489, 206)], rgb("#eee6d8"))
    canvas.fill([(482, 158), (528, 158), (526, 168), (484, 168)], rgb("#d9cfbd"))


def _hair_behind(canvas: Canvas) -> None:
    half = [
        (320, 84),
        (250, 92),
        (198, 138),
        (180, 220),
        (178, 300),
        (170, 372),
        (176, 436),
        (214, 462),
        (262, 458),
        (320, 440),
    ]
    canvas.curve(mirrored(half, MIDDLE), HAIR_DARK)


def _body(canvas: Canvas) -> None:
    shoulders = [
        (320, 452),
        (262, 462),
        (206, 480),
        (142, 506),
        (104, 548),
        (88, 610),
        (82, 700),
        (320, 740),
    ]
    canvas.curve(mirrored(shoulders, MIDDLE), SUIT)
    for mirror in (False, True):
        sleeve = [(96, 592), (122, 566), (146, 600), (150, 660), (80, 660)]
        canvas.curve(flipped(sleeve, MIDDLE) if mirror else sleeve, SUIT_DARK)
    blouse = [(258, 452), (382, 452), (372, 520), (320, 650), (268, 520)]
    canvas.fill(blouse, BLOUSE)
    canvas.fill([(300, 560), (320, 640), (320, 500)], BLOUSE_SHADE)
    # Neck, and the shadow the chin throws on it.
    neck = [(276, 372), (364, 372), (366, 440), (378, 474), (320, 546), (262, 474), (274, 440)]
    within = canvas.mask(spline(neck, steps=12))
    canvas.curve(neck, SKIN)
    canvas.ellipse(320, 388, 74, 62, SHADE, within=within)  # type: ignore[arg-type]
    for mirror in (False, True):
        collar = [(258, 448), (246, 476), (300, 566), (322, 540), (280, 494)]
        lapel = [(250, 458), (206, 482), (196, 540), (228, 548), (220, 568), (318, 690), (300, 590)]
        canvas.fill(flipped(lapel, MIDDLE) if mirror else lapel, SUIT_LIGHT)
        edge = [(250, 458), (300, 590), (318, 690), (310, 690), (286, 590), (240, 462)]
        canvas.fill(flipped(edge, MIDDLE) if mirror else edge, SUIT_DARK)
        canvas.fill(flipped(collar, MIDDLE) if mirror else collar, BLOUSE)
        fold = [(258, 448), (280, 494), (322, 540), (316, 546), (270, 500), (252, 462)]
        canvas.fill(flipped(fold, MIDDLE) if mirror else fold, BLOUSE_SHADE)


def _face(canvas: Canvas) -> None:
    for x in (209, 431):
        canvas.ellipse(x, 292, 20, 33, SKIN)
        canvas.ellipse(x, 294, 10, 20, SHADE)
        canvas.ellipse(x, 332, 6, 6, rgb("#f0d48a"))
    half = [
        (320, 132),
        (262, 140),
        (222, 186),
        (213, 256),
        (220, 322),
        (244, 378),
        (286, 418),
        (320, 426),
    ]
    outline = mirrored(half, MIDDLE)
    face = canvas.mask(spline(outline))
    canvas.curve(outline, SKIN)
    # One side lies in shade, and the hair throws some on the forehead.
    side = [(392, 130), (450, 200), (450, 400), (330, 440), (378, 390), (406, 330), (412, 250)]
    canvas.fill(spline(side), SHADE, opacity=0.45, within=face)
    canvas.fill(oval(320, 150, 120, 46), SHADE, opacity=0.5, within=face)
    for x in (252, 388):
        canvas.ellipse(x, 334, 28, 18, BLUSH, opacity=0.45, soft=5)


def _eye(canvas: Canvas, right: bool) -> None:
    def at(points: Points) -> list[tuple[float, float]]:
        return flipped(points, MIDDLE) if right else list(points)

    white = [(240, 276), (254, 262), (273, 258), (291, 266), (299, 279), (283, 287), (260, 287)]
    cover = canvas.mask(spline(at(white)))
    canvas.curve(at(white), WHITE)
    x = 360.0 + 11 if right else 280.0 - 11
    canvas.fill(oval(x, 272, 15.5, 16), IRIS, within=cover)
    canvas.fill(oval(x, 272, 8, 8.5), BLACK, within=cover)
    canvas.fill(oval(270, 258, 36, 8), rgb("#cdb5a8"), within=cover, opacity=0.5)
    canvas.ellipse(x - 5, 266, 4, 4, WHITE)
    canvas.ellipse(x + 5, 277, 2, 2, WHITE)
    lid = [(229, 274), (240, 266), (254, 257), (273, 253), (291, 260), (301, 276)]
    lid += [(300, 280), (290, 267), (273, 260), (255, 264), (241, 276)]
    canvas.curve(at(lid), BLACK)
    crease = spline(at([(242, 254), (256, 246), (274, 243), (292, 249)]), closed=False)
    canvas.stroke(crease, SHADE, [1, 3, 1])
    lower = spline(at([(246, 284), (262, 290), (282, 290), (296, 283)]), closed=False)
    canvas.stroke(lower, SHADE, [1, 2.5, 1])
    brow = [(227, 238), (244, 224), (270, 221), (298, 233), (298, 241), (270, 231), (246, 233)]
    canvas.curve(at(brow), HAIR)


def _nose_and_mouth(canvas: Canvas) -> None:
    canvas.curve([(322, 268), (332, 300), (340, 326), (326, 336), (320, 322)], SHADE, opacity=0.7)
    base = [(302, 332), (311, 339), (320, 337), (329, 339), (338, 332), (330, 345), (310, 345)]
    canvas.curve(base, rgb("#c98968"))
    upper = [
        (278, 369), (302, 364), (313, 361), (320, 363), (327, 361), (338, 364), (362, 369),
        (338, 377), (320, 378), (302, 377),
    ]  # fmt: skip
    lower = [(278, 369), (302, 376), (320, 377), (338, 376), (362, 369), (344, 389), (320, 396)]
    lower += [(296, 389)]
    canvas.curve(lower, LIP)
    canvas.curve(upper, LIP_DARK)
    teeth = [(290, 371), (320, 376), (350, 371), (338, 379), (320, 382), (302, 379)]
    canvas.curve(teeth, WHITE)
    canvas.ellipse(320, 389, 13, 2.6, rgb("#dd8288"))
    for x in (275, 365):
        canvas.ellipse(x, 368, 3.5, 3, SHADE)
    canvas.curve([(304, 402), (320, 405), (336, 402), (320, 408)], SHADE, opacity=0.8)


def _hair_in_front(canvas: Canvas) -> None:
    """Parted on her right, falling to both sides of the face."""
    left = [
        (286, 98), (240, 112), (206, 152), (190, 214), (186, 290), (180, 360), (190, 428),
        (216, 438), (226, 400), (214, 340), (210, 272), (216, 232), (236, 196), (266, 162),
        (292, 128),
    ]  # fmt: skip
    right = [
        (280, 100), (330, 82), (388, 96), (430, 138), (450, 210), (454, 290), (462, 360),
        (452, 428), (424, 440), (414, 400), (426, 340), (430, 276), (420, 226), (396, 196),
        (352, 172), (310, 140), (288, 116),
    ]  # fmt: skip
    canvas.curve(left, HAIR)
    canvas.curve(right, HAIR)
    shine = [(318, 112), (372, 116), (412, 150), (432, 200), (424, 200), (398, 162), (360, 134)]
    canvas.curve(shine, HAIR_LIGHT)
    canvas.curve([(228, 150), (208, 198), (200, 256), (206, 258), (216, 206)], HAIR_LIGHT)
    parting = spline([(284, 100), (292, 120), (314, 140)], closed=False)
    canvas.stroke(parting, HAIR_DARK, [2, 3, 1])
    for strand in (
        [(196, 300), (192, 360), (200, 424)],
        [(446, 300), (452, 360), (440, 426)],
        [(340, 100), (394, 130), (430, 196), (440, 260)],
    ):
        canvas.stroke(spline(strand, closed=False), HAIR_DARK, [1, 3, 1])

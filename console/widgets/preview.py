"""The newest frame in half blocks: two pixels per cell, colour as it is, greys as letters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.parts import Preview
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.paint import Paint

_RAMP = " .:-=+*#%@"  # dark to light, one ASCII cell per two pixels
_LEVELS = 16  # shades per channel: fewer changes of style, fewer bytes, no visible loss


def scaled(preview: Preview, width: int, height: int) -> tuple[int, int]:
    """The picture's size in pixels inside ``width`` × ``2·height``, aspect kept."""
    factor = min(width / preview.width, height * 2 / preview.height)
    return max(int(preview.width * factor), 1), max(int(preview.height * factor) // 2 * 2, 2)


def half_blocks(paint: Paint, preview: Preview, width: int, height: int) -> list[Strip]:
    """The frame as ``height`` strips, centred; sampled by the pixel in the middle of each."""
    wide, high = scaled(preview, width, height)
    xs = [min((2 * x + 1) * preview.width // (2 * wide), preview.width - 1) for x in range(wide)]
    ys = [min((2 * y + 1) * preview.height // (2 * high), preview.height - 1) for y in range(high)]
    pad = (width - wide) // 2
    lines = []
    for y in range(0, high, 2):
        pairs = [(_pixel(preview, x, ys[y]), _pixel(preview, x, ys[y + 1])) for x in xs]
        line = _letters(paint, pairs) if _plain(paint) else _colours(pairs)
        blank = paint.style("text")
        strip = Strip(
            [Segment(" " * pad, blank), *line, Segment(" " * (width - wide - pad), blank)]
        )
        lines.append(strip)
    above = (height - len(lines)) // 2
    return [paint.blank(width)] * above + lines


Pixel = tuple[int, int, int]


def _plain(paint: Paint) -> bool:
    return paint.theme.colors != "truecolor" or not paint.unicode


def _pixel(preview: Preview, x: int, y: int) -> Pixel:
    at = (y * preview.width + x) * 3
    step = 256 // _LEVELS
    r, g, b = (min(v // step * step + step // 2, 255) for v in preview.rgb[at : at + 3])
    return r, g, b


def _colours(pairs: Sequence[tuple[Pixel, Pixel]]) -> list[Segment]:
    out: list[Segment] = []
    run, last = 0, pairs[0]
    for pair in [*pairs, None]:
        if pair == last:
            run += 1
            continue
        top, bottom = last
        out.append(Segment("▀" * run, _half_block(top, bottom)))
        if pair is not None:
            run, last = 1, pair
    return out


@lru_cache(8192)
def _half_block(top: Pixel, bottom: Pixel) -> Style:
    return Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom))


def _letters(paint: Paint, pairs: Sequence[tuple[Pixel, Pixel]]) -> list[Segment]:
    text = ""
    for top, bottom in pairs:
        light = sum(top) + sum(bottom)
        text += _RAMP[min(light * len(_RAMP) // (6 * 256), len(_RAMP) - 1)]
    return [Segment(text, paint.style("text"))]


class NewestFrame(Lines):
    """The pane beside the job table."""

    SHOWS = frozenset({"preview"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        preview = self.model.preview
        if preview is None:
            lines = [heading(self.paint, t("Newest frame"), width, False)]
            made = any(row.clip for row in self.model.jobs.values())
            why = t("no preview here") if made else t("appears with the first block")
            said = fmt.wrap(why, max(width - 3, 8))
            return lines + [self.paint.row(width).put(f"  {part}", "soft").strip() for part in said]
        text = t("clip {number}", number=preview.clip + 1)
        if width >= 34:
            text = f"{t('job {id}', id=preview.job)} {text}"
        if width >= 48:
            text += f" {t('block {number}', number=preview.block)}"
        note = self.paint.row(40).put(text, "soft")
        lines = [heading(self.paint, t("Newest frame"), width, False, note)]
        return lines + half_blocks(self.paint, preview, width, height - 1)

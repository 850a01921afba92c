"""Portraits in: oriented, flattened, resized and cropped to the output frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.media.findings import MediaError
from engine.sentence import sentence

#: What shows through transparent parts.
BACKGROUND: Final = (255, 255, 255)
#: Pictures above this many pixels are refused before they are decoded.
MAX_PIXELS: Final = 100_000_000
_SWAPPED = frozenset({5, 6, 7, 8})  # EXIF orientations that turn by a quarter
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageInfo:
    """Facts of a picture as it is shown (after its EXIF orientation)."""

    width: int
    height: int
    format: str
    frames: int
    alpha: bool


def image_info(path: Path) -> ImageInfo:
    """Header facts, without decoding the pixels.

    Raises:
        MediaError: unreadable or too large.
    """
    with _open(path) as picture:
        width, height = picture.size
        if picture.getexif().get(_EXIF_ORIENTATION) in _SWAPPED:
            width, height = height, width
        alpha = "A" in picture.getbands() or "transparency" in picture.info
        frames = int(getattr(picture, "n_frames", 1))
        return ImageInfo(width, height, picture.format or "?", frames, alpha)


def load_rgb(path: Path) -> Image.Image:
    """The first frame, upright, transparent parts on white, as RGB.

    Raises:
        MediaError: unreadable, damaged or too large.
    """
    with _open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if "A" in upright.getbands() or "transparency" in upright.info:
            layered = upright.convert("RGBA")
            flat = Image.new("RGBA", layered.size, (*BACKGROUND, 255))
            flat.alpha_composite(layered)
            return flat.convert("RGB")
        if upright.mode.startswith("I;16"):  # PIL would clip 16-bit grey instead of scaling it
            grey = np.asarray(upright).astype(np.float32) / 257.0
            return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        return upright.convert("RGB")


def load_portrait(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """The portrait as uint8 ``[height, width, 3]``: short side resized, centre cropped.

    The short side becomes ``min(height, width)`` as in the reference; where the frame would
    then not be filled (the reference shows black bars) the picture is enlarged just enough.

    Raises:
        MediaError: as ``load_rgb``, or an empty size.
    """
    if height <= 0 or width <= 0:
        raise MediaError(
            sentence(
                "cannot fit a portrait to {width}x{height}: both sides must be above 0",
                width=width,
                height=height,
            )
        )
    picture = load_rgb(path)
    w, h = picture.size
    short = min(height, width)
    new_w, new_h = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    if new_w < width or new_h < height:
        scale = max(width / w, height / h)
        new_w, new_h = max(width, round(w * scale)), max(height, round(h * scale))
    picture = picture.resize((new_w, new_h), Image.Resampling.BILINEAR)
    left, top = round((new_w - width) / 2), round((new_h - height) / 2)
    return np.array(picture.crop((left, top, left + width, top + height)), dtype=np.uint8)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures; the limit here is ours and refuses them.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise MediaError(
                        sentence(
                            "{path} has {width}x{height} pixels, over the limit of "
                            "{max_pixels} million",
                            path=path,
                            width=picture.width,
                            height=picture.height,
                            max_pixels=MAX_PIXELS // 1000000,
                        )
                    )
                yield picture
    except UnidentifiedImageError as error:
        raise MediaError(
            sentence("{path} is not a picture in a known format", path=path)
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            sentence("{path} claims too many pixels to be a portrait", path=path)
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(
            sentence("{path} cannot be read as a picture: {error}", path=path, error=error)
        ) from error

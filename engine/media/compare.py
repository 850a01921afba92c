"""How alike two videos are: peak signal-to-noise ratio over their common frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from engine.sentence import sentence

Pixels = NDArray[np.uint8]  # height, width, 3


class CompareError(ValueError):
    """Two videos that cannot be compared; says why."""


@dataclass(frozen=True)
class Likeness:
    """``psnr`` in dB over ``frames`` frames; infinite where every pixel is the same."""

    frames: int
    psnr: float


def likeness(one: Path, other: Path, cancelled: Callable[[], bool] = lambda: False) -> Likeness:
    """PSNR of two videos of one size, over as many frames as the shorter has.

    Decodes both; call it on a thread.

    Raises:
        CompareError: frames of different sizes, no frame, no video, or cancelled.
    """
    squares, samples, frames = 0.0, 0, 0
    for a, b in zip(_frames(one), _frames(other), strict=False):
        if a.shape != b.shape:
            sizes = [f"{x.shape[1]}*{x.shape[0]}" for x in (a, b)]
            raise CompareError(
                sentence(
                    "frames of {sizes} and of {sizes2} have no PSNR",
                    sizes=sizes[0],
                    sizes2=sizes[1],
                )
            )
        if cancelled():
            raise CompareError("cancelled")
        gap = a.astype(np.int32) - b
        squares += float(np.square(gap).sum())
        samples += gap.size
        frames += 1
    if not frames:
        raise CompareError(sentence("there is no frame to compare"))
    mean = squares / samples
    return Likeness(frames, math.inf if mean == 0 else 10 * math.log10(255**2 / mean))


def middle_frame(file: Path, width: int) -> tuple[int, int, bytes]:
    """The frame in the middle, at most ``width`` pixels wide: width, height, RGB bytes.

    Raises:
        CompareError: no video, or no frame.
    """
    count = sum(1 for _frame in _decoded(file))
    for number, frame in enumerate(_decoded(file)):
        if number == count // 2:
            scale = min(width / frame.width, 1.0)
            size = (max(round(frame.width * scale), 2), max(round(frame.height * scale), 2))
            small = frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
            return size[0], size[1], small.tobytes()
    raise CompareError(sentence("{file} has no frame", file=file))


def _frames(file: Path) -> Iterator[Pixels]:
    for frame in _decoded(file):
        pixels: Pixels = frame.to_ndarray(format="rgb24")
        yield pixels


def _decoded(file: Path) -> Iterator[Any]:
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise CompareError(sentence("{file} has no video", file=file))
            yield from container.decode(video=0)
    except (OSError, av.FFmpegError) as error:
        raise CompareError(
            sentence("{file} cannot be read: {error}", file=file, error=error)
        ) from error

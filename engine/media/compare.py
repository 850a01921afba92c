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
            raise CompareError(f"frames of {sizes[0]} and of {sizes[1]} have no PSNR")
        if cancelled():
            raise CompareError("cancelled")
        gap = a.astype(np.int32) - b
        squares += float(np.square(gap).sum())
        samples += gap.size
        frames += 1
    if not frames:
        raise CompareError("there is no frame to compare")
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
    raise CompareError(f"{file} has no frame")


def _frames(file: Path) -> Iterator[Pixels]:
    for frame in _decoded(file):
        pixels: Pixels = frame.to_ndarray(format="rgb24")
        yield pixels


def _decoded(file: Path) -> Iterator[Any]:
    try:
        with av.open(str(file)) as container:
            if not container.streams.video:
                raise CompareError(f"{file} has no video")
            yield from container.decode(video=0)
    except (OSError, av.FFmpegError) as error:
        raise CompareError(f"{file} cannot be read: {error}") from error

"""How alike two videos are: PSNR and SSIM of their luma, frame by frame.

PSNR: 10 log10(255² / MSE) over all pixels of all frames. SSIM: Wang et al. 2004 with a uniform
window of 8 pixels and the usual constants, the mean over all windows and frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engine.media.findings import MediaError
from engine.media.segment import luma_plane
from engine.sentence import sentence

_PEAK: Final = 255.0
_WINDOW: Final = 8
_C1: Final = (0.01 * _PEAK) ** 2
_C2: Final = (0.03 * _PEAK) ** 2


@dataclass(frozen=True)
class Likeness:
    """``psnr`` in dB, infinite for equal pictures; ``ssim`` 1 for equal ones."""

    frames: int
    psnr: float
    ssim: float


def compare(reference: Path, other: Path) -> Likeness:
    """Compare two videos of equal size and length. Blocks.

    Raises:
        MediaError: one cannot be decoded, or they are not of one shape.
    """
    squares = 0.0
    alike = 0.0
    pixels = frames = 0
    for one, two in zip_longest(_luma(reference), _luma(other)):
        if one is None or two is None or one.shape != two.shape:
            raise MediaError(
                sentence(
                    "{one} and {other} differ in size or length",
                    one=reference.name,
                    other=other.name,
                )
            )
        squares += float(np.square(one - two).sum())
        alike += ssim(one, two)
        pixels += one.size
        frames += 1
    if not frames:
        raise MediaError(sentence("{name} holds no frame", name=reference.name))
    error = squares / pixels
    psnr = math.inf if error == 0 else 10 * math.log10(_PEAK**2 / error)
    return Likeness(frames, psnr, alike / frames)


def ssim(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Structural similarity of two luma planes, float64 [H, W] in 0…255, at least 8 × 8."""
    mean_1, mean_2 = _means(one), _means(two)
    var_1 = _means(one * one) - mean_1**2
    var_2 = _means(two * two) - mean_2**2
    both = _means(one * two) - mean_1 * mean_2
    top = (2 * mean_1 * mean_2 + _C1) * (2 * both + _C2)
    bottom = (mean_1**2 + mean_2**2 + _C1) * (var_1 + var_2 + _C2)
    return float((top / bottom).mean())


def _means(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of every window, by a table of sums."""
    table = np.pad(plane, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    n = _WINDOW
    sums = table[n:, n:] - table[:-n, n:] - table[n:, :-n] + table[:-n, :-n]
    means: NDArray[np.float64] = sums / (n * n)
    return means


def _luma(path: Path) -> Iterator[NDArray[np.float64]]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(sentence("{name} has no video stream", name=path.name))
            for frame in container.decode(container.streams.video[0]):
                plane: Any = luma_plane(frame.reformat(format="yuv420p"))
                yield plane.astype(np.float64)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(f"{path.name}: {error.strerror or error}") from error

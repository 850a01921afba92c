"""Frames and segments for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.media.segment import SegmentWriter

WIDTH, HEIGHT, FPS = 128, 64, 25


def noise(frames: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Random frames, as a model with random weights makes them."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def numbered(first: int, frames: int) -> NDArray[np.uint8]:
    """Frames that carry their number: 8 bars, black or white, least significant first."""
    video = np.zeros((frames, HEIGHT, WIDTH, 3), np.uint8)
    for n in range(frames):
        for bit in range(8):
            if (first + n) >> bit & 1:
                video[n, :, bit * 16 : (bit + 1) * 16] = 255
    return video


def number_of(picture: NDArray[np.uint8]) -> int:
    """What ``numbered`` wrote."""
    bars = picture.reshape(HEIGHT, 8, 16, 3).mean(axis=(0, 2, 3))
    return sum(1 << bit for bit in range(8) if bars[bit] > 128)


def segment(path: Path, frames: NDArray[np.uint8]) -> Path:
    """A committed segment."""
    height, width = frames.shape[1:3]
    with SegmentWriter(path, width, height, FPS) as writer:
        writer.write(frames)
        return writer.close().path.rename(path)

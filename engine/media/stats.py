"""Black and frozen frames, counted while frames pass by, so that checking costs no decoding.

Thresholds are those of ffmpeg's blackdetect (98 % of the pixels under 10 % of the luma range) and
freezedetect (mean difference under −60 dB of the range): noise and slow motion pass.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Luma of limited-range video.
_LUMA_MIN, _LUMA_SPAN = 16, 219
_BLACK_LEVEL: Final = _LUMA_MIN + round(0.10 * _LUMA_SPAN)
_BLACK_SHARE: Final = 0.98
_FROZEN_DIFFERENCE: Final = 0.001 * _LUMA_SPAN


@dataclass(frozen=True)
class FrameStats:
    """Counts over a run of frames; ``frozen_run`` is the longest row of repeated frames."""

    frames: int = 0
    black: int = 0
    frozen: int = 0
    frozen_run: int = 0
    mean_luma: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class StatsCounter:
    """Feeds on luma planes in order and tells ``FrameStats``."""

    def __init__(self) -> None:
        self._last: NDArray[np.int16] | None = None
        self._frames = self._black = self._frozen = self._run = self._longest = 0
        self._sum = 0.0

    def add(self, luma: NDArray[np.uint8]) -> None:
        """Count one frame's luma plane, uint8 [H, W] in limited range."""
        self._frames += 1
        self._sum += float(luma.mean())
        self._black += float((luma <= _BLACK_LEVEL).mean()) >= _BLACK_SHARE
        current = luma.astype(np.int16)
        if self._last is not None:
            same = float(np.abs(current - self._last).mean()) < _FROZEN_DIFFERENCE
            self._frozen += same
            self._run = self._run + 1 if same else 0
            self._longest = max(self._longest, self._run)
        self._last = current

    @property
    def stats(self) -> FrameStats:
        mean = self._sum / self._frames if self._frames else None
        return FrameStats(self._frames, self._black, self._frozen, self._longest, mean)

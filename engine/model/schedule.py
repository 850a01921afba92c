"""Flow matching: noise levels, timesteps, and the Euler step between them.

Source: FlowMatchEulerDiscreteScheduler of diffusers as the reference uses it: the shift acts once
on the range of levels and once more on each level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Timesteps of training; a timestep is a noise level times this.
TRAIN_STEPS = 1000


def _shifted(sigma: np.ndarray, shift: float) -> np.ndarray:
    return np.asarray(shift * sigma / (1 + (shift - 1) * sigma), dtype=np.float64)


@dataclass(frozen=True)
class Schedule:
    """``sigmas`` has one more entry than ``timesteps``: the last is 0, a clean latent."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]

    @classmethod
    def flow_match(cls, steps: int = 4, shift: float = 3.0) -> Schedule:
        """For any number of steps from 1. Raises ``ValueError`` for less or for ``shift ≤ 0``."""
        if steps < 1:
            raise ValueError(f"{steps} steps; at least 1 is needed")
        if not shift > 0:
            raise ValueError(f"a shift of {shift}; it must be above 0")
        lowest = _shifted(np.array([1 / TRAIN_STEPS]), shift)[0]
        levels = np.linspace(1.0, lowest, steps)
        sigmas = _shifted(levels, shift).astype(np.float32)
        timesteps = sigmas * np.float32(TRAIN_STEPS)
        return cls((*map(float, sigmas), 0.0), tuple(map(float, timesteps)))

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def euler(self, x: Tensor, velocity: Tensor, step: int) -> Tensor:
        """One step along ``velocity``, computed in float32, in ``x``'s dtype."""
        delta = np.float32(self.sigmas[step + 1]) - np.float32(self.sigmas[step])
        return (x.to(torch.float32) + float(delta) * velocity.to(torch.float32)).to(x.dtype)

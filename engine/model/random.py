"""All randomness, counter-based: any draw can be made alone, in any order, on any rank.

Philox4x64 (Salmon et al., SC 2011) as in numpy, keyed by seed and purpose, its counter set by
clip, block and step.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

#: Smallest and largest distance between a block and the reference image, in latent frames.
RELATIVE_DIST = (4, 30)

_WORD = 2**64


def generator(
    seed: int, purpose: str, clip: int = 0, block: int = 0, step: int = 0
) -> np.random.Generator:
    """A generator of its own for one draw. ``seed`` may be any integer."""
    name = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
    key = np.array([seed % _WORD, int.from_bytes(name, "little")], dtype=np.uint64)
    # The low word counts the numbers drawn, so draws never run into each other.
    counter = np.array([0, clip, block, step], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def normals(
    shape: tuple[int, ...],
    seed: int,
    purpose: str,
    clip: int = 0,
    block: int = 0,
    step: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normals drawn in float32 and rounded once to ``dtype``."""
    drawn = generator(seed, purpose, clip, block, step).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(drawn).to(dtype).to(device)


def relative_dist(seed: int, clip: int, block: int, step: int) -> int:
    """Distance of the reference from a block at one step, 4 to 30 latent frames inclusive."""
    low, high = RELATIVE_DIST
    drawn = generator(seed, "relative_dist", clip, block, step)
    return int(drawn.integers(low, high, endpoint=True))

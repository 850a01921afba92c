"""Random weights without computing them one by one: slices of large tables of normals.

A table holds normals of one (dtype, mean, deviation); a tensor is a row of slices of it whose
places are drawn from (seed, tensor name). So a tensor's bytes depend on nothing else, and writing
32 GB costs little more than the disk.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Elements of a table; prime, so that rows of a matrix never repeat each other.
TABLE: Final = 4_194_301
#: Elements of one slice at most.
SLICE: Final = 1_048_576


@dataclass(frozen=True)
class Init:
    """Mean and standard deviation of a tensor's weights."""

    mean: float
    std: float


def bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16 (nearest, ties to even), as its bits. Finite input only."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}|{purpose}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@dataclass
class Tables:
    """The tables of one seed; made when first needed, shared by threads."""

    seed: int
    _made: dict[tuple[str, Init], memoryview] = field(default_factory=dict)
    _base: NDArray[np.float32] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _table(self, dtype: str, init: Init) -> memoryview:
        with self._lock:
            if (dtype, init) not in self._made:
                if self._base is None:
                    rng = _generator(self.seed, "table")
                    # Beyond four deviations nothing is drawn: no weight stands out.
                    self._base = np.clip(rng.standard_normal(TABLE, np.float32), -4, 4)
                scaled = self._base * np.float32(init.std) + np.float32(init.mean)
                bits = bf16(scaled) if dtype == "BF16" else scaled.view(np.uint32)
                self._made[dtype, init] = bits.data.cast("B")
            return self._made[dtype, init]

    def slices(self, name: str, dtype: str, count: int, init: Init) -> Iterator[memoryview]:
        """The bytes of tensor ``name`` with ``count`` elements, in order, without copying."""
        item = 2 if dtype == "BF16" else 4
        table = self._table(dtype, init)
        rng = _generator(self.seed, name)
        while count:
            take = min(count, SLICE)
            start = int(rng.integers(0, TABLE - take + 1))
            yield table[start * item : (start + take) * item]
            count -= take

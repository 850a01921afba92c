"""Units of weights: what travels together when it is sharded, streamed or gathered, in bytes."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.checkpoint.expected import DiTShape, Shape, Wrap, dit_tensors, unit_of

DTYPE_BYTES: Final[dict[str, int]] = {"fp32": 4, "bf16": 2, "fp8": 1}

#: Bytes of what is computed with: fp8 weights multiply into bf16.
COMPUTE_BYTES: Final[dict[str, int]] = {"fp32": 4, "bf16": 2, "fp8": 2}


@dataclass(frozen=True)
class Unit:
    """Weights that travel together: ``params`` as stored, ``padded`` as FSDP2 gathers.

    Both count elements. Sharding cuts dimension 0 into equal chunks, the last ones padded, so the
    gathered buffer holds ``ranks`` × chunk rows of every tensor. ``linear`` of the elements are
    matrices that fp8 quantises, with one float32 scale for each of their ``rows``; padded, they are
    ``padded_linear`` and ``padded_rows``.
    """

    name: str
    params: int
    padded: int
    shard: int
    linear: int = 0
    rows: int = 0
    padded_linear: int = 0
    padded_rows: int = 0

    def bytes(self, dtype: str) -> int:
        """Bytes of the parameters as they are held in ``dtype``."""
        return _sized(self.params, self.linear, self.rows, dtype)

    def gathered(self, dtype: str) -> int:
        """Bytes of the buffer they are gathered into."""
        return _sized(self.padded, self.padded_linear, self.padded_rows, dtype)


def _sized(elements: int, linear: int, rows: int, dtype: str) -> int:
    if dtype != "fp8":
        return elements * DTYPE_BYTES[dtype]
    return (elements - linear) * COMPUTE_BYTES["fp8"] + linear + 4 * rows


#: What a job needs once, before it begins: the prompt's keys and values, and the modulation of
#: each timestep, are computed while loading, and then these weights go.
_ONCE: Final = re.compile(
    r"(text_embedding|time_embedding|time_projection)\.|blocks\.\d+\.cross_attn\.(k|v|norm_k)\."
)


@functools.lru_cache(maxsize=64)
def units(shape: DiTShape, ranks: int, wrap: Wrap = "block") -> tuple[Unit, ...]:
    """Every unit of the checkpoint's DiT, sharded over ``ranks`` (1: not sharded), root first."""
    return _units(shape, ranks, wrap, held=False)


@functools.lru_cache(maxsize=64)
def held_units(shape: DiTShape, ranks: int, wrap: Wrap = "block") -> tuple[Unit, ...]:
    """``units`` of what stays loaded; the reference's wrapping keeps what the reference does."""
    return _units(shape, ranks, wrap, held=wrap == "block")


def _units(shape: DiTShape, ranks: int, wrap: Wrap, *, held: bool) -> tuple[Unit, ...]:
    tables: dict[str, list[tuple[str, Shape]]] = {"root": []}
    for name, size in dit_tensors(shape).items():
        if not (held and _ONCE.match(name)):
            tables.setdefault(unit_of(name, shape, wrap), []).append((name, size))
    return tuple(_unit(name, sizes, ranks) for name, sizes in tables.items())


def _unit(unit: str, sizes: Iterable[tuple[str, Shape]], ranks: int) -> Unit:
    params = shard = linear = rows = padded_linear = padded_rows = 0
    for name, size in sizes:
        rest = math.prod(size[1:])
        chunk = -(-size[0] // ranks)
        params += size[0] * rest
        shard += chunk * rest
        # The linears of blocks and injectors: those of the reference's fp8 model.
        if unit != "root" and len(size) == 2 and name.endswith(".weight"):
            linear += size[0] * rest
            rows += size[0]
            padded_linear += chunk * ranks * rest
            padded_rows += chunk * ranks
    return Unit(unit, params, shard * ranks, shard, linear, rows, padded_linear, padded_rows)

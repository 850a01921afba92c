"""Bytes by owner that a plan puts on each rank's device. Arithmetic on shapes; no torch.

What is exact: weights and their shards, gathered units, keys and values. What is estimated from
shapes: activations and the VAE's share, each with its own function. What is assumed, because it
belongs to the machine: the context (``CONTEXT_BYTES``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.checkpoint.expected import DiTShape, Shape, Wrap, dit_tensors, unit_of
from engine.geometry import BLOCK_FRAMES, FrameGeometry

DTYPE_BYTES: Final[dict[str, int]] = {"fp32": 4, "bf16": 2, "fp8": 1}

#: Assumed before a rank has measured its own: a CUDA context, or the libraries of a CPU rank.
CONTEXT_BYTES: Final[dict[str, int]] = {"cuda": 600 << 20, "cpu": 480 << 20}

#: Assumed likewise on a GPU: kernels loaded late, and NCCL's buffers where ranks talk (one
#: communicator over NVLink was measured at 1.3 GiB).
KERNEL_BYTES: Final = 96 << 20
NCCL_BYTES: Final = 1400 << 20

#: Base width and bytes of the released Wan 2.1 VAE (float32), by which another one is scaled.
_VAE_WIDTH, _VAE_BYTES = 96, 507_609_880

# Scratch that kernels and the C library's heap keep on a CPU rank, whatever the shapes.
_CPU_SCRATCH: Final = 64 << 20


@dataclass(frozen=True)
class Unit:
    """Weights that are gathered together: ``params`` as stored, ``padded`` as FSDP2 gathers.

    Both count elements. Sharding cuts dimension 0 into equal chunks, the last ones padded, so the
    gathered buffer holds ``ranks`` × chunk rows of every tensor.
    """

    name: str
    params: int
    padded: int
    shard: int


def units(shape: DiTShape, ranks: int, wrap: Wrap = "block") -> tuple[Unit, ...]:
    """Every unit of the DiT when sharded over ``ranks`` (1: not sharded), root first."""
    tables: dict[str, list[Shape]] = {"root": []}
    for name, size in dit_tensors(shape).items():
        tables.setdefault(unit_of(name, shape, wrap), []).append(size)
    return tuple(_unit(name, sizes, ranks) for name, sizes in tables.items())


def _unit(name: str, sizes: Iterable[Shape], ranks: int) -> Unit:
    params = shard = 0
    for size in sizes:
        rest = math.prod(size[1:])
        params += size[0] * rest
        shard += -(-size[0] // ranks) * rest
    return Unit(name, params, shard * ranks, shard)


@dataclass(frozen=True)
class Shapes:
    """All sizes that the memory of one job follows from."""

    dit: DiTShape
    frame: FrameGeometry
    dtype: str  # compute and weights
    kv_dtype: str
    vae_file_bytes: int | None = None  # of the VAE's float32 file; None where it is not known

    @property
    def compute_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class RankLoad:
    """What one rank does in a plan."""

    steps: int  # denoising steps it owns
    shards: int  # ranks that share the weights; 1: it holds them all; 0: it holds none
    vae: bool
    device: str  # "cuda" or "cpu"
    prefetch: int = 1  # units gathered ahead
    items: int = 1  # work items that walk the layers together
    talks: bool = False  # with other ranks
    epochs: int = 1  # conditioning epochs alive at once, while clip 1 enters
    wrap: Wrap = field(default="block")


def weights_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Weights that stay on the device: all of them, this rank's shards, or none."""
    if not load.shards:
        return 0
    size = shapes.compute_bytes
    return size * sum(unit.shard for unit in units(shapes.dit, load.shards, load.wrap))


def gathered_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Most that gathered weights take at once.

    The root stays gathered during a walk; beside it lie a unit's gather buffer and its copy, and
    the buffers of the units gathered ahead (FSDP2 copies out of the buffer).
    """
    if load.shards < 2:
        return 0
    sharded = units(shapes.dit, load.shards, load.wrap)
    root = next(u.padded for u in sharded if u.name == "root")
    largest = max((u.padded for u in sharded if u.name != "root"), default=0)
    most = max(2 * root + load.prefetch * largest, root + (2 + load.prefetch) * largest)
    return most * shapes.compute_bytes


def kv_bytes(shapes: Shapes, steps: int) -> int:
    """Rings of ``steps`` denoising steps: per layer 12 latent frames and the room for conditions.

    A ring's buffer has the conditioning tokens in front, so that attention sees one run of keys.
    """
    tokens = shapes.frame.ring_tokens + shapes.frame.conditioning_tokens
    return steps * _keys_and_values(shapes, tokens)


def conditioning_bytes(shapes: Shapes, epochs: int) -> int:
    """Un-rotated conditioning of the epochs that coexist, and the prompt's keys and values."""
    tokens = epochs * shapes.frame.conditioning_tokens + shapes.dit.text_len
    return _keys_and_values(shapes, tokens)


def _keys_and_values(shapes: Shapes, tokens: int) -> int:
    return 2 * shapes.dit.num_layers * tokens * shapes.dit.dim * DTYPE_BYTES[shapes.kv_dtype]


def activation_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Estimate of what a walk needs beside weights and caches.

    The largest of: a layer's feed-forward or its attention for the longer of block and condition
    tokens, and the float32 copies of the weights that are computed in float32 (a sixth of the
    time projection, the audio encoder's last convolution). Every item's hidden state is added.
    """
    scratch = _CPU_SCRATCH if load.device == "cpu" else 0
    if not load.shards:
        return scratch
    dit, size = shapes.dit, shapes.compute_bytes
    tokens = max(shapes.frame.tokens_per_block, shapes.frame.conditioning_tokens)
    # x and its sum in float32, the normed and modulated copies.
    stream = tokens * dit.dim * (4 * 4 + 2 * size)
    attention = tokens * dit.dim * (5 * size + 8)  # q, k, v, rotated copy, result; complex64
    feed_forward = 2 * tokens * dit.ffn_dim * size
    copies = 0 if size == 4 else 4 * max(dit.dim**2, 3 * dit.dim * dit.dim // 2)
    hidden = load.items * tokens * dit.dim * size
    return max(stream + max(attention, feed_forward), copies) + hidden + scratch


def vae_bytes(shapes: Shapes, device: str) -> int:
    """Estimate of the VAE on one rank: weights, the stream's history, a block's decode.

    Both are those of the top level, where ``width`` channels have full size, and half as much
    again for the levels below: two frames before each of its eight convolutions; and four frames
    of five tensors in flight. A block's twelve frames of colours lie beside them, in float32,
    seven times over while they are joined, clamped and turned to bytes.
    """
    file_bytes = _VAE_BYTES if shapes.vae_file_bytes is None else shapes.vae_file_bytes
    width = max(1, round(_VAE_WIDTH * math.sqrt(file_bytes / _VAE_BYTES)))
    size = 2 if device == "cuda" and shapes.dtype == "bf16" else 4
    pixels = shapes.frame.width * shapes.frame.height
    history = 2 * 8 * width * pixels * size * 3 // 2
    transient = 4 * 5 * width * pixels * size
    colours = 7 * 3 * BLOCK_FRAMES * pixels * 4
    return file_bytes * size // 4 + history + transient + colours


def outside_bytes(load: RankLoad) -> int:
    """What lies on a GPU beyond allocator and context."""
    if load.device != "cuda":
        return 0
    return KERNEL_BYTES + (NCCL_BYTES if load.talks else 0)


def by_owner(shapes: Shapes, load: RankLoad) -> dict[str, int]:
    """Predicted peak of one rank by owner, in bytes; owners that hold nothing are left out."""
    found: Mapping[str, int] = {
        "weights": weights_bytes(shapes, load),
        "gathered": gathered_bytes(shapes, load),
        "kv": kv_bytes(shapes, load.steps),
        "conditioning": conditioning_bytes(shapes, load.epochs) if load.steps else 0,
        "activations": activation_bytes(shapes, load),
        "vae": vae_bytes(shapes, load.device) if load.vae else 0,
        "context": CONTEXT_BYTES[load.device],
        "other": outside_bytes(load),
    }
    return {owner: size for owner, size in found.items() if size}

"""Bytes by owner that a plan puts on each rank's device. Arithmetic on shapes; no torch.

What is exact: weights, shards, slots, gathered units, keys and values. What is estimated from
shapes: activations and the VAE's share, each with its own function. What is assumed until the
machine has been measured (``engine.placement.calibration``): context, kernels, NCCL, slack.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.checkpoint.expected import DiTShape, Wrap
from engine.geometry import BLOCK_FRAMES, BLOCK_LATENTS, FrameGeometry
from engine.placement.plan import Lead
from engine.placement.units import COMPUTE_BYTES, DTYPE_BYTES, held_units

#: Assumed before a rank has measured its own: a CUDA context, or the libraries of a CPU rank.
CONTEXT_BYTES: Final[dict[str, int]] = {"cuda": 600 << 20, "cpu": 293 << 20}

#: Assumed likewise on a GPU: kernels loaded late, cuDNN's convolutions where a rank decodes, and
#: NCCL's buffers where ranks gather weights. All as measured on two H200s.
KERNEL_BYTES: Final = 84 << 20
CONVOLUTION_BYTES: Final = 300 << 20
NCCL_BYTES: Final = 1246 << 20

#: Owners that are estimated or assumed, and how far off they may be.
ESTIMATED: Final = frozenset({"activations", "vae", "context", "slack", "other"})
UNCERTAINTY: Final = 0.15

#: Base width and bytes of the released Wan 2.1 VAE (float32), by which another one is scaled.
_VAE_WIDTH, _VAE_BYTES = 96, 507_609_880

#: Frames of the still video that the portrait's motion latents are encoded from.
_STILL_FRAMES: Final = 73

# Of a CPU rank's heap: of every rank, after it has encoded text and speech, where weights are
# gathered (more process groups, and what torch loads for them).
_CPU_HEAP: Final = 58 << 20
_CPU_ENCODERS: Final = 21 << 20
_CPU_GATHERS: Final = 27 << 20
# Bytes per pixel that encoding and checking a finished clip take beside the next one's work.
_CPU_CLIP: Final = 384


@dataclass(frozen=True)
class Shapes:
    """All sizes that the memory of one job follows from."""

    dit: DiTShape
    frame: FrameGeometry
    dtype: str  # of the weights; fp8 computes in bf16
    kv_dtype: str
    vae_file_bytes: int | None = None  # of the VAE's float32 file; None where it is not known

    @property
    def compute_bytes(self) -> int:
        return COMPUTE_BYTES[self.dtype]

    @property
    def packed(self) -> bool:
        """Whether keys and values are stored otherwise than attention reads them."""
        return self.kv_dtype == "fp8"


@dataclass(frozen=True)
class RankLoad:
    """What one rank does in a plan."""

    cells: int  # (step, layer) pairs it computes: one ring of keys and values each
    layers: tuple[int, ...]  # that it holds or walks
    home: str  # of its weights: "resident", "streamed", "sharded"; "none": it has none
    vae: bool
    device: str  # "cuda" or "cpu"
    shards: int = 1  # ranks that share the weights, where they are sharded
    slots: int = 0  # where they are streamed: layers on the device at once
    resident_layers: int = 0  # likewise: layers that stay
    kv_on_host: bool = False
    prefetch: int = 1  # units gathered ahead
    items: int = 1  # work items that walk the layers together
    gathers: bool = False  # weights from other ranks, by a collective
    encodes: bool = False
    several_clips: bool = False
    epochs: int = 1  # conditioning epochs alive at once, while clip 1 enters
    lead: Lead = "own"  # where rings keep the conditioning that attention sees
    together: bool = False  # a clip is conditioned in the walk of its first block
    wrap: Wrap = "block"


@dataclass(frozen=True)
class _Parts:
    """Bytes of the DiT's parts in one dtype: the root, and each layer with its injector."""

    root: int
    layers: tuple[int, ...]


@functools.lru_cache(maxsize=64)
def _parts(shapes: Shapes) -> _Parts:
    sizes = {unit.name: unit.bytes(shapes.dtype) for unit in held_units(shapes.dit, 1)}
    inject = {layer: n for n, layer in enumerate(shapes.dit.audio_inject_layers)}
    layers = tuple(
        sizes[f"layer {n}"] + (sizes[f"injector {inject[n]}"] if n in inject else 0)
        for n in range(shapes.dit.num_layers)
    )
    return _Parts(sizes["root"], layers)


def layer_bytes(shapes: Shapes) -> tuple[int, ...]:
    """Weights of each layer with its injector: what streaming moves as one."""
    return _parts(shapes).layers


def weights_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Weights that stay on the device: all of its layers, some, this rank's shards, or none."""
    if load.home == "none":
        return 0
    if load.home == "sharded":
        sharded = held_units(shapes.dit, load.shards, load.wrap)
        if shapes.dtype == "fp8":
            return sum(-(-unit.gathered("fp8") // load.shards) for unit in sharded)
        return shapes.compute_bytes * sum(unit.shard for unit in sharded)
    parts = _parts(shapes)
    staying = load.layers[: load.resident_layers] if load.home == "streamed" else load.layers
    return parts.root + sum(parts.layers[n] for n in staying)


def streamed_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Slots for weights copied from the host, and for host-side keys and values in use.

    A slot takes the largest layer with its injector; two layers' rings are on the device at once,
    beside the window that they are unpacked into.
    """
    size = 0
    if load.kv_on_host and load.cells:
        size = 2 * ring_bytes(shapes, 1) + window_bytes(shapes)
    if load.home == "streamed":
        parts = layer_bytes(shapes)
        moving = [parts[n] for n in load.layers[load.resident_layers :]]
        size += min(load.slots, len(moving)) * max(moving, default=0)
        if load.device == "cpu":
            size += sum(moving)  # what it maps of the host's copy counts as resident with it
    return size


def gathered_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Most that gathered weights take at once.

    The root stays gathered during a walk; beside it lie a unit's gather buffer and its copy, and
    the buffers of the units gathered ahead (FSDP2 copies out of the buffer).
    """
    if load.home != "sharded" or load.shards < 2:
        return 0
    sharded = {
        u.name: u.gathered(shapes.dtype) for u in held_units(shapes.dit, load.shards, load.wrap)
    }
    root = sharded.pop("root")
    largest = max(sharded.values(), default=0)
    return max(2 * root + load.prefetch * largest, root + (2 + load.prefetch) * largest)


def ring_bytes(shapes: Shapes, cells: int) -> int:
    """Rows of the rings of ``cells`` (step, layer) pairs: keys and values of 12 latent frames.

    In fp8 every head of every token has a float32 scale.
    """
    dit = shapes.dit
    row = dit.dim + 4 * dit.num_heads if shapes.packed else dit.dim * DTYPE_BYTES[shapes.kv_dtype]
    return 2 * cells * shapes.frame.ring_tokens * row


def window_bytes(shapes: Shapes) -> int:
    """What attention sees at once: the conditioning and one ring, as they are computed with."""
    return _keys_and_values(shapes, shapes.frame.ring_tokens + shapes.frame.conditioning_tokens)


def shares_lead(shapes: Shapes, load: RankLoad) -> bool:
    """Whether conditioning lies once per epoch, not in front of every ring."""
    return load.lead != "own" or load.kv_on_host or shapes.packed


def kv_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Rings of a rank on its device, with what attention reads them through.

    A ring's buffer has the conditioning tokens in front, so that attention sees one run of keys;
    where the lead is shared, rings are copied into one window behind it.
    """
    if not load.cells or load.kv_on_host:
        return 0
    if shares_lead(shapes, load):
        return ring_bytes(shapes, load.cells) + window_bytes(shapes)
    return load.cells * window_bytes(shapes)


def held_kv_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Rings that take a rank's own memory: on the host they do so for CPU ranks alone."""
    if load.kv_on_host and load.device == "cpu":
        return ring_bytes(shapes, load.cells)
    return kv_bytes(shapes, load)


def conditioning_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Conditioning beside the rings' own, of the epochs that coexist, and the prompt's.

    Once a ring's lead has taken an epoch, the reference's un-rotated keys are kept alone, for its
    position still moves. Where a walk conditions a clip just ahead of its first block that is at
    once; otherwise one epoch is whole for a moment. A shared lead keeps all of it.
    """
    if not load.cells:
        return 0
    whole = _keys_and_values(shapes, shapes.frame.conditioning_tokens)
    reference = _keys_and_values(shapes, shapes.frame.tokens_per_block // BLOCK_LATENTS) // 2
    if shares_lead(shapes, load):
        epochs = load.epochs * whole
    elif load.together:
        epochs = load.epochs * reference
    else:
        epochs = whole + (load.epochs - 1) * reference
    return len(load.layers) * (epochs + _keys_and_values(shapes, shapes.dit.text_len))


def _keys_and_values(shapes: Shapes, tokens: int) -> int:
    return 2 * tokens * shapes.dit.dim * shapes.compute_bytes


def activation_bytes(shapes: Shapes, load: RankLoad) -> int:
    """Estimate of what a walk needs beside weights and caches.

    The largest of: a layer's feed-forward or its attention for the longer of block and condition
    tokens, and the float32 copies of the weights that are computed in float32 (a sixth of the
    time projection, the audio encoder's last convolution). Every item's hidden state is added.
    """
    if load.home == "none":
        return 0
    dit, size = shapes.dit, shapes.compute_bytes
    tokens = max(shapes.frame.tokens_per_block, shapes.frame.conditioning_tokens)
    # x and its sum in float32, the normed and modulated copies.
    stream = tokens * dit.dim * (4 * 4 + 2 * size)
    attention = tokens * dit.dim * (5 * size + 8)  # q, k, v, rotated copy, result; complex64
    feed_forward = 2 * tokens * dit.ffn_dim * size
    copies = 0 if size == 4 else 4 * max(dit.dim**2, 3 * dit.dim * dit.dim // 2)
    hidden = load.items * tokens * dit.dim * size
    return max(stream + max(attention, feed_forward), copies) + hidden


def vae_history_bytes(shapes: Shapes) -> int:
    """Estimate of what the decoder remembers from block to block."""
    file_bytes = _VAE_BYTES if shapes.vae_file_bytes is None else shapes.vae_file_bytes
    pixels = shapes.frame.width * shapes.frame.height
    return 2 * 8 * _vae_width(file_bytes) * pixels * shapes.compute_bytes * 3 // 2


def _vae_width(file_bytes: int) -> int:
    return max(1, round(_VAE_WIDTH * math.sqrt(file_bytes / _VAE_BYTES)))


def _vae(shapes: Shapes) -> tuple[int, int]:
    """What the VAE holds between blocks, and what a block or the portrait takes beside it.

    Decoding: at the top level ``width`` channels have full size, and half as much again lies
    below. Two frames before each of its eight convolutions are the stream's history; four frames
    of six tensors are in flight; a block's twelve frames of colours lie beside them in float32,
    seven times over while they are joined, clamped and turned to bytes. Encoding: the portrait as
    73 still frames, with as much history and as many tensors.
    """
    file_bytes = _VAE_BYTES if shapes.vae_file_bytes is None else shapes.vae_file_bytes
    size = shapes.compute_bytes
    pixels = shapes.frame.width * shapes.frame.height
    history = vae_history_bytes(shapes)
    colours = 7 * 3 * BLOCK_FRAMES * pixels * 4
    still = 3 * _STILL_FRAMES * pixels * size
    return file_bytes * size // 4 + history, _in_flight(shapes) + max(colours, still)


def _in_flight(shapes: Shapes) -> int:
    """Tensors of the VAE's widest level that are alive at once: four frames of six."""
    file_bytes = _VAE_BYTES if shapes.vae_file_bytes is None else shapes.vae_file_bytes
    pixels = shapes.frame.width * shapes.frame.height
    return 4 * 6 * _vae_width(file_bytes) * pixels * shapes.compute_bytes


def _vae_beside(shapes: Shapes, load: RankLoad) -> int:
    """The VAE's share of a rank's peak.

    A rank decodes between its walks: on a GPU the allocator then gives what a walk has left. What
    a C library keeps of its heap is not given so readily, and is counted in full; convolutions on
    a CPU hold what they read once more, in a layout of their own.
    """
    held, passing = _vae(shapes)
    if load.device == "cuda":
        passing = max(0, passing - activation_bytes(shapes, load) - gathered_bytes(shapes, load))
    else:
        passing += _in_flight(shapes)
    return held + passing


def slack_bytes(shapes: Shapes, load: RankLoad) -> int:
    """What a CPU rank's process holds besides: heap, libraries loaded late, clips being written.

    Measured on ranks of a small model.
    """
    if load.device != "cpu":
        return 0
    size = _CPU_HEAP
    if load.encodes:
        size += _CPU_ENCODERS
    if load.gathers:
        # What the collective copies, and the heap keeps of it.
        size += _CPU_GATHERS + 5 * gathered_bytes(shapes, load) // 2
    if load.vae and load.several_clips:
        size += _CPU_CLIP * shapes.frame.width * shapes.frame.height
    return size


def outside_bytes(load: RankLoad) -> int:
    """What lies on a GPU beyond allocator and context."""
    if load.device != "cuda":
        return 0
    convolutions = CONVOLUTION_BYTES if load.vae else 0
    return KERNEL_BYTES + convolutions + (NCCL_BYTES if load.gathers else 0)


def by_owner(shapes: Shapes, load: RankLoad) -> dict[str, int]:
    """Predicted peak of one rank by owner, in bytes; owners that hold nothing are left out."""
    found: Mapping[str, int] = {
        "weights": weights_bytes(shapes, load),
        "streamed": streamed_bytes(shapes, load),
        "gathered": gathered_bytes(shapes, load),
        "kv": held_kv_bytes(shapes, load),
        "conditioning": conditioning_bytes(shapes, load),
        "activations": activation_bytes(shapes, load),
        "vae": _vae_beside(shapes, load) if load.vae else 0,
        "context": CONTEXT_BYTES[load.device],
        "slack": slack_bytes(shapes, load),
        "other": outside_bytes(load),
    }
    return {owner: size for owner, size in found.items() if size}


def margin_bytes(owners: Mapping[str, int]) -> int:
    """By how much a measured peak may be above a prediction that nothing has calibrated.

    Counted sizes need none; of the estimated and assumed ones it is ``UNCERTAINTY``.
    """
    return int(UNCERTAINTY * sum(size for owner, size in owners.items() if owner in ESTIMATED))

"""What a plan takes of the host: pinned memory, the ranks' own, a switch's state, disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.geometry import BLOCK_LATENTS
from engine.placement.cut import RING_BLOCKS
from engine.placement.memory import RankLoad, Shapes, layer_bytes, ring_bytes, vae_history_bytes
from engine.placement.plan import HostPlan, Stage

#: Host memory of one rank's process that drives a GPU: torch, CUDA, NCCL and a block's frames.
#: Assumed until it is measured.
GPU_RANK_BYTES: Final = 3 << 29
#: Bits per pixel and frame a segment may take at most on disk; the encoder stays well below.
DISK_BITS_PER_PIXEL: Final = 1.0
#: Latents that are kept per step, and of the decoder's memory at clip boundaries, at most.
_LATENTS: Final = 32
_BOUNDARIES: Final = 7
_LATENT_CHANNELS: Final = 16


def host_plan(
    shapes: Shapes,
    loads: Sequence[RankLoad],
    *,
    frames: int,
    available: int | None,
    stages: Sequence[Stage] = (),
    blocks_per_clip: int = 4,
    mirror: str = "off",
    taken: int = 0,
) -> HostPlan:
    """Bytes of the host for the ranks of one plan.

    Args:
        frames: of the whole video. available: host memory that is free for us.
        mirror: "on", "off", or "auto": where the host has the memory.
        taken: host memory that the ranks hold besides (CPU ranks: all of theirs).
    """
    gpus = [load for load in loads if load.device == "cuda"]
    parts = layer_bytes(shapes)
    # Once per host, however many ranks copy from it.
    streamed = {
        layer
        for load in loads
        if load.home == "streamed"
        for layer in load.layers[load.resident_layers :]
    }
    pinned = sum(parts[layer] for layer in streamed)
    pinned += sum(ring_bytes(shapes, load.cells) for load in loads if load.kv_on_host)
    pixels = shapes.frame.width * shapes.frame.height
    video = int(pixels * frames * DISK_BITS_PER_PIXEL / 8)
    process = len(gpus) * GPU_RANK_BYTES
    mirrored = 0 if mirror == "off" else mirror_bytes(shapes, stages, blocks_per_clip)
    room = available is None or pinned + process + taken + mirrored <= available
    return HostPlan(
        pinned_bytes=pinned,
        process_bytes=process,
        mirror_bytes=mirrored if room or mirror == "on" else 0,
        snapshot_bytes=sum(ring_bytes(shapes, load.cells) for load in loads),
        disk_bytes=2 * video,  # the segments, and the file they are joined into
        available_bytes=available,
    )


def mirror_bytes(shapes: Shapes, stages: Sequence[Stage], blocks_per_clip: int) -> int:
    """Shared memory that mirrors the state of one job (``engine.placement.onrank.state``).

    Rings have a slot more than blocks, and one for each further rank that a step lies on.
    """
    ranks: dict[int, set[int]] = {}
    for stage in stages:
        for step in range(*stage.steps):
            ranks.setdefault(step, set()).add(stage.rank)
    rings = sum(
        ring_bytes(shapes, stage.layers[1] - stage.layers[0])
        * (RING_BLOCKS + len(ranks[step]))
        // RING_BLOCKS
        for stage in stages
        for step in range(*stage.steps)
    )
    frame = shapes.frame
    latent = _LATENT_CHANNELS * BLOCK_LATENTS * frame.latent_width * frame.latent_height
    latents = len(ranks) * _LATENTS * latent * shapes.compute_bytes
    boundaries = min(_BOUNDARIES, 3 + _BOUNDARIES // (blocks_per_clip + 1))
    return rings + latents + boundaries * vae_history_bytes(shapes)

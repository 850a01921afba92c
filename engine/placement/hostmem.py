"""What a plan takes of the host: pinned memory, the ranks' own, a switch's state, disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.placement.memory import RankLoad, Shapes, layer_bytes, ring_bytes
from engine.placement.plan import HostPlan

#: Host memory of one rank's process that drives a GPU: torch, CUDA, NCCL and a block's frames.
#: Assumed until it is measured.
GPU_RANK_BYTES: Final = 3 << 29
#: Bits per pixel and frame a segment may take at most on disk; the encoder stays well below.
DISK_BITS_PER_PIXEL: Final = 1.0


def host_plan(
    shapes: Shapes, loads: Sequence[RankLoad], *, frames: int, available: int | None
) -> HostPlan:
    """Bytes of the host for the ranks of one plan.

    Args:
        frames: of the whole video. available: host memory that is free for us.
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
    return HostPlan(
        pinned_bytes=pinned,
        process_bytes=len(gpus) * GPU_RANK_BYTES,
        snapshot_bytes=sum(ring_bytes(shapes, load.cells) for load in loads),
        disk_bytes=2 * video,  # the segments, and the file they are joined into
        available_bytes=available,
    )

"""A request, a checkpoint's configuration and the devices at hand → a ``Plan`` with its verdict.

Pure: nothing is asked of the machine here. Which mode a request means is read by
``engine.parameters.modes``; this module says where everything goes and what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from engine.checkpoint.expected import DiTShape, Wrap
from engine.geometry import FrameGeometry, blocks_per_clip
from engine.parameters.modes import ModeReading
from engine.parameters.request import Request
from engine.placement.memory import DTYPE_BYTES, RankLoad, Shapes, Unit, by_owner, units
from engine.placement.plan import (
    DevicePlan,
    DType,
    Mode,
    PeerGather,
    Plan,
    Resident,
    Stage,
    UnshardPlan,
    Weights,
)

#: Modes whose plans the executor can walk.
BUILT: Final = ("single", "fsdp")

#: Units gathered ahead of their use: copies hide behind compute on a GPU; gloo has no such stream.
PREFETCH: Final[dict[str, int]] = {"cuda": 1, "cpu": 0}


@dataclass(frozen=True)
class DeviceOffer:
    """A device that a rank may have. For CPU ranks every offer names the host's memory."""

    device: str  # "cuda:0" or "cpu"
    uuid: str | None = None
    capacity_bytes: int | None = None
    usable_bytes: int | None = None  # what is free for us; None: not known, never a misfit

    @property
    def kind(self) -> str:
        return self.device.split(":")[0]


def solve(
    request: Request,
    reading: ModeReading,
    config: Mapping[str, Any] | DiTShape,
    devices: Sequence[DeviceOffer],
    *,
    size: tuple[int, int],
    clips: int,
    vae_file_bytes: int | None = None,
    encoder_file_bytes: int | None = None,
    wrap: Wrap = "block",
) -> Plan:
    """The plan that ``reading`` asks for.

    Args:
        reading: mode and ranks, from ``read_mode``.
        config: the DiT's ``config.json`` (or its shape).
        devices: at least one; CPU ranks may share one offer, GPUs may not.
        size: snapped ``(width, height)`` in pixels.
        clips: clips that will be made.
        vae_file_bytes, encoder_file_bytes: sizes of the VAE's file and of umT5 and wav2vec2
            together, where known.

    A plan that cannot run is returned with ``fits`` False and its reasons.

    Raises:
        CheckpointError: a configuration that names no network.
        ValueError: no device, or a size that is no frame.
    """
    if not devices:
        raise ValueError("a plan needs at least one device")
    shape = config if isinstance(config, DiTShape) else DiTShape.from_config(config)
    kind = devices[0].kind
    dtype: DType = cast(DType, request.dtype or ("bf16" if kind == "cuda" else "fp32"))
    dit_ranks = 1 if reading.mode == "single" else reading.dit_ranks
    world = dit_ranks + reading.own_vae_rank
    stages = cut_steps(request.sample_steps, dit_ranks, shape.num_layers)
    vae_rank = dit_ranks if reading.own_vae_rank else stages[-1].rank
    sharded = reading.mode == "fsdp"
    weights: Weights = PeerGather(tuple(range(dit_ranks)), wrap) if sharded else Resident()
    shapes = Shapes(
        dit=shape,
        frame=FrameGeometry(*size),
        dtype=dtype,
        kv_dtype=dtype,
        vae_file_bytes=vae_file_bytes,
    )
    owned = {stage.rank: stage.steps[1] - stage.steps[0] for stage in stages}
    loads = [
        RankLoad(
            steps=owned.get(rank, 0),
            shards=0 if rank >= dit_ranks else dit_ranks if sharded else 1,
            vae=rank == vae_rank,
            device=kind,
            prefetch=PREFETCH[kind],
            talks=world > 1,
            items=1 if not sharded else max(1, owned.get(rank, 0)),
            epochs=_epochs(request, stages, rank, clips) if sharded else 1,
            wrap=wrap,
        )
        for rank in range(world)
    ]
    offers = _assign(devices, world)
    planned = tuple(
        _device_plan(rank, offers[rank], by_owner(shapes, load)) for rank, load in enumerate(loads)
    )
    gathering = units(shape, dit_ranks, wrap) if sharded else ()
    unshard = _unshard_plan(gathering, shapes, PREFETCH[kind]) if sharded else None
    encoder_rank = vae_rank if reading.own_vae_rank else 0
    reasons = [
        *_misfits(request, reading, shape, kind, devices, world),
        *_memory_misfits(planned, kind),
        *_encoder_misfit(planned[encoder_rank], encoder_file_bytes, dtype),
    ]
    return Plan(
        mode=cast(Mode, reading.mode),
        dtype=dtype,
        sample_steps=request.sample_steps,
        stages=stages,
        weights=weights,
        kv="device",
        kv_dtype=dtype,
        vae_rank=vae_rank,
        encoder_rank=encoder_rank,
        order="diagonal" if sharded else "sequential",
        devices=planned,
        unshard=unshard,
        spike_threshold_bytes=_thresholds(request, planned, unit_bytes(shape, dtype)),
        fits=not reasons,
        reasons=tuple(reasons),
        remarks=reading.remarks,
        seconds_per_block=None,
    )


def cut_steps(steps: int, ranks: int, layers: int) -> tuple[Stage, ...]:
    """Contiguous stages, as even as they can be; earlier ranks take what is left over.

    Ranks beyond the number of steps get no stage: they are ghosts.
    """
    stages, first = [], 0
    for rank in range(min(steps, ranks)):
        count = steps // ranks + (rank < steps % ranks)
        stages.append(Stage(rank, (first, first + count), (0, layers)))
        first += count
    return tuple(stages)


def _epochs(request: Request, stages: Sequence[Stage], rank: int, clips: int) -> int:
    """Conditioning epochs that a rank of the pipeline holds at once.

    When clip 1 is prefilled, block 0 is just finished: step s has begun ``steps`` − s blocks, and
    a rank whose last step still has blocks of clip 0 before it needs both epochs.
    """
    last = next((stage.steps[1] - 1 for stage in stages if stage.rank == rank), None)
    if last is None or clips < 2:
        return 1
    begun = request.sample_steps - last
    return 1 if begun >= blocks_per_clip(request.infer_frames) else 2


def unit_bytes(shape: DiTShape, dtype: str) -> int:
    """Bytes of the largest transformer block's parameters: "one block" of a spike's threshold."""
    largest = max(u.params for u in units(shape, 1) if u.name.startswith("layer"))
    return largest * DTYPE_BYTES[dtype]


def _assign(devices: Sequence[DeviceOffer], world: int) -> list[DeviceOffer]:
    """One offer per rank; the last is repeated where there are too few (CPU, or a misfit)."""
    return [devices[min(rank, len(devices) - 1)] for rank in range(world)]


def _device_plan(rank: int, offer: DeviceOffer, owners: dict[str, int]) -> DevicePlan:
    return DevicePlan(
        rank=rank,
        device=offer.device,
        uuid=offer.uuid,
        capacity_bytes=offer.capacity_bytes,
        usable_bytes=offer.usable_bytes,
        predicted_bytes=sum(owners.values()),
        by_owner=owners,
    )


def _unshard_plan(gathering: Sequence[Unit], shapes: Shapes, prefetch: int) -> UnshardPlan:
    size = shapes.compute_bytes
    largest = max(gathering, key=lambda u: u.padded)
    ahead = max((u.padded for u in gathering if u.name != "root"), default=0)
    return UnshardPlan(
        root_unit_bytes=next(u.params for u in gathering if u.name == "root") * size,
        max_unit_bytes=max(u.params for u in gathering) * size,
        transient_bytes=(2 * largest.padded + prefetch * ahead) * size,
    )


def _thresholds(request: Request, planned: Sequence[DevicePlan], one_block: int) -> tuple[int, ...]:
    if request.spike_threshold is not None:
        return (request.spike_threshold,) * len(planned)
    return tuple(device.predicted_bytes + one_block for device in planned)


def _misfits(
    request: Request,
    reading: ModeReading,
    shape: DiTShape,
    kind: str,
    devices: Sequence[DeviceOffer],
    world: int,
) -> list[str]:
    reasons = []
    if reading.mode not in BUILT:
        reasons.append(
            f"mode {reading.mode} is not built in this version; single and fsdp give the same "
            "latents"
        )
    if request.fp8:
        reasons.append("fp8 is not built in this version; leave out --fp8")
    if reading.mode == "fsdp" and reading.dit_ranks < 2:
        reasons.append("fsdp shards the weights over 2 or more ranks; use --mode single")
    if any(device.kind != kind for device in devices):
        reasons.append("the devices mix GPUs and CPU; a job runs on one kind")
    if kind == "cuda" and world > len(devices):
        reasons.append(f"the plan needs {world} GPUs, {len(devices)} can be used")
    if not shape.num_layers:
        reasons.append("the checkpoint's DiT has no layers")
    return reasons


def _memory_misfits(planned: Sequence[DevicePlan], kind: str) -> list[str]:
    if kind == "cpu":
        usable = planned[0].usable_bytes
        needed = sum(device.predicted_bytes for device in planned)
        if usable is None or needed <= usable:
            return []
        return [f"{len(planned)} CPU ranks need {_gib(needed)}, the host has {_gib(usable)} free"]
    return [
        f"rank {device.rank} on {device.device} needs {_gib(device.predicted_bytes)} "
        f"({_largest(device)}), {_gib(device.usable_bytes)} can be used"
        for device in planned
        if device.usable_bytes is not None and device.predicted_bytes > device.usable_bytes
    ]


def _encoder_misfit(device: DevicePlan, file_bytes: int | None, dtype: str) -> list[str]:
    """The encoders run before the DiT is loaded and leave again, so they count alone."""
    if file_bytes is None or device.usable_bytes is None:
        return []
    # umT5 is stored in bf16; in fp32 it takes twice its file.
    needed = file_bytes * DTYPE_BYTES[dtype] // 2 + device.by_owner.get("context", 0)
    if needed <= device.usable_bytes:
        return []
    return [
        f"the text and speech encoders need {_gib(needed)} on rank {device.rank}, "
        f"{_gib(device.usable_bytes)} can be used"
    ]


def _largest(device: DevicePlan) -> str:
    top = sorted(device.by_owner.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{owner} {_gib(size)}" for owner, size in top)


def _gib(size: int | None) -> str:
    return "n/a" if size is None else f"{size / 2**30:.2f} GiB"

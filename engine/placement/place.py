"""One choice of placement for one question → a ``Plan``: stages, bytes by device, verdict.

Pure: nothing is asked of the machine here. How a mode lies on ranks is said by ``presets``, bytes
by ``memory`` and ``hostmem``, reasons by ``verdict``; this module puts them together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from engine.checkpoint.expected import DiTShape, Wrap
from engine.geometry import FrameGeometry, blocks_per_clip, predicted_frames
from engine.parameters.request import Request
from engine.placement import verdict
from engine.placement.calibration import Corrections, Setting
from engine.placement.conditions import epochs, leads, together
from engine.placement.hardware import DeviceOffer, HostOffer
from engine.placement.hostmem import host_plan
from engine.placement.memory import (
    RankLoad,
    Shapes,
    by_owner,
    layer_bytes,
    margin_bytes,
)
from engine.placement.plan import DevicePlan, DType, Plan, UnshardPlan
from engine.placement.presets import Choice, Layout, cells_of, lay_out, layers_of
from engine.placement.remarks import remarks
from engine.placement.units import Unit, held_units

#: Units gathered ahead of their use: copies hide behind compute on a GPU; gloo has no such stream.
PREFETCH: Final[dict[str, int]] = {"cuda": 1, "cpu": 0}

#: Share of a device left free where another cut, fewer slots or one shared lead allow it: a driver,
#: a library or a neighbour takes what no plan knows of.
HEADROOM: Final = 0.05

#: How much of the VAE's work its rank is spared, tried in this order until a plan fits.
_SHARES: Final = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class Question:
    """Everything a plan follows from but the choice of placement.

    ``size`` is snapped ``(width, height)`` in pixels; ``clips`` those that will be made. File
    sizes are of the VAE, and of umT5 and wav2vec2 together, where known. ``history`` corrects
    what is estimated, by what runs here have measured.
    """

    request: Request
    shape: DiTShape
    devices: tuple[DeviceOffer, ...]
    size: tuple[int, int]
    clips: int
    vae_file_bytes: int | None = None
    encoder_file_bytes: int | None = None
    host: HostOffer = field(default_factory=HostOffer)
    history: Corrections | None = None

    @property
    def kind(self) -> str:
        return self.devices[0].kind


def ask(
    request: Request,
    config: Mapping[str, Any] | DiTShape,
    devices: Sequence[DeviceOffer],
    *,
    size: tuple[int, int],
    clips: int,
    vae_file_bytes: int | None = None,
    encoder_file_bytes: int | None = None,
    host: HostOffer | None = None,
    history: Corrections | None = None,
) -> Question:
    """A question from the DiT's ``config.json`` (or its shape) and at least one device.

    Raises:
        CheckpointError: a configuration that names no network.
        ValueError: no device.
    """
    if not devices:
        raise ValueError("a plan needs at least one device")
    shape = config if isinstance(config, DiTShape) else DiTShape.from_config(config)
    return Question(
        request,
        shape,
        tuple(devices),
        size,
        clips,
        vae_file_bytes,
        encoder_file_bytes,
        host or HostOffer(),
        history,
    )


def default_dtype(question: Question) -> DType:
    """The weights' type that a request means on its devices."""
    if question.request.fp8:
        return "fp8"
    default = "bf16" if question.kind == "cuda" else "fp32"
    return cast(DType, question.request.dtype or default)


def prefetch_of(question: Question) -> int:
    """Units that are gathered ahead, if a request's weights are sharded."""
    asked = question.request.prefetch
    return PREFETCH[question.kind] if asked is None else asked


def wrap_of(question: Question) -> Wrap:
    """How a request wants sharded weights wrapped."""
    return cast(Wrap, question.request.fsdp_wrap)


def place(question: Question, choice: Choice) -> Plan:
    """The plan of one choice, whether or not anything can run it yet.

    Where the choice leaves something open, the first plan that fits with ``HEADROOM`` is taken,
    else the first that fits: most layers resident, cuts that spare the VAE's rank as much as memory
    allows. Where none fits it is the first with the fewest reasons against it.

    Raises:
        ValueError: a size that is no frame.
    """
    shapes = _shapes(question, choice)
    nearest: Plan | None = None
    tight: Plan | None = None
    for option in _options(question, choice, shapes):
        found = _plan(question, option, shapes)
        if found.fits and all(d.predicted_bytes <= _comfortable(d) for d in found.devices):
            return found
        if found.fits:
            tight = tight or found
        if nearest is None or len(found.reasons) < len(nearest.reasons):
            nearest = found
    assert nearest is not None
    return tight or nearest


def _comfortable(device: DevicePlan) -> float:
    """Bytes up to which a device is used where that costs next to nothing."""
    return math.inf if device.usable_bytes is None else (1 - HEADROOM) * device.usable_bytes


def _shapes(question: Question, choice: Choice) -> Shapes:
    return Shapes(
        dit=question.shape,
        frame=FrameGeometry(*question.size),
        dtype=choice.dtype,
        kv_dtype=choice.kv_dtype,
        vae_file_bytes=question.vae_file_bytes,
    )


def _options(question: Question, choice: Choice, shapes: Shapes) -> Iterator[Choice]:
    """The choice with what it leaves open filled in, best first."""
    free_cut = choice.variant in ("ring", "balanced") and not choice.own_vae
    for share in _SHARES if free_cut else (choice.vae_share,):
        for slots in range(choice.slots, 1, -1) if choice.streams else (choice.slots,):
            for lead in leads(choice):
                cut = dataclasses.replace(choice, vae_share=share, slots=slots, lead=lead)
                if cut.streams and cut.resident_layers is None:
                    cut = dataclasses.replace(cut, resident_layers=_resident(question, cut, shapes))
                yield cut


def _resident(question: Question, choice: Choice, shapes: Shapes) -> int:
    """Layers that may stay on every device beside all else that it holds."""
    bare = dataclasses.replace(choice, resident_layers=0)
    empty = _plan(question, bare, shapes)
    if question.kind == "cpu" or any(d.usable_bytes is None for d in empty.devices):
        return 0
    most = min(
        len({n for s in empty.stages if s.rank == rank for n in range(*s.layers)})
        for rank in {stage.rank for stage in empty.stages}
    )
    largest = max(layer_bytes(shapes), default=1)
    walkers = {stage.rank for stage in empty.stages}
    spare = min(
        min((d.usable_bytes or 0) - d.margin_bytes, _comfortable(d)) - d.predicted_bytes
        for d in empty.devices
        if d.rank in walkers
    )
    # Streaming everything costs nothing once copies hide; a layer kept saves bandwidth only.
    return max(0, min(most - choice.slots, int(spare // largest)))


def _plan(question: Question, choice: Choice, shapes: Shapes) -> Plan:
    request, kind = question.request, question.kind
    layout = lay_out(choice, request.sample_steps, question.shape.num_layers)
    loads = _loads(question, choice, layout)
    offers = [question.devices[min(n, len(question.devices) - 1)] for n in range(choice.world)]
    setting = Setting(
        hardware=offers[0].name or kind,
        mode=choice.mode,
        variant=choice.variant,
        dtype=choice.dtype,
        world=choice.world,
        kv=f"{choice.kv} {choice.kv_dtype}",
    )
    planned = tuple(
        _device_plan(rank, offers[rank], load, shapes, setting, question.history)
        for rank, load in enumerate(loads)
    )
    frames = predicted_frames(question.clips, question.clips, request.infer_frames)
    host = host_plan(
        shapes,
        loads,
        frames=frames,
        available=question.host.memory_available,
        stages=layout.stages,
        blocks_per_clip=blocks_per_clip(request.infer_frames),
        mirror=request.mirror,
        taken=sum(d.predicted_bytes for d in planned) if kind == "cpu" else 0,
    )
    impossible = [
        *verdict.structural(choice, question.devices, question.shape.num_layers),
        *verdict.fp8_misfits(choice, question.devices),
    ]
    reasons = [
        *impossible,
        *verdict.memory_misfits(planned, kind),
        *verdict.encoder_misfit(
            planned[layout.encoder_rank],
            question.encoder_file_bytes,
            choice.dtype,
            host,
            request.t5_cpu,
        ),
        *verdict.host_misfits(host, question.host.disk_available),
    ]
    sharded = choice.mode == "fsdp"
    prefetch = prefetch_of(question)
    return Plan(
        mode=choice.mode,
        dtype=choice.dtype,
        sample_steps=request.sample_steps,
        stages=layout.stages,
        weights=layout.weights,
        kv=choice.kv,
        kv_dtype=choice.kv_dtype,
        vae_rank=layout.vae_rank,
        encoder_rank=layout.encoder_rank,
        order=layout.order,
        devices=planned,
        unshard=_unshard(question.shape, choice, prefetch) if sharded else None,
        spike_threshold_bytes=_thresholds(request, planned, unit_bytes(question.shape, shapes)),
        fits=not reasons,
        reasons=tuple(reasons),
        remarks=tuple(remarks(question, choice, shapes, loads, host)),
        seconds_per_block=_seconds(question, setting),
        variant=choice.variant,
        gpu_memory_cap=request.gpu_memory_cap,
        host=host,
        encoder_device="host" if request.t5_cpu else "device",
        lead=choice.lead,
        prefetch=prefetch if sharded else 0,
        possible=not impossible,
    )


def _loads(question: Question, choice: Choice, layout: Layout) -> list[RankLoad]:
    request, kind, sharded = question.request, question.kind, choice.mode == "fsdp"
    everything = tuple(range(question.shape.num_layers))
    loads = []
    for rank in range(choice.world):
        steps = sum(s.steps[1] - s.steps[0] for s in layout.stages if s.rank == rank)
        home = "sharded" if sharded else "streamed" if choice.streams else "resident"
        layers = everything if sharded else layers_of(layout.stages, rank)
        if rank >= choice.dit_ranks or not layers:
            home, layers = "none", ()
        loads.append(
            RankLoad(
                cells=cells_of(layout.stages, rank),
                layers=layers,
                home=home,
                vae=rank == layout.vae_rank,
                device=kind,
                shards=choice.dit_ranks if sharded else 1,
                slots=choice.slots,
                resident_layers=choice.resident_layers or 0,
                kv_on_host=choice.kv == "host",
                prefetch=prefetch_of(question),
                items=max(1, steps) if sharded or choice.mode == "offload" else 1,
                gathers=sharded and choice.world > 1,
                encodes=rank == layout.encoder_rank and not (request.t5_cpu and kind == "cuda"),
                several_clips=question.clips > 1,
                epochs=epochs(request, choice, layout, rank, several_clips=question.clips > 1),
                wrap=choice.wrap,
                lead=choice.lead,
                together=together(choice, request.sample_steps),
            )
        )
    return loads


def unit_bytes(shape: DiTShape, shapes: Shapes) -> int:
    """Bytes of the largest transformer block's parameters: "one block" of a spike's threshold."""
    return max(
        (u.bytes(shapes.dtype) for u in held_units(shape, 1) if u.name.startswith("layer")),
        default=0,
    )


def _device_plan(
    rank: int,
    offer: DeviceOffer,
    load: RankLoad,
    shapes: Shapes,
    setting: Setting,
    history: Corrections | None,
) -> DevicePlan:
    modelled = owners = by_owner(shapes, load)
    margin = margin_bytes(owners)
    if history is not None:
        owners, margin = history.corrected(setting, owners, load.encodes, margin)
    return DevicePlan(
        rank=rank,
        device=offer.device,
        uuid=offer.uuid,
        name=offer.name,
        capacity_bytes=offer.capacity_bytes,
        usable_bytes=offer.usable_bytes,
        predicted_bytes=sum(owners.values()),
        margin_bytes=margin,
        by_owner=owners,
        modelled=dict(modelled),
    )


def _unshard(shape: DiTShape, choice: Choice, prefetch: int) -> UnshardPlan:
    gathering: Sequence[Unit] = held_units(shape, choice.dit_ranks, choice.wrap)
    dtype = choice.dtype
    largest = max(u.gathered(dtype) for u in gathering)
    ahead = max((u.gathered(dtype) for u in gathering if u.name != "root"), default=0)
    return UnshardPlan(
        root_unit_bytes=next(u.bytes(dtype) for u in gathering if u.name == "root"),
        max_unit_bytes=max(u.bytes(dtype) for u in gathering),
        transient_bytes=2 * largest + prefetch * ahead,
    )


def _thresholds(request: Request, planned: Sequence[DevicePlan], one_block: int) -> tuple[int, ...]:
    if request.spike_threshold is not None:
        return (request.spike_threshold,) * len(planned)
    return tuple(device.predicted_bytes + one_block for device in planned)


def _seconds(question: Question, setting: Setting) -> float | None:
    """Only what this very placement and frame were measured at: anything else would be a guess."""
    if question.history is None:
        return None
    return question.history.seconds_per_block(setting, question.size, question.request.sample_steps)

"""``avatop plan``: what a placement would cost, on this hardware or any other, before a launch."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from console.commands.common import parameter_options, resolve_flags
from console.commands.plan_table import render
from console.commands.say import json_option, print_json
from console.exits import DONE, REFUSED, BadInput
from engine.checkpoint import layout as layouts
from engine.checkpoint.encoders import t5_tensors, wav2vec_tensors
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import DiTShape, Wrap
from engine.checkpoint.shapes import SHAPES
from engine.geometry import snap_size
from engine.jobs.paths import Places
from engine.media.findings import MediaError
from engine.media.image import image_info
from engine.offers import offers
from engine.params import (
    ALL_MODES,
    BadValueError,
    ParamError,
    Request,
    Resolved,
    parse_bytes,
    parse_size,
    read_mode,
)
from engine.placement import planner
from engine.placement.hardware import DeviceOffer, HostOffer, hypothetical, parse_capability
from engine.placement.history import History
from engine.placement.place import Question, ask
from engine.telemetry.capability import capabilities
from engine.telemetry.devices import DeviceSelectionError, pick_source
from engine.telemetry.host import HostSource

#: The portrait's aspect where none is given.
_PORTRAIT: Final = (1920, 1080)
_PLACING: Final = ("mode", "num_gpus_dit", "offload_model", "single_gpu", "dit_fsdp", "variant")


def _bytes(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_bytes(value)
    except BadValueError as error:
        raise click.BadParameter(f"{error.reason}. {error.suggestion}") from error


@click.command("plan", short_help="Say what a placement would cost, and what would fit.")
@click.option("--devices", type=click.IntRange(1, 64), metavar="N", help="Plan for N GPUs.")
@click.option(
    "--gpu-memory", callback=_bytes, metavar="BYTES", help="Usable bytes of each, e.g. 22.15GiB."
)
@click.option("--compute-capability", metavar="X.Y", help="Of those GPUs; fp8 needs 8.9.")
@click.option(
    "--link-bandwidth",
    type=click.FloatRange(min=0.1),
    metavar="GB/S",
    help="Pinned host memory to device, in GB/s: what streamed weights pass through.",
)
@click.option(
    "--shape", type=click.Choice(sorted(SHAPES)), help="A known model instead of --ckpt_dir."
)
@click.option(
    "--fsdp-wrap",
    type=click.Choice(["block", "reference"]),
    default=None,
    help="Units of sharded weights: ours, or the reference's (blocks only).",
)
@click.option(
    "--measured-steady",
    callback=_bytes,
    metavar="BYTES",
    help="A measured steady state: judged together with the root unit's gather.",
)
@click.option("--preset", metavar="NAME", help="quick, standard, long or high.")
@click.option("--file", "file", type=click.Path(path_type=Path), metavar="TOML", help="Parameters.")
@json_option
@parameter_options
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    devices: int | None,
    gpu_memory: int | None,
    compute_capability: str | None,
    link_bandwidth: float | None,
    shape: str | None,
    fsdp_wrap: Wrap | None,
    measured_steady: int | None,
    preset: str | None,
    file: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Predict every device's memory by owner, say whether it fits, and what would.

    Without a placement flag the fastest placement that fits is looked for (--mode auto). The
    hardware is this host's, or what --devices and --gpu-memory say; the model is that of
    --ckpt_dir or --shape. Nothing is started. Exit code 3: it does not fit.
    """
    if shape is None and not flags.get("ckpt_dir") and not os.environ.get("MODEL_CKPT_DIR"):
        raise BadInput("--ckpt_dir: is missing; name a checkpoint, or plan with --shape 14b.")
    if devices is not None and flags.get("gpus"):
        raise BadInput(
            "--devices and --gpus: one is hardware that need not exist, the other names GPUs of "
            "this host. Drop one of them."
        )
    if measured_steady is not None or fsdp_wrap is not None:
        flags = _sharded(flags)
    resolved = _resolve(flags, file, preset)
    hardware = _Hardware(devices, gpu_memory, compute_capability, link_bandwidth)
    try:
        question = _question(resolved.request, shape, hardware)
        gpus = 0 if question.kind == "cpu" else len(question.devices)
        # Ranks that were asked for and are too many do not fit: a verdict, with what would.
        counted = None if question.request.num_gpus_dit is not None else gpus
        reading = read_mode(question.request, counted, available=ALL_MODES)
        answer = planner.answer(
            question, reading, wrap=fsdp_wrap or "block", measured_steady=measured_steady
        )
    except (CheckpointError, ParamError, DeviceSelectionError, MediaError, ValueError) as error:
        raise BadInput(str(error)) from error
    if as_json:
        print_json(planner.to_json(answer))
    else:
        click.echo(render(answer))
    ctx.exit(DONE if answer.fits else REFUSED)


@dataclasses.dataclass(frozen=True)
class _Hardware:
    devices: int | None
    gpu_memory: int | None
    capability: str | None
    link: float | None


def _sharded(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Wrapping and measured shards are of mode fsdp; it is meant where nothing else is said."""
    placed = any(flags.get(name) is not None for name in _PLACING if name != "num_gpus_dit")
    return {**flags} if placed else {**flags, "mode": "fsdp"}


def _resolve(flags: Mapping[str, Any], file: Path | None, preset: str | None) -> Resolved:
    flags = dict(flags)
    # A launch refuses what is not built; a plan may always be asked for.
    fp8 = flags.pop("fp8", None)
    resolved = resolve_flags(flags, file, preset, required=(), modes=ALL_MODES)
    request = resolved.request
    if fp8 is not None:
        request = dataclasses.replace(request, fp8=str(fp8).lower() in ("true", "1", "yes", "on"))
    if all(resolved.sources.get(name) == "default" for name in _PLACING):
        request = dataclasses.replace(request, mode="auto")
    return dataclasses.replace(resolved, request=request)


def _question(request: Request, shape: str | None, hardware: _Hardware) -> Question:
    portrait = _PORTRAIT
    if request.image is not None:
        info = image_info(Path(request.image))
        portrait = (info.width, info.height)
    config, vae, encoders = _model(request, shape)
    offered, host = _hardware(request, hardware)
    return ask(
        request,
        config,
        offered,
        size=snap_size(*parse_size(request.size), *portrait),
        clips=request.num_clip,
        vae_file_bytes=vae,
        encoder_file_bytes=encoders,
        host=host,
        history=History(Places.of().history).corrections(),
    )


def _model(request: Request, shape: str | None) -> tuple[DiTShape, int | None, int | None]:
    """The DiT's shape, and bytes of the VAE's and of the encoders' files."""
    if shape is not None:
        known = SHAPES[shape]
        text = 2 * sum(math.prod(size) for size in t5_tensors(known.t5).values())
        speech = 4 * sum(math.prod(size) for size in wav2vec_tensors(known.wav2vec).values())
        vae = None if shape == "14b" else known.vae.dim**2 * 507_609_880 // 96**2
        return DiTShape.from_config(known.dit_config), vae, text + speech
    found = layouts.find(
        str(request.ckpt_dir),
        t5_path=request.t5_path,
        vae_path=request.vae_path,
        wav2vec_path=request.wav2vec_path,
    )
    encoders = [path.stat().st_size for path in (found.t5, found.wav2vec_weights()) if path]
    vae = found.vae.stat().st_size if found.vae else None
    where = str(found.config_file)
    return DiTShape.from_config(found.config, where), vae, sum(encoders) or None


def _hardware(request: Request, asked: _Hardware) -> tuple[list[DeviceOffer], HostOffer]:
    capability = None if asked.capability is None else parse_capability(asked.capability)
    link = None if asked.link is None else asked.link * 1e9
    if asked.devices is not None or asked.gpu_memory is not None:
        usable, cap = asked.gpu_memory, request.gpu_memory_cap
        if cap is not None:
            usable = cap if usable is None else min(cap, usable)
        offered = hypothetical(
            asked.devices or (request.num_gpus_dit or 1) + request.enable_vae_parallel,
            usable,
            capability=capability,
            link_bytes_per_second=link,
        )
        return offered, HostOffer(request.host_memory)
    total, used = _host()
    free = None if total is None or used is None else total - used
    free = request.host_memory or free
    picked = pick_source()
    try:
        readings = picked.source.read()
    finally:
        picked.source.close()
    gpus = [] if picked.source.name == "host" else readings
    offered = offers(
        gpus,
        request.gpus,
        os.environ,
        host_total=total,
        host_available=free,
        cap=request.gpu_memory_cap,
    )
    known = capabilities(d.uuid for d in offered if d.uuid) if gpus else {}
    offered = [
        dataclasses.replace(
            device,
            capability=capability or known.get(device.uuid or ""),
            link_bytes_per_second=link,
        )
        for device in offered
    ]
    return offered, HostOffer(free)


def _host() -> tuple[int | None, int | None]:
    """Memory that this process may use and what is used of it; its cgroup's limit counts."""
    source = HostSource()
    try:
        reading = source.read()[0]
    finally:
        source.close()
    return reading.memory_total, reading.memory_used

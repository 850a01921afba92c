"""``avatop plan``: what a placement would cost, on this hardware or any other, before a launch."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.plan_table import render
from console.commands.say import json_option, print_json
from console.exits import DONE, REFUSED, BadInput
from console.planning import Hardware, answer_of, question_of
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.shapes import SHAPES
from engine.media.findings import MediaError
from engine.params import (
    ALL_MODES,
    PARAMETERS,
    BadValueError,
    ParamError,
    Resolved,
    parse,
    parse_bytes,
)
from engine.placement import planner
from engine.telemetry.devices import DeviceSelectionError

#: Bytes below which an amount of memory was written without its unit.
_LEAST: Final = 1 << 20
_FP8: Final = next(parameter for parameter in PARAMETERS if parameter.name == "fp8")
_PLACING: Final = ("mode", "num_gpus_dit", "offload_model", "single_gpu", "dit_fsdp", "variant")


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no figure")
    return value


def _bytes(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        found = parse_bytes(value)
    except BadValueError as error:
        raise click.BadParameter(f"{error.reason}. {error.suggestion}") from error
    if found < _LEAST:
        raise click.BadParameter(f"{value} is {found} bytes. write it like 22.15GiB or 500MiB")
    return found


@click.command("plan", short_help="Say what a placement would cost, and what would fit.")
@click.option("--devices", type=click.IntRange(1, 64), metavar="N", help="Plan for N GPUs.")
@click.option(
    "--gpu-memory", callback=_bytes, metavar="BYTES", help="Usable bytes of each, e.g. 22.15GiB."
)
@click.option("--compute-capability", metavar="X.Y", help="Of those GPUs; fp8 needs 8.9.")
@click.option(
    "--link-bandwidth",
    type=click.FloatRange(min=0.1),
    callback=_finite,
    metavar="GB/S",
    help="Pinned host memory to device, in GB/s: what streamed weights pass through.",
)
@click.option(
    "--shape", type=click.Choice(sorted(SHAPES)), help="A known model instead of --ckpt_dir."
)
@click.option(
    "--measured-steady",
    callback=_bytes,
    metavar="BYTES",
    help="A measured steady state: judged together with the root unit's gather.",
)
@source_options
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
    unreal = "--devices" if devices else "--gpu-memory" if gpu_memory else None
    if unreal is not None and flags.get("gpus"):
        raise BadInput(
            f"{unreal} and --gpus: one is hardware that need not exist, the other names GPUs of "
            "this host. Drop one of them."
        )
    if measured_steady is not None or flags.get("fsdp_wrap") is not None:
        flags = _sharded(flags)
    resolved = _resolve(flags, file, preset)
    hardware = Hardware(devices, gpu_memory, compute_capability, link_bandwidth)
    try:
        answer = answer_of(
            question_of(resolved.request, shape, hardware),
            measured_steady=measured_steady,
        )
    except (CheckpointError, ParamError, DeviceSelectionError, MediaError, ValueError) as error:
        raise BadInput(str(error)) from error
    if as_json:
        print_json(planner.to_json(answer))
    else:
        click.echo(render(answer))
    ctx.exit(DONE if answer.fits else REFUSED)


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
        try:
            request = dataclasses.replace(request, fp8=parse(_FP8, fp8))
        except BadValueError as error:
            raise BadInput(f"--fp8 {fp8}: {error.reason}. {error.suggestion}") from error
    if all(resolved.sources.get(name) == "default" for name in _PLACING):
        request = dataclasses.replace(request, mode="auto")
    return dataclasses.replace(resolved, request=request)

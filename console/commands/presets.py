"""``avatop presets``: named sets of values, and what each leads to."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from console import format as fmt
from console.commands.columns import Col, Columns
from console.commands.say import json_option, print_json
from console.exits import BadInput
from console.i18n import N_, t
from console.progress import memory
from console.spoken import spoken
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import DiTShape
from engine.checkpoint.layout import find
from engine.checkpoint.shapes import DIT_14B
from engine.geometry import snap_size
from engine.params import PARAMETERS, ParamError, Preset, Request, parse_size, presets, read_mode
from engine.placement.plan import Plan
from engine.placement.solve import DeviceOffer, solve

#: Ranks of the sharded plan that is shown beside ``single``, and the portrait's aspect.
_SHARDED_RANKS = 4
_PORTRAIT = (1920, 1080)
_TABLE: Final = Columns(
    Col(N_("preset"), 10), Col(N_("size"), 9), Col(N_("runs as"), 9),
    Col(N_("clips"), 5, right=True), Col(N_("steps"), 5, right=True),
    Col(N_("length"), 8, right=True), Col("single", 10, right=True),
    Col(f"fsdp x{_SHARDED_RANKS}", 10, right=True), Col(N_("purpose"), gap=2),
)  # fmt: skip
#: Of a preset's values those that say where it runs: the columns say that themselves.
_PLACING = frozenset(
    p.name
    for p in PARAMETERS
    if p.group == "placement" and p.name not in ("dtype", "fp8", "kv_dtype")
)


@click.command("presets", short_help="List presets with length, time, memory.")
@click.option(
    "--ckpt_dir", metavar="DIR", help="Predict memory for this checkpoint. [default: the 14B shape]"
)
@json_option
def presets_command(ckpt_dir: str | None, as_json: bool) -> None:
    """List presets with the length of video, the time and the memory they lead to.

    Length holds if the audio lasts. Memory is predicted per GPU for a 16:9 portrait, in bf16
    unless a preset of your own says otherwise; where that one runs is left to the columns. Time is
    told where this host has measured it.
    """
    shape, name = _shape(ckpt_dir or os.environ.get("MODEL_CKPT_DIR"))
    found = [_object(preset, shape) for preset in presets()]
    if as_json:
        print_json({"model": name, "presets": found})
        return
    click.echo(t("memory per GPU for {model}, bf16, 16:9", model=name) + "\n")
    click.echo(_TABLE.head())
    for preset in found:
        values, bytes_ = preset["values"], preset["memory_bytes"]
        click.echo(
            _TABLE.row(
                preset["name"], values["size"], preset["runs_as"],
                str(values["num_clip"]), str(values["sample_steps"]),
                fmt.duration(preset["predicted_seconds"]), memory(bytes_["single"]),
                memory(bytes_[f"fsdp_{_SHARDED_RANKS}"]), spoken(str(preset["purpose"])),
            )
        )  # fmt: skip


def _shape(ckpt_dir: str | None) -> tuple[DiTShape, str]:
    if not ckpt_dir:
        return DiTShape.from_config(DIT_14B), "Wan2.2-S2V-14B"
    try:
        layout = find(ckpt_dir)
        return DiTShape.from_config(layout.config, str(layout.config_file)), str(layout.root)
    except CheckpointError as error:
        raise BadInput(str(error)) from error


def _object(preset: Preset, shape: DiTShape) -> dict[str, Any]:
    size = snap_size(*parse_size(preset.values["size"]), *_PORTRAIT)
    single = _plan(preset, shape, size, mode="single")
    sharded = _plan(preset, shape, size, mode="fsdp", num_gpus_dit=_SHARDED_RANKS)
    return {
        "name": preset.name,
        "purpose": preset.purpose,
        "values": dict(preset.values),
        "runs_as": f"{size[0]}*{size[1]}",
        "predicted_frames": preset.predicted_frames,
        "predicted_seconds": preset.predicted_seconds,
        "seconds_per_block": None if single is None else single.seconds_per_block,
        "memory_bytes": {
            "single": _fullest(single),
            f"fsdp_{_SHARDED_RANKS}": _fullest(sharded),
        },
    }


def _fullest(plan: Plan | None) -> int | None:
    return None if plan is None else max(d.predicted_bytes for d in plan.devices)


def _plan(preset: Preset, shape: DiTShape, size: tuple[int, int], **placed: Any) -> Plan | None:
    """None where the preset's own values contradict each other."""
    kept = {name: value for name, value in preset.values.items() if name not in _PLACING}
    request = Request(**{**kept, **placed})
    gpus = request.num_gpus_dit or 1
    try:
        return solve(
            request,
            read_mode(request, gpus),
            shape,
            [DeviceOffer(f"cuda:{n}") for n in range(gpus)],
            size=size,
            clips=request.num_clip,
        )
    except ParamError:
        return None

"""``avatop ckpt``: inspect, verify and synthesise checkpoints. No torch in this process."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import click

from console.commands.columns import Col, Columns
from console.commands.say import json_option, print_json, tell
from console.exits import USAGE, BadInput, Refused
from console.i18n import N_, t
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.inspect import Component, Inspection
from engine.checkpoint.inspect import inspect as inspect_layout
from engine.checkpoint.layout import Layout, find
from engine.checkpoint.shapes import SHAPES
from engine.checkpoint.synth import COMPONENTS, DiskTooSmallError
from engine.checkpoint.synth import synth as write_checkpoint
from engine.checkpoint.verify import verify as verify_layout

_TABLE: Final = Columns(
    Col(N_("component"), 22), Col(N_("tensors"), 9, right=True, gap=0),
    Col(N_("parameters"), 18, right=True, gap=0), Col(N_("bytes"), 18, right=True, gap=0),
    Col(N_("dtypes"), gap=2),
)  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

_LOCATIONS = {
    "--t5_path": "The umT5 weights, if they lie elsewhere.",
    "--vae_path": "The VAE's weights, if they lie elsewhere.",
    "--wav2vec_path": "The wav2vec2 folder, if it lies elsewhere.",
    "--lora_path_dmd": "A LoRA's file or folder.",
}


def _locations(function: F) -> F:
    for flag, text in reversed(_LOCATIONS.items()):
        function = click.option(flag, type=str, metavar="PATH", help=text)(function)
    return function


def _headers_only(function: F) -> F:
    text = "Do not start the child process that lists the tensors of .pth files."
    return click.option("--headers-only", is_flag=True, help=text)(function)


@click.group(context_settings={"token_normalize_func": lambda token: token.replace("_", "-")})
def ckpt() -> None:
    """Inspect, verify or synthesise a checkpoint."""


@ckpt.command("inspect")
@click.argument("directory", metavar="DIR")
@_locations
@_headers_only
@json_option
def inspect(directory: str, headers_only: bool, as_json: bool, **places: str | None) -> None:
    """Components, tensors, bytes, dtypes and shards of the checkpoint in DIR."""
    try:
        report = inspect_layout(_find(directory, places), headers_only=headers_only)
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)


@ckpt.command("verify")
@click.argument("directory", metavar="DIR")
@_locations
@_headers_only
@click.option("--deep", is_flag=True, help="Also read every DiT tensor and look for NaN.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    directory: str,
    headers_only: bool,
    deep: bool,
    as_json: bool,
    **places: str | None,
) -> None:
    """Check DIR before a device is touched; exit 2 when it is unusable."""
    try:
        outcome = verify_layout(_find(directory, places), deep=deep, headers_only=headers_only)
    except CheckpointError as error:
        if not as_json:
            raise BadInput(str(error)) from error
        problem = f"{error.what}: {error.why}" if error.why else error.what
        finding = {
            "severity": "error",
            "file": error.where,
            "tensor": error.tensor,
            "problem": problem,
            "remedy": error.remedy,
        }
        print_json({"ok": False, "findings": [finding]})
        ctx.exit(USAGE)
    if as_json:
        print_json(outcome.to_dict())
    else:
        for found in outcome.findings:
            tell(found.line())
        click.echo(t("usable") if outcome.ok else t("unusable"))
    if not outcome.ok:
        ctx.exit(USAGE)


@ckpt.command("synth")
@click.option("--shape", type=click.Choice(sorted(SHAPES)), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--seed", type=click.IntRange(0), required=True, metavar="N")
@click.option(
    "--components",
    default=",".join(COMPONENTS),
    show_default=True,
    help="Which components to write, separated by commas.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Threads  [default: one per core]")
@json_option
def synth(
    shape: str, out: Path, seed: int, components: str, workers: int | None, as_json: bool
) -> None:
    """Write a checkpoint with random weights in the real layout."""
    chosen = [name.strip().replace("wav2vec2", "wav2vec") for name in components.split(",")]
    try:
        with _ended_by_signal():
            result = write_checkpoint(
                shape, out, seed, chosen, workers=workers, on_progress=_Progress()
            )
    except DiskTooSmallError as error:
        raise Refused(str(error)) from error
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    if as_json:
        print_json({"dir": result.dir, "bytes": result.bytes, "params": result.params})
    else:
        click.echo(f"{result.dir}: {result.bytes:,} bytes, {result.params:,} parameters")


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does, so that nothing stays behind."""

    def end(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A line on stderr every few seconds of a long synthesis."""

    def __init__(self) -> None:
        self.next = time.monotonic() + 3

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + 3
            tell(f"{done / total:.0%} of {total:,} bytes")


def _find(directory: str, places: dict[str, str | None]) -> Layout:
    return find(
        directory,
        t5_path=places.get("t5_path"),
        vae_path=places.get("vae_path"),
        wav2vec_path=places.get("wav2vec_path"),
        lora_path=places.get("lora_path_dmd"),
    )


def _count(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _print(report: Inspection) -> None:
    click.echo(f"{report.family}  {report.dir}")
    click.echo(_TABLE.head())
    for component in report.components:
        _print_component(component)
    for name, path in report.missing.items():
        click.echo(t("{what} is missing: {path}", what=name, path=path))


def _print_component(component: Component) -> None:
    dtypes = ", ".join(f"{name} × {n}" for name, n in (component.dtypes or {}).items()) or "n/a"
    numbers = _count(component.tensors), _count(component.params), _count(component.bytes)
    click.echo(_TABLE.row(component.name, *numbers, dtypes))
    for part in component.parts:
        values = _count(part.tensors), _count(part.params), _count(part.bytes)
        click.echo(_TABLE.row(f"  {part.name}", *values, ""))
    for shard in component.shards:
        click.echo(f"  {shard.file}: {', '.join(shard.holds)}")
    if not component.shards:
        click.echo(f"  {', '.join(component.files)}")

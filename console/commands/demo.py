"""``avatop demo``: the sample job, in the console where there is a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from console.commands.common import parameter_options, resolve_flags
from console.commands.say import json_option, tell_remark
from console.exits import Failed

PROMPT: Final = (
    "A young woman with dark hair in a blue jacket looks into the camera and speaks with a calm "
    "smile, upper body, plain studio background, soft even light, illustrated portrait style"
)
#: What the sample model was trained for, and ended by two CPU cores within a minute; any of them
#: gives way to a flag.
SETTINGS: Final = {"size": "128*128", "num_clip": "3"}
#: Flags that say by themselves where the work runs.
_PLACING: Final = frozenset({"single_gpu", "dit_fsdp", "offload_model", "num_gpus_dit"})
_SUFFIXES: Final = {"portraits": (".png", ".jpg", ".webp"), "speech": (".wav", ".mp3", ".flac")}


@click.command(short_help="Run the sample job; in a terminal, in the console.")
@click.option("--headless", is_flag=True, help="Without a screen, in a terminal too.")
@json_option
@parameter_options
@click.pass_context
def demo(ctx: click.Context, /, headless: bool, as_json: bool, **flags: Any) -> None:
    """Make a short video of a sample portrait that speaks, with weights sharded over ranks.

    Ranks run on the GPUs of this host, or on its CPU where it has none. Every flag of "run" may be
    given and changes the job.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    resolved = resolve_flags({**sample_flags(given), **given}, None, None)
    for remark in resolved.remarks:
        tell_remark(remark)
    from console.commands.console import has_terminal, open_console

    if headless or as_json or not has_terminal():
        from console.headless import run_headless

        ctx.exit(run_headless(resolved.request, as_json))
    ctx.exit(open_console(resolved.request.to_dict(), **(ctx.obj or {})))


def _mode(gpus: str | None) -> str:
    """Sharded weights, unless there is only one GPU to hold them."""
    from engine.offers import offers
    from engine.telemetry.devices import DeviceSelectionError, pick_source

    source = pick_source().source
    try:
        found = offers(source.read(), gpus, os.environ)
    except DeviceSelectionError:
        return "fsdp"  # the job's own check says what is wrong with --gpus
    finally:
        source.close()
    return "single" if len(found) == 1 and found[0].kind == "cuda" else "fsdp"


def sample_flags(given: Mapping[str, str]) -> dict[str, str]:
    """The sample job's flags, without those that are given.

    Raises:
        Failed: the installation lacks its sample data.
    """
    from engine.resources import sample_data

    try:
        folder = sample_data()
    except FileNotFoundError as error:
        raise Failed(str(error)) from error
    sources: dict[str, Callable[[], str]] = {
        "image": lambda: _first(folder, "portraits"),
        "audio": lambda: _first(folder, "speech"),
        "ckpt_dir": lambda: str(folder / "ckpt"),
        "prompt": lambda: PROMPT,
        **{name: lambda value=value: value for name, value in SETTINGS.items()},  # type: ignore[misc]
    }
    if not _PLACING & set(given):
        sources["mode"] = lambda: _mode(given.get("gpus"))
    return {name: source() for name, source in sources.items() if name not in given}


def _first(folder: Path, kind: str) -> str:
    found = sorted(p for p in folder.glob(f"{kind}/*") if p.suffix in _SUFFIXES[kind])
    if not found:
        raise Failed(f"{folder / kind} is empty: the installation is incomplete, reinstall avatop")
    return str(found[0])

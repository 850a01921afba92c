"""``avatop web``: the web door."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.say import tell, tell_remark
from console.exits import BadInput, Failed

_MISSING = "the web door needs gradio: pip install 'avatop[web]'"


@click.command(short_help="Let people submit through a browser, programs through HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS")
@click.option("--port", default=7860, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--token-env",
    default="AVATOP_WEB_TOKEN",
    show_default=True,
    metavar="NAME",
    help="Variable that holds the token. Bound elsewhere than to this machine, one is made.",
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further name of this server.")
@source_options
@parameter_options
def web(
    host: str,
    port: int,
    token_env: str,
    allow_host: tuple[str, ...],
    preset: str | None,
    file: Path | None,
    **flags: Any,
) -> None:
    """Serve a page and an HTTP interface that hand jobs to the engine (docs/web.md).

    All flags of "run" say what jobs from there run by; people set prompt, size, clips, steps and
    seed. Jobs outlive this server and the browser.
    """
    if find_spec("gradio") is None:
        raise Failed(_MISSING)
    for name in ("image", "audio", "output", "command", "profile"):
        if flags.get(name):
            raise BadInput(f"--{name}: is a visitor's to send, or not to be had through the web")
    resolved = resolve_flags(flags, file, preset, required=("ckpt_dir",))
    from console.version import version
    from console.web.door import Door
    from console.web.server import serve
    from console.web.uploads import Uploads
    from console.web.where import where
    from engine.jobs.paths import Places

    places = Places.of()
    place = where(host, port, os.environ.get(token_env) or None, allow_host)
    door = Door(places, version(), resolved.request, Uploads(places.state / "web"))
    for remark in resolved.remarks:
        tell_remark(remark)
    tell(f"avatop: open {place.url}")
    try:
        serve(door, place)
    except OSError as error:
        raise Failed(f"{host}:{port}: {error.strerror or error}") from error

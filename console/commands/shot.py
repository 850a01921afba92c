"""``avatop shot``: a page of the console as a picture or as text, without a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from console import format as fmt
from console.commands.attach import NO_ENGINE
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput, Failed

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from console.app import AvatopApp
    from console.leave import Leave

#: Seconds the engine's state, or a moment of a recording, may take to come.
COMING: Final = 30.0
#: Seconds of silence after which a recording's moment counts as told.
_QUIET: Final = 0.4
#: Seconds within which the console draws what it was told: two of its frames.
_DRAWN: Final = 0.2
_SIZE: Final = re.compile(r"(\d{1,3})\s*[x×*]\s*(\d{1,3})")
_LEAST, _MOST = (20, 8), (500, 200)


@click.command(short_help="A page as SVG or text, without a terminal.")
@click.argument("page", default="overview")
@click.option("--size", default="120x40", show_default=True, metavar="COLUMNSxROWS")
@click.option("--theme", metavar="NAME|FILE", help="Colour theme  [default: the configuration's].")
@click.option("--lang", metavar="LANGUAGE", help="en or zh_CN  [default: the configuration's].")
@click.option("--recording", type=click.Path(path_type=Path), metavar="FILE|DIR",
              help="A recorded moment instead of the running engine.")  # fmt: skip
@click.option("--at", metavar="TIME", help="Which moment of it: 10:30, -10m [default: its end].")
@click.option("--press", metavar="KEYS", help="Keys to press first, e.g. down,down,z.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 600),
    default=0.0,
    metavar="SECONDS",
    help="Look at the running engine for so long first: steps are told while one looks.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.svg|.txt",
              help="What to write  [default: text on stdout].")  # fmt: skip
@json_option
@click.pass_context
def shot(
    ctx: click.Context,
    page: str,
    size: str,
    theme: str | None,
    lang: str | None,
    recording: Path | None,
    at: str | None,
    press: str | None,
    wait: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Write what a console shows on PAGE (overview, incidents, …) of the running engine.

    Nothing can be changed by it: the engine refuses every command of this console.
    """
    columns, rows = _size(size)
    kind = _kind(output)
    _known(page)
    if wait and recording is not None:
        raise BadInput("--wait: a recorded moment does not move; choose it with --at")
    asked = ctx.obj or {}
    theme, lang = theme or asked.get("theme"), lang or asked.get("lang")
    with contextlib.ExitStack() as stack:
        make, come = _recorded(recording, at) if recording is not None else _live(stack, wait)
        text = _taken(make, theme, lang, (columns, rows), _Way(page, press, come), kind)
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failed(f"{fmt.inert(str(output))}: {error.strerror or error}") from error
    if as_json:
        print_json({"page": page, "columns": columns, "rows": rows, "kind": kind,
                    "file": None if output is None else str(output)})  # fmt: skip
    elif output is None:
        click.echo(text, nl=False)
    else:
        tell(f"{page}, {columns}×{rows}: {output}")


def _size(text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"--size {text!r}: give columns and rows, such as 120x40")
    columns, rows = int(found[1]), int(found[2])
    if not (_LEAST[0] <= columns <= _MOST[0] and _LEAST[1] <= rows <= _MOST[1]):
        raise BadInput(
            f"--size {text}: from {_LEAST[0]}x{_LEAST[1]} to {_MOST[0]}x{_MOST[1]} cells"
        )
    return columns, rows


def _kind(output: Path | None) -> str:
    if output is None or output.suffix == ".txt":
        return "txt"
    if output.suffix == ".svg":
        return "svg"
    raise BadInput(f"-o {output}: the name ends in .svg (a picture) or .txt (text)")


def _known(page: str) -> None:
    from console import actions

    names = [entry.name for entry in actions.PAGES]
    if page not in names:
        raise BadInput(f"there is no page {page!r}; there are: {', '.join(names)}")


Maker = Callable[[str | None, str | None], "AvatopApp"]
#: Waits, once the state has come, until what was before it has, too; at most until a time.
Come = Callable[["AvatopApp", "Pilot[Leave]", float], Awaitable[None]]


@dataclass(frozen=True)
class _Way:
    """To the picture: the page, the keys pressed on it, and what is waited for before."""

    page: str
    press: str | None
    come: Come


def _live(stack: contextlib.ExitStack, wait: float) -> tuple[Maker, Come]:
    from engine.remote.client import attach

    try:
        client = attach(kind="verb", read_only=True)
    except OSError as error:
        raise Failed(str(error)) from error
    if client is None:
        raise Failed(f"{NO_ENGINE}, or give a --recording")
    stack.callback(client.close)

    def make(theme: str | None, lang: str | None) -> AvatopApp:
        from console.app import AvatopApp
        from console.commands.console import own_config

        return AvatopApp(client, theme=theme, lang=lang, config=own_config(),
                         environ=_colours(), own_fds=False)  # fmt: skip

    async def past_told(_: AvatopApp, pilot: Pilot[Leave], until: float) -> None:
        """A working engine is never silent: what it tells of the past has an end of its own."""
        while time.monotonic() < until and not client.past_told.is_set():
            await pilot.pause(0.05)
        await pilot.pause(_DRAWN + wait)

    return make, past_told


def _recorded(path: Path | None, at: str | None) -> tuple[Maker, Come]:
    from console.commands.export import moment_option
    from console.commands.recordings import load
    from engine.nightwatch.derived import derived
    from engine.telemetry.replay import ReplayClient

    recording = load(path)
    client = ReplayClient(recording, derived)
    client.seek(recording.end if at is None else moment_option("--at", at, recording.end))

    def make(theme: str | None, lang: str | None) -> AvatopApp:
        from console.commands.console import own_config
        from console.screens.replay import ReplayApp

        return ReplayApp(client, theme=theme, lang=lang, config=own_config(),
                         environ=_colours(), own_fds=False)  # fmt: skip

    async def silent(app: AvatopApp, pilot: Pilot[Leave], until: float) -> None:
        quiet = time.monotonic() + _QUIET
        while time.monotonic() < min(quiet, until):
            if len(app.mailbox):
                quiet = time.monotonic() + _QUIET
            await pilot.pause(0.05)

    return make, silent


def _colours() -> dict[str, str]:
    """The environment of a terminal that shows everything: the picture depends on no terminal."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "AVATOP_ASCII")}
    return {**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def _taken(
    make: Maker, theme: str | None, lang: str | None, size: tuple[int, int], way: _Way, kind: str,
) -> str:  # fmt: skip
    from console.i18n import LanguageError
    from console.leave import Leave
    from console.theme import ThemeError

    try:
        app = make(theme, lang)
    except (ThemeError, LanguageError) as error:
        raise BadInput(str(error)) from error
    drawn: list[str] = []

    async def pilot_it(pilot: Pilot[Leave]) -> None:
        try:
            await _arrive(app, pilot, way)
            if way.press:
                await pilot.press(*(key.strip() for key in way.press.split(",") if key.strip()))
                await _settle(app, pilot)
            drawn.append(app.picture() if kind == "svg" else app.picture_text())
        finally:
            app.exit(Leave("quit"))

    asyncio.run(app.run_async(headless=True, size=size, auto_pilot=pilot_it))
    if not drawn:
        raise Failed("the screen could not be drawn")
    return drawn[0]


async def _arrive(app: AvatopApp, pilot: Pilot[Leave], way: _Way) -> None:
    """Wait for the state and the history, then go to the page."""
    until = time.monotonic() + COMING
    while not app.model.connected or app.seeking:
        if time.monotonic() > until:
            raise Failed("the engine does not tell its state")
        await pilot.pause(0.05)
    await way.come(app, pilot, until)
    app.action_go(way.page)
    await _settle(app, pilot)


async def _settle(app: AvatopApp, pilot: Pilot[Leave]) -> None:
    """Wait for what the page, or a dialog, reads or reckons, then for the drawing."""
    until = time.monotonic() + COMING
    await pilot.pause()
    while time.monotonic() < until and (
        app.seeking or any(getattr(shown, "busy", False) for shown in (app.page, app.screen))
    ):
        await pilot.pause(0.05)
    await pilot.pause()

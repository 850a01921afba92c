"""``avatop attach``, ``detach`` and ``stop``: come back to the running engine, leave it, end it."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from typing import Any, Final

import click

from console import exits
from console import format as fmt
from console.commands.say import json_option, print_json, tell
from engine.messages import END_STATES, EngineStopped, Event, Snapshot, StopEngine
from engine.remote.client import SocketClient
from engine.remote.client import attach as attach_to

#: Seconds the engine may take for an answer, and for its end with every rank.
ANSWER_SECONDS: Final = 30.0
END_SECONDS: Final = 60.0
NO_ENGINE: Final = "no engine is running; start one with: avatop"


def running_engine(kind: str = "verb") -> SocketClient | None:
    """The running engine's client, or None.

    Raises:
        Failed: one runs, and cannot be reached.
    """
    try:
        return attach_to(kind=kind)
    except OSError as error:
        raise exits.Failed(str(error)) from error


@click.command(short_help="Open a console on the running engine.")
@click.option(
    "--read-only",
    is_flag=True,
    envvar="AVATOP_READ_ONLY",
    help="Look only: the engine refuses every command of this console.",
)
@click.pass_context
def attach(ctx: click.Context, read_only: bool) -> None:
    """Open a console on the engine that is running, with its history.

    Exit code 1 when none runs; "avatop" alone starts one.
    """
    from console.commands.console import open_console

    with contextlib.closing(_needed()):
        pass
    asked = ctx.obj or {}
    ctx.exit(
        open_console(
            theme=asked.get("theme"), lang=asked.get("lang"), attach_only=True, read_only=read_only
        )
    )


@click.command(short_help="Make every console leave; the engine works on.")
@json_option
def detach(as_json: bool) -> None:
    """Ask all consoles of the running engine to leave. Its jobs go on."""
    with contextlib.closing(_needed()) as client:
        asked = int(client.detach_consoles().result(ANSWER_SECONDS).get("consoles", 0))
        live = _work(client.snapshot().result(ANSWER_SECONDS))
        pid = client.engine_pid
    if as_json:
        print_json({"engine": pid, "state": "running", "consoles": asked, "jobs": live})
        return
    left = f"{fmt.plural(asked, 'console')} asked to leave"
    work = f"works on ({fmt.plural(len(live), 'job')})" if live else "has no work and ends"
    tell(f"{left}; the engine, process {pid}, {work}.")


@click.command(short_help="End the running engine, after the clip in progress.")
@click.option(
    "--after-clip/--now",
    default=True,
    help="Once the clip in progress is on disk (default), or at once.",
)
@json_option
def stop(after_clip: bool, as_json: bool) -> None:
    """End the running engine. Committed clips are kept; unfinished jobs are interrupted.

    With --after-clip the engine is told and works to the end of the clip by itself; with --now
    this returns when every rank is gone.
    """
    client = running_engine()
    if client is None:
        _said(as_json, None, "none", "No engine is running.")
        return
    with contextlib.closing(client):
        ended: Future[None] = Future()

        def listen(event: Event) -> None:
            if isinstance(event, EngineStopped) and not ended.done():
                ended.set_result(None)

        client.subscribe(listen)
        busy = bool(_work(client.snapshot().result(ANSWER_SECONDS)))
        reply = client.send(StopEngine(after_clip=after_clip)).result(ANSWER_SECONDS)
        if not reply.ok:
            raise exits.Failed(reply.message)
        state = "stopping"
        if not (after_clip and busy):
            with contextlib.suppress(TimeoutError):
                ended.result(END_SECONDS)
                state = "stopped"
        _said(as_json, client.engine_pid, state, reply.message)


def _needed() -> SocketClient:
    client = running_engine()
    if client is None:
        raise exits.Failed(NO_ENGINE)
    return client


def _work(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Jobs that run or wait."""
    return [
        {"id": row.id, "state": row.state} for row in snapshot.jobs if row.state not in END_STATES
    ]


def _said(as_json: bool, pid: int | None, state: str, text: str) -> None:
    if as_json:
        print_json({"engine": pid, "state": state})
    else:
        tell(text)

"""``avatop`` without a verb: the console, and what becomes of the engine when it is left."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from console import exits
from console.commands.common import tell

if TYPE_CHECKING:
    from console.leave import Leave
    from engine.engine import InProcessClient
    from engine.messages import Reply


def has_terminal() -> bool:
    """Whether a screen can be drawn and keys can be read."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def open_console(request: Mapping[str, Any] | None = None, theme: str | None = None) -> int:
    """Run the console; with ``request``, submit that job at once. Returns the exit code."""
    if not has_terminal():
        tell(
            "avatop: the console needs a terminal, and there is none here. "
            "Run it in one, or make a video without a screen: avatop run --help, avatop demo"
        )
        return exits.USAGE
    # Textual first: the picture is drawn while the engine's modules are still being imported.
    from console.app import AvatopApp
    from console.theme import ThemeError

    started: list[InProcessClient] = []

    def connect() -> InProcessClient:
        from console.version import version
        from engine.engine import start_engine
        from engine.messages import Submit

        client = start_engine(version=version())
        started.append(client)
        if request is not None:
            answer = client.send(Submit(request=dict(request)))
            answer.add_done_callback(lambda future: _told(client, future))
        return client

    try:
        app = AvatopApp(connect, theme=theme)
    except ThemeError as error:
        tell(f"avatop: {error}")
        return exits.USAGE
    leave = app.run()
    client = started[0] if started else None
    if client is None:
        return _say(leave)
    return _let_go(client, leave)


def _told(client: InProcessClient, answer: Future[Reply]) -> None:
    """A job that was refused says so in the log pane. On the engine's thread."""
    reply = answer.result()
    if not reply.ok:
        client.engine.bus.log("ERROR", reply.message)


def _let_go(client: InProcessClient, leave: Leave) -> int:
    """End the engine, or let it finish when it was the terminal that went away."""
    if leave.reason == "terminal_gone":
        # Nobody is there to see a signal's effect any more; the queue ends, then the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        client.when_idle().result()
    elif leave.reason == "after_clip":
        client.engine.join()
    client.close()
    return _say(leave)


def _say(leave: Leave) -> int:
    if leave.message and leave.reason != "terminal_gone":
        tell(f"avatop: {leave.message}")
    codes: dict[str, int] = {"failed": exits.FAILED, "terminated": exits.INTERRUPTED}
    return codes.get(leave.reason, exits.DONE)

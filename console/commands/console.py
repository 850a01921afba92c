"""``avatop`` without a verb: a console on the running engine, or on one that is started for it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from console import exits, pauses
from console.commands.say import tell

if TYPE_CHECKING:
    from console.app import AvatopApp
    from console.config import Config
    from console.leave import Leave
    from engine.messages import Reply
    from engine.remote.client import SocketClient

#: Seconds that leaving waits for cancelled jobs' ranks to be gone.
CANCEL_SECONDS: Final = 15.0
_AGAIN: Final = "come back with: avatop"


def has_terminal() -> bool:
    """Whether a screen can be drawn and keys can be read."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def own_config() -> Config:
    """The configuration of whoever starts the console."""
    from console import config

    return config.load(config.place(os.environ))


def open_console(
    request: Mapping[str, Any] | None = None,
    theme: str | None = None,
    lang: str | None = None,
    *,
    attach_only: bool = False,
    read_only: bool = False,
) -> int:
    """Run the console until it is left. Returns the exit code.

    Args:
        request: submit this job at once. theme: name or path. lang: language.
        attach_only: an engine has to run already. read_only: the engine refuses every command.
    """
    if not has_terminal():
        tell(
            "avatop: the console needs a terminal, and there is none here. "
            "Run it in one, or make a video without a screen: avatop run --help, avatop demo"
        )
        return exits.USAGE
    pauses.none()
    # Textual first: the picture is drawn while the engine's modules are still being imported.
    from console.app import AvatopApp
    from console.i18n import LanguageError
    from console.theme import ThemeError

    attached: list[SocketClient] = []

    def connect() -> SocketClient:
        client = _find(attach_only=attach_only, read_only=read_only)
        attached.append(client)
        client.on_detach = app.detach
        if request is not None:
            _submit(app, client, request)
        return client

    try:
        app = AvatopApp(connect, theme=theme, lang=lang, config=own_config())
    except (ThemeError, LanguageError) as error:
        tell(f"avatop: {error}")
        return exits.USAGE
    try:
        leave = app.run()
    finally:  # whatever happens to the screen, the engine goes on
        if attached:
            _let_go(attached[0], wait=app.leaving is not None and app.leaving.reason == "cancelled")
    return _say(leave, app.fault if app.return_code else None)


def _find(*, attach_only: bool, read_only: bool) -> SocketClient:
    """On the thread that connects.

    Raises:
        OSError, RuntimeError: there is no engine, and why.
    """
    from console.version import version
    from engine.remote.client import attach
    from engine.remote.spawn import attach_or_spawn

    if not (attach_only or read_only):
        return attach_or_spawn(version=version(), kind="console")
    client = attach(kind="console", read_only=read_only)
    if client is None:
        raise RuntimeError("no engine is running; start one with: avatop")
    return client


def _submit(app: AvatopApp, client: SocketClient, request: Mapping[str, Any]) -> None:
    """Queue the first job; a refusal is said in the log pane."""
    from engine.messages import LogLine, Submit

    def told(answer: Future[Reply]) -> None:
        reply = answer.result()
        if not reply.ok:
            app.mailbox.put(LogLine(level="ERROR", source="console", text=reply.message))

    client.send(Submit(request=dict(request))).add_done_callback(told)


def _let_go(client: SocketClient, *, wait: bool) -> None:
    """Leave the engine to itself; after a cancellation, once the ranks are gone."""
    if wait:
        with contextlib.suppress(TimeoutError):
            client.when_idle().result(CANCEL_SECONDS)
    client.close()


def _say(leave: Leave, fault: Exception | None) -> int:
    if fault is not None and leave.reason != "failed":
        tell(f"avatop: the console failed; the engine works on, {_AGAIN}")
        tell(f"avatop: {type(fault).__name__}: {fault}; {_keep(fault)}")
        return exits.FAILED
    if leave.message and leave.reason != "terminal_gone":
        tell(f"avatop: {leave.message}")
    if leave.reason == "detached" and not leave.message:
        tell(f"avatop: the engine works on; {_AGAIN}")
    codes: dict[str, int] = {"failed": exits.FAILED, "terminated": exits.INTERRUPTED}
    return codes.get(leave.reason, exits.DONE)


def _keep(fault: Exception) -> str:
    """Write a fault's traceback where it can be looked at; where, or why it cannot."""
    import time
    import traceback

    from engine.jobs.paths import Places

    path = Places.of().faults
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(time.strftime("%Y-%m-%d %H:%M:%S\n"))
            file.writelines(traceback.format_exception(fault))
    except OSError as error:
        return f"its traceback could not be kept: {error}"
    return f"its traceback is in {path}"

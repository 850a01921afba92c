"""Find the engine of this user and host, or start one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from engine.jobs.paths import Places
from engine.remote import owner
from engine.remote.address import EngineTaken
from engine.remote.client import SocketClient, attach
from engine.remote.host import TAKEN, Hosting
from engine.sentence import sentence

#: Seconds a new host may take until it listens (about 0.3 s on a warm disk), or an ending one may
#: take to make room.
START_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.02
_MODULE: Final = "engine.remote.host"
T = TypeVar("T")


class EngineNotStarted(RuntimeError):  # noqa: N818 - says what happened
    """A process for the engine was started and does not answer."""


def attach_or_spawn(
    places: Places | None = None, version: str = "", *, kind: str = "client"
) -> SocketClient:
    """The running engine, or one in a new process that outlives this one.

    A console that is killed before it took its leave takes the process it started with it.

    Raises:
        EngineNotStarted: the new process ended, or did not answer in time; says why.
        RefusedByEngine, NotOurs, OSError: one runs, and this client cannot have it.
    """
    where = places or Places.of()
    started: list[subprocess.Popen[bytes]] = []

    def attempt() -> SocketClient | None:
        running = attach(where, kind=kind)
        if running is None:
            code = started[-1].poll() if started else TAKEN
            if code == TAKEN:  # nobody yet; or another one that was ending meanwhile
                started.append(_spawn(where, version, owned=kind == "console"))
            elif code is not None:
                raise EngineNotStarted(
                    sentence(
                        "the engine ended with exit code {code}; see {log}",
                        code=code,
                        log=where.log,
                    )
                )
        return running

    client = _again(attempt)
    if client is None:
        raise EngineNotStarted(
            sentence("the engine's process does not answer; see {log}", log=where.log)
        )
    return client


def attach_or_host(
    places: Places | None = None, version: str = "", *, kind: str = "client"
) -> SocketClient | Hosting:
    """The running engine, or one in this process that others can attach to.

    Raises:
        EngineNotStarted: another process hosts it and does not answer.
        RefusedByEngine, NotOurs, OSError: one runs, and this client cannot have it.
    """
    where = places or Places.of()

    def attempt() -> SocketClient | Hosting | None:
        running = attach(where, kind=kind)
        if running is not None:
            return running
        try:
            return Hosting(where, version)
        except EngineTaken:  # just starting, or just ending
            return None

    found = _again(attempt)
    if found is None:
        raise EngineNotStarted(
            sentence("another process hosts the engine and does not answer ({where})", where=where)
        )
    return found


def _again(attempt: Callable[[], T]) -> T:
    """The first answer that is not None, or None after ``START_SECONDS``."""
    deadline = time.monotonic() + START_SECONDS
    while (found := attempt()) is None and time.monotonic() < deadline:
        time.sleep(_AGAIN_SECONDS)
    return found


def _spawn(places: Places, version: str, *, owned: bool) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "AVATOP_STATE_DIR": str(places.state),
        "AVATOP_CACHE_DIR": str(places.cache),
    }
    command = [sys.executable, "-P", "-m", _MODULE, "--version", version]
    if owned:
        command += ["--owner", owner.told(os.getpid())]
    places.state.mkdir(parents=True, exist_ok=True)
    # What Python itself says of a fault at start belongs with the engine's log.
    with places.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            start_new_session=True,  # the terminal's hang-up and Ctrl-C are not the engine's
        )
    # It is waited for, or it would stay defunct while this process lives.
    threading.Thread(target=process.wait, name="avatop-host-waiter", daemon=True).start()
    return process

"""The engine's handle on the fork server: start it early, ask it for ranks, hear of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from engine.guard import marks
from engine.sentence import sentence

MODULE: Final = "engine.ranks.onrank.forkserver"
DEFAULT_ENTRY: Final = "engine.ranks.onrank.job:run"
_MESSAGE_LIMIT: Final = 1 << 17
_LINE_LIMIT: Final = 16 << 10
_TAIL_LINES: Final = 40
#: One thread each, or a fork would copy locks of threads that do not exist in the child.
_SINGLE_THREADED: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

#: Called with a level and one line of text; on the engine's loop once there is one.
ServerLog = Callable[[str, str], None]


class RankServerError(RuntimeError):
    """The fork server did not start, ended, or refused."""


@dataclass(frozen=True)
class SpawnRequest:
    """What one rank is born with. The descriptors stay the caller's to close."""

    channel: int
    stdout: int
    stderr: int
    env: Mapping[str, str | None] = field(default_factory=dict)  # None removes a variable


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended; both None where the server was not there to see it."""

    code: int | None = None
    signal: int | None = None


@dataclass(frozen=True)
class Spawned:
    """A group of ranks that lives now."""

    pgid: int
    pids: tuple[int, ...]
    ticks: tuple[int | None, ...]  # start times, as in /proc/PID/stat field 22
    exits: tuple[asyncio.Future[ExitStatus], ...]


class RankServer:
    """Starts and restarts the fork server; one per engine.

    ``prewarm`` may be called from any thread, before any loop runs. Everything else belongs to the
    engine's loop.

    Args:
        on_log: what the server says and prints.
        preload: modules to load instead of the server's own lists.
        home: the engine's state folder, told to everything that it starts.
    """

    def __init__(
        self,
        *,
        on_log: ServerLog | None = None,
        preload: Sequence[str] | None = None,
        home: Path | None = None,
    ) -> None:
        self._on_log = on_log
        self._home = home
        self._preload = preload
        self._lock = threading.Lock()
        self._current: _Incarnation | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The server's PID while one runs."""
        current = self._current
        return current.pid if current is not None and not current.dead.is_set() else None

    def prewarm(self) -> None:
        """Start the server if none runs; returns at once, the server loads torch meanwhile."""
        self._ensure()

    async def ready(self) -> dict[str, Any]:
        """Wait until the server can fork; returns its ``ready`` message.

        Raises:
            RankServerError: it ended before.
        """
        return await asyncio.shield(self._bound().ready)

    async def spawn(
        self,
        ranks: Sequence[SpawnRequest],
        *,
        entry: str = DEFAULT_ENTRY,
        load: Sequence[str] = (),
    ) -> Spawned:
        """Fork one process group; waits while the server still loads.

        Args:
            load: modules that all these ranks import; the server does so once for all.

        Raises:
            RankServerError: the server ended or refused.
        """
        return await self._bound().spawn(ranks, entry, load)

    async def release(self, pgid: int) -> None:
        """Say that a group is over; returns when the server has reaped it, or has ended."""
        current = self._current
        if current is not None and current.loop is not None:
            await current.release(pgid)

    async def close(self, seconds: float = 3.0) -> None:
        """End the server, with every rank it still has."""
        self._closed = True
        current = self._current
        if current is not None:
            current.hang_up()
            await asyncio.to_thread(current.dead.wait, seconds)
            current.kill()

    def _ensure(self) -> _Incarnation:
        with self._lock:
            if self._closed:
                raise RankServerError(sentence("the rank server is closed"))
            if self._current is None or self._current.dead.is_set() or self._current.lost:
                self._current = _Incarnation(self._on_log, self._preload, self._home)
            return self._current

    def _bound(self) -> _Incarnation:
        current = self._ensure()
        current.bind(asyncio.get_running_loop())
        return current


class _Incarnation:
    """One server process from birth to death."""

    def __init__(
        self, on_log: ServerLog | None, preload: Sequence[str] | None, home: Path | None
    ) -> None:
        self._on_log = on_log
        self._home = None if home is None else str(home)
        self._preload = preload
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._early: deque[tuple[str, str]] = deque(maxlen=200)
        self._ids = 0
        self._spawns: dict[int, asyncio.Future[Spawned]] = {}
        self._exits: dict[int, asyncio.Future[ExitStatus]] = {}
        self._releases: dict[int, asyncio.Future[None]] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ready: asyncio.Future[dict[str, Any]]
        self.pid: int | None = None
        self.dead = threading.Event()
        self.lost = False  # the control socket has ended
        self._process: subprocess.Popen[bytes] | None = None
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        # The server dies with the *thread* that starts it (PR_SET_PDEATHSIG), so that thread does
        # nothing else and lives as long as the server does.
        keeper = threading.Thread(
            target=self._keep, args=(theirs,), name="avatop-rank-server", daemon=True
        )
        keeper.start()

    # -- the keeper's thread

    def _keep(self, theirs: socket.socket) -> None:
        root = Path(__file__).resolve().parents[2]
        # For life, ranks and what they start say whose they are: the reaper goes by that.
        mark = marks.environment(self._home)
        paths = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        command = [sys.executable, "-P", "-m", MODULE]
        command += ["--control", str(theirs.fileno()), "--parent", str(os.getpid())]
        if self._preload is not None:
            command += ["--preload", ",".join(self._preload), "--later", ""]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                env={
                    **os.environ,
                    **_SINGLE_THREADED,
                    **mark,
                    "PYTHONPATH": os.pathsep.join(paths),
                },
                start_new_session=True,  # the terminal's Ctrl-C and hang-up are not the ranks'
            )
        except OSError as error:
            self._tail.append(f"{sys.executable}: {error.strerror}")
            self.dead.set()
            self._call(self._on_death)
            return
        finally:
            theirs.close()
        self._process = process
        self.pid = process.pid
        assert process.stdout is not None
        self._read(process.stdout)
        process.wait()
        self.dead.set()
        self._call(self._on_death)

    def _read(self, stream: IO[bytes]) -> None:
        while raw := stream.readline(_LINE_LIMIT):
            text = raw.decode("utf-8", errors="backslashreplace").rstrip()
            if text:
                self._tail.append(text)
                self._call(self._log, "INFO", text)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        """On the loop if there is one; log lines from before wait for it."""
        loop = self.loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens
                loop.call_soon_threadsafe(function, *args)
        elif function == self._log:
            self._early.append((str(args[0]), str(args[1])))

    # -- the engine's loop

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear the server on this loop from now on."""
        if self.loop is loop:
            return
        if self.loop is not None:
            raise RankServerError(sentence("the rank server already belongs to another event loop"))
        self.loop = loop
        self.ready = loop.create_future()
        self.ready.add_done_callback(lambda f: f.cancelled() or f.exception())  # may stay unread
        while self._early:
            self._log(*self._early.popleft())
        if self.dead.is_set():
            self._on_death()
        else:
            loop.add_reader(self.control, self._receive)

    async def spawn(
        self, ranks: Sequence[SpawnRequest], entry: str, load: Sequence[str]
    ) -> Spawned:
        assert self.loop is not None
        self._ids += 1
        number = self._ids
        request = {
            "do": "spawn",
            "id": number,
            "entry": entry,
            "ranks": [{"env": dict(rank.env)} for rank in ranks],
            "load": list(load),
        }
        fds = [fd for rank in ranks for fd in (rank.channel, rank.stdout, rank.stderr)]
        future: asyncio.Future[Spawned] = self.loop.create_future()
        self._spawns[number] = future
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], fds)
        except OSError as error:
            self._spawns.pop(number)
            why = error.strerror or error
            raise self._error(sentence("cannot ask for ranks: {why}", why=why)) from error
        return await future

    async def release(self, pgid: int) -> None:
        assert self.loop is not None
        if self.lost or self.dead.is_set():
            return
        future = self._releases.setdefault(pgid, self.loop.create_future())
        try:
            self.control.send(json.dumps({"do": "release", "pgid": pgid}).encode())
        except OSError:
            self._releases.pop(pgid).cancel()
            return
        await future

    def _receive(self) -> None:
        while True:
            try:
                raw = self.control.recv(_MESSAGE_LIMIT)
            except BlockingIOError:
                return
            except OSError:
                raw = b""
            if not raw:
                self._on_death()
                return
            self._hear(json.loads(raw))

    def _hear(self, message: dict[str, Any]) -> None:
        assert self.loop is not None
        said = message.get("say")
        if said == "ready" and not self.ready.done():
            self.ready.set_result(message)
        elif said == "log":
            self._log(message["level"], message["text"])
        elif said == "spawned":
            pids, ticks = tuple(message["pids"]), tuple(message["ticks"])
            ends = {pid: self.loop.create_future() for pid in pids}
            self._exits |= ends
            spawned = Spawned(message["pgid"], pids, ticks, tuple(ends.values()))
            future = self._spawns.pop(message["id"])
            if future.done():  # the asker was cancelled meanwhile: nobody will watch these
                self._give_up(spawned.pgid)
            else:
                future.set_result(spawned)
        elif said == "refused":
            future = self._spawns.pop(message["id"])
            if not future.done():
                told = sentence("the rank server: {message}", message=message["message"])
                future.set_exception(RankServerError(told))
        elif said == "exit":
            exit_ = self._exits.pop(message["pid"], None)
            if exit_ is not None and not exit_.done():
                exit_.set_result(ExitStatus(message["code"], message["signal"]))
        elif said == "released":
            released = self._releases.pop(message["pgid"], None)
            if released is not None and not released.done():
                released.set_result(None)

    def _give_up(self, pgid: int) -> None:
        with contextlib.suppress(OSError):
            self.control.send(json.dumps({"do": "release", "pgid": pgid}).encode())

    def hang_up(self) -> None:
        """Close the control socket: the server ends its groups and leaves."""
        if self.loop is not None and not self.lost:
            self.loop.remove_reader(self.control)
        self.control.close()
        if not self.lost:
            self.lost = True
            self._settle()

    def _on_death(self) -> None:
        """The server has ended, or stopped talking, which must come to the same."""
        if self.loop is not None and not self.lost:
            self.hang_up()
            self.kill()

    def _settle(self) -> None:
        """Nothing more will be heard: answer whoever waits."""
        if self.loop is None:
            return
        error = self._error(sentence("the rank server ended"))
        due: list[asyncio.Future[Any]] = [self.ready, *self._spawns.values()]
        for waiting in due:
            if not waiting.done():
                waiting.set_exception(error)
        for exit_ in self._exits.values():
            if not exit_.done():
                exit_.set_result(ExitStatus())
        for release in self._releases.values():
            if not release.done():
                release.set_result(None)
        self._spawns.clear()
        self._exits.clear()
        self._releases.clear()

    def kill(self) -> None:
        if self._process is not None and not self.dead.is_set():
            with contextlib.suppress(OSError):
                self._process.send_signal(signal.SIGKILL)

    def _log(self, level: str, text: str) -> None:
        if self._on_log is not None:
            self._on_log(level, text)

    def _error(self, what: str) -> RankServerError:
        status = self._process.returncode if self._process is not None else None
        text = what if status is None else f"{what} (status {status})"
        tail = " | ".join(list(self._tail)[-3:])
        return RankServerError(f"{text}: {tail}" if tail else text)

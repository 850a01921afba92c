"""A command under its keeper, as the engine sees it: lines, its end, what it left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from engine.external.lines import Lines
from engine.sentence import sentence

#: (stream, text, whether it is a passing state of a progress bar)
OnLine = Callable[[str, str, bool], None]
#: Run as a file: the program inherits no path into avatop's own code.
KEEPER: Final = Path(__file__).with_name("keeper.py")
_CHUNK: Final = 1 << 16
#: Seconds after the program's end in which its last words are read.
_LAST_WORDS_SECONDS: Final = 2.0


class CommandError(OSError):
    """The program could not be started."""


@dataclass(frozen=True)
class CommandEnd:
    """How it ended. ``code`` is negative for a signal, None if it never told."""

    code: int | None
    leftover: tuple[int, ...]  # alive when the program itself had ended; they were ended
    survivors: tuple[int, ...]  # SIGKILL did not end them

    @property
    def words(self) -> str:
        """A clause for a person."""
        if self.code is None:
            return sentence("its keeper was killed")
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return sentence("ended by {name}", name=signal.Signals(-self.code).name)
            return sentence("ended by signal {code}", code=-self.code)
        return sentence("exit code {code}", code=self.code)


class Command:
    """One running program, from ``start`` to ``ended``: then nothing is left of it."""

    def __init__(self, keeper: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._keeper = keeper
        self._control = control
        self.pid: int | None = None
        self.ended: asyncio.Task[CommandEnd]

    @staticmethod
    async def start(
        argv: Sequence[str], env: Mapping[str, str], workdir: Path, on_line: OnLine
    ) -> Command:
        """Start a program below a keeper of its own.

        Raises:
            CommandError: no such program, folder, or permission.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            keeper = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", str(KEEPER)),
                *("--control", str(theirs.fileno()), "--", *argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                cwd=workdir,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise CommandError(f"{argv[0]}: {error.strerror or error}") from error
        finally:
            theirs.close()
        command = Command(keeper, ours)
        started = asyncio.get_running_loop().create_future()
        command.ended = asyncio.create_task(command._live(on_line, started))
        word = await started
        if "failed" in word:
            await command.ended
            raise CommandError(f"{argv[0]}: {word['failed']}")
        command.pid = word.get("started")
        return command

    def stop(self, grace: float) -> None:
        """Ask for the end: SIGTERM to all of it, SIGKILL after ``grace`` seconds."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"stop": grace}).encode() + b"\n")

    def pids(self) -> set[int]:
        """Everything that belongs to it now, the keeper left out."""
        try:
            below = psutil.Process(self._keeper.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return set()
        return {process.pid for process in below}

    async def _live(self, on_line: OnLine, started: asyncio.Future[dict[str, Any]]) -> CommandEnd:
        keeper = self._keeper
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        readers = [
            asyncio.create_task(_read(keeper.stdout, "stdout", on_line)),
            asyncio.create_task(_read(keeper.stderr, "stderr", on_line)),
        ]
        code: int | None = None
        leftover: list[int] = []
        survivors: list[int] = []
        async for word in _words(self._control):
            if not started.done():
                started.set_result(word)
            if "exit" in word:
                code, leftover = word["exit"], word["leftover"]
            survivors = word.get("survivors", survivors)
        if not started.done():
            started.set_result({"failed": sentence("its keeper ended at once")})
        await keeper.wait()
        # A survivor in state D may hold the pipe for ever: what was said is read, not waited for.
        await asyncio.wait(readers, timeout=_LAST_WORDS_SECONDS)
        for reader in readers:
            reader.cancel()
        self._control.close()
        return CommandEnd(code, tuple(leftover), tuple(survivors))


async def _read(stream: asyncio.StreamReader, name: str, on_line: OnLine) -> None:
    lines = Lines()
    while data := await stream.read(_CHUNK):
        for text, passing in lines.feed(data):
            on_line(name, text, passing)
    for text, passing in lines.close():
        on_line(name, text, passing)


async def _words(control: socket.socket) -> Any:
    loop, rest = asyncio.get_running_loop(), b""
    while True:
        try:
            data = await loop.sock_recv(control, _CHUNK)
        except OSError:
            return
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield json.loads(line)

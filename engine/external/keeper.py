"""The keeper of one command: a small process between engine and program that loses no child.

``python keeper.py --control FD -- PROGRAM ARG…``. It adopts whatever the program leaves
(PR_SET_CHILD_SUBREAPER), so that double forks and new sessions stay below it, and it ends all of
them when the engine says so or is gone (the control socket closes). Standard library and psutil
only: it starts fast and stays small.

To the engine, a line of JSON each: ``{"started": pid}``; ``{"exit": code, "leftover": [pid…]}``
when the program itself has ended (a signal's number negative); ``{"survivors": [pid…]}`` at the
very end. From the engine: ``{"stop": seconds}``, the grace between SIGTERM and SIGKILL.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import time
from typing import Any, Final

import psutil

_PR_SET_CHILD_SUBREAPER: Final = 36
#: Seconds between SIGTERM and SIGKILL for what the program left behind, or without an engine.
LEFTOVER_GRACE: Final = 2.0
#: Seconds after SIGKILL until what is still there is told as surviving it (state D).
SURVIVAL_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


class Keeper:
    """Starts the program, waits for everything below, ends it."""

    def __init__(self, control: socket.socket, argv: list[str]) -> None:
        self._control = control
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked)
        signal.set_wakeup_fd(self._woken)
        self._stop: float | None = None  # grace, once it is to end
        self._code: int | None = None
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)

    def run(self) -> int:
        """Until nothing is left. Returns 0; what became of the program was told."""
        self._tell(started=self._program.pid)
        while self._code is None and self._stop is None:
            self._wait(None)
        if self._code is None:
            self._end()
        elif self._below():
            self._stop = LEFTOVER_GRACE if self._stop is None else self._stop
            self._end()
        self._reap()  # nothing is left for init to bury
        self._tell(survivors=self._below())
        return 0

    def _wait(self, seconds: float | None) -> None:
        """Take what comes within ``seconds``: ended children, a word of the engine."""
        watched: list[int | socket.socket] = [self._wake, self._control]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake, 4096):
                    pass
        if self._control in ready:
            self._hear()
        self._reap()

    def _hear(self) -> None:
        try:
            data = self._control.recv(4096)
        except OSError:
            data = b""
        if not data:  # the engine is gone
            self._stop = LEFTOVER_GRACE if self._stop is None else self._stop
            self._control.close()
            self._control = socket.socket()  # never readable
            return
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self._stop = float(json.loads(data.splitlines()[-1])["stop"])

    def _asked(self, *_: object) -> None:
        self._stop = LEFTOVER_GRACE if self._stop is None else self._stop

    def _reap(self) -> None:
        """Wait for whatever ended: the program's own end is told, adopted ones are only buried."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._program.pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._program.returncode = self._code
                self._tell(exit=self._code, leftover=self._below())

    def _end(self) -> None:
        """SIGTERM to all, then SIGKILL to who stays; new ones that appear meanwhile included."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            sent: set[int] = set()
            began = time.monotonic()
            while True:
                below = self._below()
                if not below:
                    return
                for pid in below:
                    if pid not in sent:
                        sent.add(pid)
                        # Children of ours that we have not waited for: their PIDs are still theirs.
                        with contextlib.suppress(ProcessLookupError, PermissionError):
                            os.kill(pid, number)
                            if number == signal.SIGTERM:
                                os.kill(pid, signal.SIGCONT)  # a stopped one hears nothing else
                # Asked anew while it waits: a shorter grace holds at once.
                grace = self._stop if number == signal.SIGTERM else SURVIVAL_SECONDS
                if time.monotonic() - began >= (grace or 0.0):
                    break
                self._wait(_POLL_SECONDS)

    def _below(self) -> list[int]:
        """Living descendants, the deepest last."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def _tell(self, **word: Any) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(word).encode() + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="avatop-keeper")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    control = socket.socket(fileno=args.control)
    control.set_inheritable(False)
    try:
        keeper = Keeper(control, args.command)
    except OSError as error:
        control.sendall(json.dumps({"failed": f"{error.strerror or error}"}).encode() + b"\n")
        return 1
    return keeper.run()


if __name__ == "__main__":
    raise SystemExit(main())

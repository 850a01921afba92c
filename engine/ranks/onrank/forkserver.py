"""The fork server: one process that has torch loaded and makes ranks of itself.

It never computes, touches no CUDA and holds no second thread, so a fork of it is whole. Requests
come as JSON in messages of a Unix ``SOCK_SEQPACKET`` pair, with the ranks' descriptors beside them:

    {"do": "spawn", "id": 1, "entry": "module:function", "ranks": [{"env": {"A": "b", "C": null}}],
     "load": ["module"]}
        with three descriptors per rank: channel, stdout, stderr; what all of them import is loaded
        before they are forked
    {"do": "release", "pgid": 71}        the group is over: reap its leader, end what strayed

and answers are ``ready``, ``log``, ``spawned``, ``refused``, ``exit`` and ``released``.

A group's first rank leads its process group and stays unreaped until ``release``: its number, and
so the group's, cannot be used again before, and signalling the whole group stays safe. The server
adopts orphans (children of ranks whose rank has ended), so it can end and reap those as well.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.guard.identity import read_stat
from engine.ranks.onrank import native
from engine.ranks.protocol import ENCODERS, FSDP

#: Loaded before the first fork.
PRELOAD: Final = (
    "torch",
    "torch.distributed",
    "numpy",
    "av",
    "safetensors.torch",
    "engine.ranks.onrank.main",
    "engine.ranks.onrank.setup",
    "engine.ranks.onrank.failure",
    "engine.ranks.onrank.rendezvous",
    "engine.ranks.onrank.job",
    "engine.parameters.validate",
    "PIL.PngImagePlugin",
    "PIL.JpegImagePlugin",
)
#: Loaded in a quiet moment, or for the first group that needs them: more than half of all that
#: there is to import.
LATER: Final = (FSDP, *ENCODERS)
MESSAGE_LIMIT: Final = 1 << 17
_MAX_FDS: Final = 252  # the kernel's SCM_MAX_FD is 253
_END_SECONDS: Final = 2.0
#: Without a rank and without a request: then nobody waits while something is imported.
_QUIET_SECONDS: Final = 1.0
_IMPORT_ERRORS: Final = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError)
#: What not every job needs takes no server down, whatever is the matter with it.
_LATER_ERRORS: Final = (*_IMPORT_ERRORS, OSError, RuntimeError)


@dataclass
class Group:
    """One rank group, by its leader's PID."""

    leader: int
    running: set[int] = field(default_factory=set)


class ForkServer:
    """Serves one engine over one control socket until that closes.

    Args:
        later: modules to load in quiet moments.
    """

    def __init__(self, control: socket.socket, later: tuple[str, ...] = ()) -> None:
        self._control = control
        self._later = deque(later)
        self._threads_told = False
        self._pid = os.getpid()
        self._groups: dict[int, Group] = {}
        self._dying: set[int] = set()  # have SIGKILL, not reaped yet
        self._ending = False
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def say(self, **message: Any) -> None:
        """Tell the engine; if it does not listen any more, end."""
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            self._ending = True

    def serve(self) -> None:
        """Answer requests until the engine is gone, then end every group."""
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # its byte wakes the selector
        signal.signal(signal.SIGTERM, self._on_term)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake_r, selectors.EVENT_READ)
            quiet = _QUIET_SECONDS
            while not self._ending:
                idle = bool(self._later) and not self._groups
                ready = selector.select(quiet if idle else None)
                if not ready:
                    self.load(self._later.popleft())
                    quiet = 0.0  # and the next at once, unless somebody asks
                    continue
                quiet = _QUIET_SECONDS
                for key, _ in ready:
                    if key.fileobj is self._control:
                        self._receive()
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_r, 4096)
                self._tell_exits()
        self._end_all()

    def _on_term(self, *_: object) -> None:
        self._ending = True

    def load(self, *modules: str, errors: tuple[type[Exception], ...] = _LATER_ERRORS) -> int:
        """Import what ranks need, for every fork from now on; returns how many threads there are.

        A module that fails here fails again in the rank that needs it, and is reported there.
        """
        missing = preload(modules, errors)
        names = _threads()
        if len(names) > 1 and not self._threads_told:
            self._threads_told = True
            text = (
                f"threads before the first fork: {', '.join(names)}; ranks may inherit held locks"
            )
            self.say(say="log", level="WARNING", text=text)
            # Said once, by name; Python 3.12 would say it again at every fork.
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        for line in missing:
            self.say(say="log", level="WARNING", text=f"not preloaded: {line}")
        gc.collect()
        gc.freeze()  # keeps the collector from touching, and so copying, every page in every rank
        return len(names)

    # -- requests

    def _receive(self) -> None:
        try:
            raw, fds, flags, _ = socket.recv_fds(self._control, MESSAGE_LIMIT, _MAX_FDS)
        except ConnectionError:
            raw, fds, flags = b"", [], 0
        if not raw:
            self._ending = True
            return
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self.say(say="log", level="ERROR", text="a request was too large and was cut")
                return
            request = json.loads(raw)
            if request["do"] == "spawn":
                self._spawn(request, fds)
            elif request["do"] == "release":
                self._release(int(request["pgid"]))
        finally:
            for fd in fds:
                os.close(fd)

    def _spawn(self, request: dict[str, Any], fds: list[int]) -> None:
        ranks = request["ranks"]
        if len(fds) != 3 * len(ranks) or not ranks:
            self.say(say="refused", id=request["id"], message="descriptors and ranks differ")
            return
        absent = [name for name in request.get("load", ()) if name not in sys.modules]
        if absent:
            self.load(*absent)
        group: Group | None = None
        pids: list[int] = []
        for number, rank in enumerate(ranks):
            own = fds[3 * number : 3 * number + 3]
            pgid = group.leader if group is not None else 0
            try:
                pid = os.fork()
            except OSError as error:
                if group is not None:
                    self._kill(group)
                self.say(say="refused", id=request["id"], message=f"fork: {error.strerror}")
                return
            if pid == 0:
                self._become_rank(own, fds, pgid, rank.get("env") or {}, request["entry"])
            # Also from here: the group must exist before the next fork, and a second call is void.
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.setpgid(pid, pgid)
            if group is None:
                group = Group(pid)
                self._groups[pid] = group
            group.running.add(pid)
            pids.append(pid)
        ticks = [stat.start_ticks if (stat := read_stat(p)) is not None else None for p in pids]
        self.say(say="spawned", id=request["id"], pgid=pids[0], pids=pids, ticks=ticks)

    def _become_rank(
        self, own: list[int], fds: list[int], pgid: int, env: dict[str, str | None], entry: str
    ) -> None:
        """In the child: never returns."""
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with contextlib.suppress(PermissionError):
                os.setpgid(0, pgid)
            if not native.die_with_parent(self._pid, signal.SIGKILL):
                os._exit(code)
            self._control.close()
            os.close(self._wake_r)
            os.close(self._wake_w)
            channel, out, err = own
            for fd in fds:
                if fd not in own:
                    os.close(fd)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            _line_buffered()
            for name, value in env.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            from engine.ranks.onrank.main import rank_main

            code = rank_main(socket.socket(fileno=channel), entry)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            native.flush_c_streams()
        finally:
            # Not sys.exit: the server's stack, and its exit handlers, are not this process's.
            os._exit(code)

    # -- ends

    def _tell_exits(self) -> None:
        """Report every rank that ended; reap all but leaders of groups still in use."""
        for group in self._groups.values():
            for pid in sorted(group.running):
                keep = os.WNOWAIT if pid == group.leader else 0
                try:
                    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | keep)
                except ChildProcessError:
                    info = None
                    group.running.discard(pid)
                    self.say(say="exit", pid=pid, code=None, signal=None)
                if info is None:
                    continue
                group.running.discard(pid)
                exited = info.si_code == os.CLD_EXITED
                self.say(
                    say="exit",
                    pid=pid,
                    code=info.si_status if exited else None,
                    signal=None if exited else info.si_status,
                )
        self._reap()

    def _release(self, pgid: int) -> None:
        group = self._groups.get(pgid)
        if group is not None:
            self._kill(group)
            if not self._groups:
                self._end_children()
        self.say(say="released", pgid=pgid)

    def _kill(self, group: Group) -> None:
        """SIGKILL to the whole group; from now on its members are merely reaped."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group.leader, signal.SIGKILL)
        self._groups.pop(group.leader, None)
        self._dying |= group.running | {group.leader}
        self._reap()

    def _reap(self) -> None:
        """Reap whatever has ended and belongs to no group in use, adopted orphans included."""
        known = {pid for group in self._groups.values() for pid in group.running | {group.leader}}
        for pid in (self._dying | _children()) - known:
            try:
                gone, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                gone = pid
            if gone:
                self._dying.discard(pid)

    def _end_children(self) -> None:
        """End every child when no group runs: the dying, and orphans that left their group."""
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            self._reap()
            pids = self._dying | _children()
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # our own unreaped child: the number is its own
            time.sleep(0.005)

    def _end_all(self) -> None:
        for group in list(self._groups.values()):
            self._kill(group)
        self._end_children()


def _threads() -> list[str]:
    """Names of this process's threads, native ones included."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            names.append((task / "comm").read_text().strip())
    return names


def _children() -> set[int]:
    """PIDs of this process's children; empty where the kernel does not list them."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        return {int(word) for word in path.read_text().split()}
    except OSError:
        return set()


def _line_buffered() -> None:
    """Python's and C's standard output reach the pipe by line; undecodable text is escaped."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    native.line_buffer_c_stdout()


def preload(modules: Iterable[str], errors: tuple[type[Exception], ...]) -> list[str]:
    """Import modules; returns which could not be, and why, one line each."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except errors as error:
            missing.append(f"{name}: {type(error).__name__}: {error}")
    return missing


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="avatop-forkserver")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--preload", default=",".join(PRELOAD))
    parser.add_argument("--later", default=",".join(LATER))
    options = parser.parse_args(argv)
    # SIGTERM, not SIGKILL: with its default action now, and later with a handler that takes every
    # group, and what strayed from it, along. Ranks whose server cannot do so see their channel end.
    if not native.die_with_parent(options.parent, signal.SIGTERM):
        return 1
    native.adopt_orphans()
    began = time.monotonic()
    later = tuple(filter(None, options.later.split(",")))
    server = ForkServer(socket.socket(fileno=options.control), later)
    threads = server.load(*filter(None, options.preload.split(",")), errors=_IMPORT_ERRORS)
    server.say(say="ready", pid=os.getpid(), threads=threads, seconds=time.monotonic() - began)
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())

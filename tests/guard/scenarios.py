"""Real processes for the reaper's tests, each known by (pid, start time) and ended for certain.

Nothing outside of what was planted here may be signalled: ``Planted.allow`` is the belt that every
test hands to the reaper besides.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from engine.guard.evidence import Scene
from engine.guard.identity import PidFd, ProcessGone, read_stat
from engine.guard.kill import Waits
from engine.guard.reaper import Reaper
from engine.guard.scan import ParentLog, read_row

GIB = 1 << 30
#: Long enough for a busy machine; every wait ends as soon as what is waited for has happened.
PATIENT = 20.0
QUICK = Waits(term=0.3, kill=PATIENT, release=1.0)
GENTLE = Waits(term=PATIENT, kill=PATIENT, release=1.0)

#: A subreaper that starts one shell command after another and reaps whatever comes to it.
KEEPER = """
import ctypes, json, os, select, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
wake, pipe = os.pipe(); os.set_blocking(pipe, False)
signal.set_wakeup_fd(pipe); signal.signal(signal.SIGCHLD, lambda *_: None)
print(json.dumps({"keeper": os.getpid()}), flush=True)
buffer = b""
while True:
    ready, _, _ = select.select([0, wake], [], [])
    if wake in ready:
        os.read(wake, 4096)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        buffer += data
        *lines, buffer = buffer.split(b"\\n")
        for line in lines:
            os.posix_spawn("/bin/sh", ["sh", "-c", line.decode()], os.environ)
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            break
        print(json.dumps({"reaped": pid}), flush=True)
"""

#: A process under a rank's title, as the real ones set it: argv, and the main thread's name.
RANK = """
import sys
open("/proc/self/comm", "w").write("avatop-rank0")
print("up", flush=True)
sys.stdin.read()
"""

TORCHRUN = {"TORCHELASTIC_RUN_ID": "run-1", "WORLD_SIZE": "4", "MASTER_PORT": "29511"}


def until(what: Callable[[], object], seconds: float = PATIENT) -> None:
    """Poll for something outside of our reach (a state in /proc), bounded."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def state(pid: int) -> str | None:
    stat = read_stat(pid)
    return None if stat is None else stat.state


class Planted:
    """Everything a test started."""

    def __init__(self) -> None:
        self.keys: set[tuple[int, int]] = set()
        self._handles: list[PidFd] = []
        self._popen: list[subprocess.Popen[str]] = []

    def adopt(self, pid: int) -> int:
        """Take a process into care: it is ended with the test, and may be signalled."""
        with contextlib.suppress(ProcessGone):
            handle = PidFd(pid)
            self._handles.append(handle)
            self.keys.add((pid, handle.start_ticks))
        return pid

    def allow(self, pid: int, start_ticks: int) -> bool:
        return (pid, start_ticks) in self.keys

    def popen(self, args: list[str], **kwargs: object) -> subprocess.Popen[str]:
        kwargs = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **kwargs}
        process = subprocess.Popen(args, **kwargs)  # type: ignore[call-overload]
        self._popen.append(process)
        self.adopt(process.pid)
        return process

    def sleep(self, **kwargs: object) -> subprocess.Popen[str]:
        """A process like thousands of others."""
        process = self.popen(["sleep", "300"], **kwargs)
        # Inside execve(2) there is a moment without a command line.
        until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes())
        return process

    def shell(self, script: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """A shell that leads a session of its own, as a launcher under ``setsid`` does."""
        return self.popen(
            ["sh", "-c", script], env={**os.environ, **(env or {})}, start_new_session=True
        )

    def python(self, code: str, *args: str, **kwargs: object) -> subprocess.Popen[str]:
        return self.popen([sys.executable, "-S", "-c", code, *args], **kwargs)

    def orphans(
        self, count: int = 1, env: Mapping[str, str] | None = None, body: str = "exec sleep 300"
    ) -> list[int]:
        """Ranks of a torchrun that was killed: alive, their launcher's session lost."""
        script = (
            f"i=0; while [ $i -lt {count} ]; do "
            f"RANK=$i sh -c '{body}' >/dev/null </dev/null 2>&1 & echo $!; i=$((i+1)); done; "
            "echo end; read line"
        )
        launcher = self.shell(script, {**TORCHRUN, **(env or {})})
        pids = [self.adopt(int(word)) for word in read_until(launcher, "end")]
        for pid in pids:  # past its execve(2), or it has neither its variables nor its command
            until(lambda pid=pid: _settled(pid, exec_="exec" in body))
        launcher.kill()
        launcher.wait(PATIENT)
        return pids

    def keeper(self) -> Keeper:
        return Keeper(self)

    def close(self) -> None:
        for handle in self._handles:
            with contextlib.suppress(PermissionError):
                handle.send(signal.SIGKILL)
            handle.close()
        for process in self._popen:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            process.wait(PATIENT)


def _settled(pid: int, *, exec_: bool) -> bool:
    row = read_row(pid)
    assert row is not None, "it ended early"
    return "RANK" in (row.env or {}) and bool(row.command) and not (exec_ and row.program == "sh")


class Keeper:
    """A subreaper under the test's command."""

    def __init__(self, planted: Planted) -> None:
        self.process = planted.python(KEEPER)
        self.pid = int(self._line()["keeper"])

    def start(self, script: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(script + "\n")
        self.process.stdin.flush()

    def until_reaped(self, pid: int) -> None:
        while self._line().get("reaped") != pid:
            pass

    def _line(self) -> dict[str, int]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the keeper ended"
        return dict(json.loads(line))


def read_until(process: subprocess.Popen[str], end: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline().strip()) != end:
        assert line, "it ended early"
        lines.append(line)
    return lines


class Card:
    """A fake driver: who holds how much, until the process has ended."""

    def __init__(self, held: Mapping[int, int | None] | Iterable[int], *, leaks: bool = False):
        pairs = held.items() if isinstance(held, Mapping) else ((pid, GIB) for pid in held)
        self._held = dict(pairs)
        self._leaks = leaks
        self.reads = 0

    def __call__(self) -> dict[int, dict[str, int | None]]:
        self.reads += 1
        return {
            pid: {"GPU-0": held}
            for pid, held in self._held.items()
            if self._leaks or state(pid) not in (None, "Z", "X")
        }


def reaper(planted: Planted, card: Card | None = None, **kwargs: object) -> Reaper:
    """A reaper whose driver is ``card`` and who may signal nothing but what was planted."""
    options = {"waits": GENTLE, "in_namespace": False, "shm_folder": Path("/nonexistent")}
    options |= {"allow": planted.allow, "parents": ParentLog()}
    return Reaper(read_memory=card, **{**options, **kwargs})  # type: ignore[arg-type]


def verdict(look: Reaper, scene: Scene, pid: int):
    return next(v for v in look.verdicts(scene) if v.pid == pid)


def may_unshare() -> bool:
    """Whether a PID namespace can be made here."""
    try:
        done = subprocess.run(
            ["unshare", "-p", "-f", "--mount-proc", "true"],
            timeout=PATIENT,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0

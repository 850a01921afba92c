"""Real jobs for tests: sample checkpoint, drawn inputs, an engine whose events can be awaited."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pexpect
import psutil

from engine.engine import InProcessClient, start_engine
from engine.jobs.paths import Places
from engine.messages import (
    Command,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    RankChanged,
    Reply,
    Submit,
)
from engine.services import Services
from tests.pace import Pace
from tests.tiny import share_embeddings, tiny_ckpt

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "A young woman with dark hair in a blue suit, office, smiling warmly, soft light"
#: How long anything may take on a loaded machine before a test gives up.
PATIENCE = 100.0


def job_flags(inputs: Path, **changes: Any) -> dict[str, str]:
    """A small job of two clips: long enough for the second one's new conditioning."""
    flags = {
        "image": inputs / "good.png",
        "audio": inputs / "good.wav",
        "ckpt_dir": tiny_ckpt(),
        "prompt": PROMPT,
        "size": "64*64",
        "num_clip": 2,
        "gpus": "cpu",
        "retries": 0,  # an end is an end, unless a test is about what comes after
        **changes,
    }
    return {name: str(value) for name, value in flags.items() if value is not None}


def argv(flags: Mapping[str, str]) -> list[str]:
    return [part for name, value in flags.items() for part in (f"--{name}", value)]


def environment(folder: Path) -> dict[str, str]:
    """This process's environment with avatop's folders below ``folder``."""
    share_embeddings(folder / "cache")
    drop = ("AVATOP_", "INFER_RES", "RESOLUTION", "SAMPLE_STEPS", "PROMPT", "IMAGE_PATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
    return {
        **kept,
        "AVATOP_STATE_DIR": str(folder / "state"),
        "AVATOP_CACHE_DIR": str(folder / "cache"),
        "AVATOP_LEASE_DIR": str(folder / "locks"),
        "AVATOP_MIRROR_DIR": str(folder / "mirrors"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHONPATH": str(ROOT),
    }


def start_cli(args: list[str], folder: Path, **options: Any) -> subprocess.Popen[str]:
    """``avatop ARGS`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "console", *args],
        env=environment(folder),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Ask again and again until the answer is truthy; the answer.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise TimeoutError("the condition never came true")


def promptly(condition: Callable[[], Any], seconds: float) -> Any:
    """As ``until``, for what is promised within a time: those count in which cores were free.

    Raises:
        TimeoutError: it took longer.
    """
    pace = Pace()
    answer = until(condition)
    if (took := pace.seconds) > seconds:
        raise TimeoutError(f"it took {took:.2f} s, {seconds:g} s are promised")
    return answer


def ranks_of(pid: int) -> list[psutil.Process]:
    """Rank processes below a process, by their title."""
    try:
        below = psutil.Process(pid).children(recursive=True)
        return [p for p in below if p.cmdline()[:1] and "avatop-rank" in p.cmdline()[0]]
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    """None of these very processes runs any more (a number used again is another process)."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


class Driven:
    """An engine whose events a test can wait for."""

    def __init__(self, client: InProcessClient) -> None:
        self.client = client
        self.seen: list[Event] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        client.subscribe(self._events.put)

    @property
    def places(self) -> Places:
        return self.client.engine.places

    @property
    def services(self) -> Services:
        """What the engine holds, once it is open."""
        self.client.snapshot().result(PATIENCE)
        services = self.client.engine._services
        assert services is not None
        return services

    def ask(self, command: Command) -> Reply:
        return self.client.send(command).result(PATIENCE)

    def submit(self, flags: Mapping[str, str]) -> int:
        reply = self.ask(Submit(request=dict(flags)))
        assert reply.ok, reply.message
        assert reply.job is not None
        return reply.job

    def wait(self, wanted: Callable[[Event], Any], seconds: float = PATIENCE) -> Event:
        """The first event from here on that is wanted."""
        deadline = time.monotonic() + seconds
        with suppress(queue.Empty):
            while (left := deadline - time.monotonic()) > 0:
                event = self._events.get(timeout=left)
                self.seen.append(event)
                if wanted(event):
                    return event
        told = [e for e in self.seen if isinstance(e, JobChanged | LogLine | RankChanged)]
        raise TimeoutError("\n".join(["the event never came; at last:", *map(str, told[-30:])]))

    def row(self, job: int, *states: str) -> JobRow:
        """The job's row once it is in one of ``states``."""

        def there(event: Event) -> bool:
            return (
                isinstance(event, JobChanged) and event.job.id == job and event.job.state in states
            )

        event = self.wait(there)
        assert isinstance(event, JobChanged)
        return event.job


@contextmanager
def engine_under(folder: Path) -> Iterator[Driven]:
    """An engine in this process, its files below ``folder``."""
    share_embeddings(folder / "cache")
    client = start_engine(Places(folder / "state", folder / "cache"), "0.0.test")
    try:
        yield Driven(client)
    finally:
        client.close()


@contextmanager
def python_in_a_terminal(
    folder: Path, *args: str, size: tuple[int, int] = (120, 40)
) -> Iterator[pexpect.spawn[bytes]]:
    """Python in a terminal of its own, of ``size`` columns and rows."""
    child = pexpect.spawn(
        sys.executable,
        list(args),
        env={**environment(folder), "TERM": "xterm-256color", "LANG": "C.UTF-8"},
        cwd=str(ROOT),
        dimensions=(size[1], size[0]),
        timeout=PATIENCE,
    )
    try:
        yield child
    finally:
        if child.isalive():
            os.kill(child.pid, signal.SIGKILL)
        child.close(force=True)

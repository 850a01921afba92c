"""A stranger on the rendezvous port that a group was given."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Final

from engine.drills.compare import judge
from engine.drills.report import DrillReport
from engine.drills.stage import Stage
from engine.sentence import sentence

_POLL: Final = 0.001
_SECONDS: Final = 60.0


def port(stage: Stage, report: DrillReport) -> None:
    """A listener on the group's port before its first rank gets there."""
    before = stage.undisturbed()
    if len(before.result["plan"]["devices"]) < 2:
        report.notes.append(
            sentence("one rank needs no port: give the job two, e.g. --num_gpus_dit 2")
        )
        report.recovered = False
        return
    with _Squatter() as squatter:
        after = stage.end(stage.submit())
    judge(report, before, after)
    job = after.row.id
    if squatter.number is None or after.row.attempt == before.row.attempt:
        report.recovered = False
        late = sentence("the port was not taken in time")
        why = squatter.problem
        report.notes.append(sentence("{what}: {why}", what=late, why=why) if why else late)
        return
    report.notes.append(
        sentence("port {number} was taken by a listener of the drill", number=squatter.number)
    )
    report.notes += stage.lines(job, "port was taken")
    report.recovery_seconds = stage.next_block(job, squatter.since)


class _Squatter:
    """Listens on the first port that this process's engine reserves."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.since = 0.0
        self.problem = ""
        self._listener: socket.socket | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="drill-port", daemon=True)

    def __enter__(self) -> _Squatter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self._listener is not None:
            self._listener.close()

    def _look(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while not self._done.wait(_POLL) and time.monotonic() < deadline:
            number = reserved_port()
            if number is None:
                continue
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            # As the engine's own holder does, which is bound and does not listen.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", number))
                listener.listen(8)
            except OSError as error:
                listener.close()
                self.problem = str(error.strerror)
            else:
                self._listener, self.number, self.since = listener, number, time.monotonic()
            return


def reserved_port() -> int | None:
    """The loopback port that this process holds bound without listening, if any."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                if found.family != socket.AF_INET or found.type != socket.SOCK_STREAM:
                    continue
                address, number = found.getsockname()
                listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if address == "127.0.0.1" and number and not listens and not _peer(found):
                    return int(number)
    return None


def _peer(found: socket.socket) -> bool:
    try:
        found.getpeername()
    except OSError:
        return False
    return True

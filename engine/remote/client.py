"""``EngineClient`` over the engine's socket."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from engine.client import Listener
from engine.jobs.paths import Places
from engine.messages import (
    Command,
    DevicesSampled,
    EngineStopped,
    Event,
    LedgerUpdated,
    LogLine,
    Reply,
    Snapshot,
    Spike,
)
from engine.remote.address import dial
from engine.remote.wire import (
    ENGINE_LINE,
    VERSION,
    WireError,
    decode,
    encode,
    event_from,
    events_of,
    lines,
    snapshot_from_dict,
)
from engine.sentence import sentence

#: Seconds an engine may take for its first answer; it is another thread's work, done at once.
HELLO_SECONDS: Final = 10.0
_FLUSH_SECONDS: Final = 2.0
_GONE: Final = sentence("the engine has ended")


class RefusedByEngine(ConnectionError):  # noqa: N818 - says what happened
    """The engine does not want this client."""


class _HungUp(ConnectionError):  # noqa: N818 - says what happened
    """The engine was just ending: there is none."""


class SocketClient:
    """Commands in, events out, over a socket. Calls never block; made by ``attach``.

    An engine that ends without a word is told as ``EngineStopped``; commands after that are
    answered as the in-process client answers them. A client that was too slow attaches again by
    itself, and its listeners hear the present state as events.
    """

    def __init__(self, sock: socket.socket, places: Places, kind: str, read_only: bool) -> None:
        self.places = places
        self.read_only = read_only
        self.engine_pid: int | None = None
        self.engine_version = ""
        #: Called on this client's thread when somebody asks consoles to leave (``avatop detach``).
        self.on_detach: Callable[[], None] | None = None
        #: Set once the readings of the last minutes were told to the listeners.
        self.past_told = threading.Event()
        self._kind = kind
        self._lock = threading.RLock()  # a signal's handler may send, too
        self._sock = sock
        self._number = 0
        self._open: dict[int, tuple[Future[Any], Callable[[Any], Any], Any]] = {}
        self._listeners: list[Listener] = []
        self._subscribed = False
        self._stopped_told = False
        self._newest = 0.0  # wall-clock time of the newest event told
        self._cut = 0.0  # the same, when the connection was last made anew
        self._fresh: set[LogLine] | None = None  # lines told between that and its snapshot
        self._closing = False
        self._ended = False
        self._greeted: Future[dict[str, Any]] = Future()
        self._out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="avatop-engine-link", daemon=True)
        self._writer = threading.Thread(target=self._write, name="avatop-to-engine", daemon=True)

    def start(self) -> None:
        """Say hello and wait for the answer.

        Raises:
            RefusedByEngine, OSError: the engine does not take this client, or does not answer.
        """
        with contextlib.suppress(OSError):  # hung up already: the reader finds out why
            self._hello()
        self._reader.start()
        self._writer.start()
        try:
            answer = self._greeted.result(HELLO_SECONDS)
        except TimeoutError:
            self.close()
            raise TimeoutError(sentence("the engine listens, but does not answer")) from None
        if answer.get("v") != VERSION:
            self.close()
            raise RefusedByEngine(
                sentence(
                    "the running engine is avatop {version} and speaks another protocol; "
                    "use that version, or end it",
                    version=answer.get("version"),
                )
            )
        self.engine_pid = answer.get("pid")
        self.engine_version = str(answer.get("version", ""))

    # -- EngineClient ----------------------------------------------------------------------------

    def send(self, command: Command) -> Future[Reply]:
        """Hand a command to the engine; never blocks."""
        body = {"do": "command", "command": command.to_dict()}
        return self._ask(body, lambda a: Reply(**a), Reply(False, _GONE))

    def snapshot(self) -> Future[Snapshot]:
        """The present state, for a first picture."""
        return self._ask({"do": "snapshot"}, snapshot_from_dict, Snapshot())

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for every event from now on, on this client's thread."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
            first, self._subscribed = not self._subscribed, True
        if first:
            self._ask({"do": "subscribe"}, self._told_past, None)

        def end() -> None:
            with self._lock:
                self._listeners = [x for x in self._listeners if x is not listener]

        return end

    def prewarm(self) -> None:
        """Have the ranks' server loaded now; never blocks."""
        self._ask({"do": "prewarm"}, lambda a: a, {})

    def when_idle(self) -> Future[None]:
        """Done when no job runs or waits, or when the engine has ended."""
        return self._ask({"do": "idle"}, lambda _: None, None)

    def status(self) -> Future[dict[str, Any]]:
        """``consoles``: how many are attached."""
        return self._ask({"do": "status"}, lambda a: a, {})

    def detach_consoles(self) -> Future[dict[str, Any]]:
        """Ask every console to leave; the engine stays. ``consoles``: how many were asked."""
        return self._ask({"do": "detach_consoles"}, lambda a: a, {})

    def close(self) -> None:
        """Let go of the engine, which goes on; what was sent still gets there."""
        with self._lock:
            self._closing = True
            self._out.put(encode({"id": None, "do": "farewell"}))
        self._out.put(None)
        if self._writer.is_alive() and threading.current_thread() is not self._writer:
            self._writer.join(_FLUSH_SECONDS)
        self._hang_up()
        if self._reader.is_alive() and threading.current_thread() is not self._reader:
            self._reader.join(_FLUSH_SECONDS)

    # -- inside ----------------------------------------------------------------------------------

    def _ask(self, body: dict[str, Any], make: Callable[[Any], Any], gone: Any) -> Future[Any]:
        """A request's answer, made by ``make``; ``gone`` where the engine has ended."""
        future: Future[Any] = Future()
        with self._lock:
            if self._ended or self._closing:
                future.set_result(gone)
                return future
            self._number += 1
            self._open[self._number] = (future, make, gone)
            self._out.put(encode({"id": self._number, **body}))
        return future

    def _hello(self) -> None:
        self._sock.sendall(
            encode(
                {
                    "id": 0,
                    "do": "hello",
                    "v": VERSION,
                    "kind": self._kind,
                    "pid": os.getpid(),
                    "read_only": self.read_only,
                }
            )
        )

    def _write(self) -> None:
        while (line := self._out.get()) is not None:
            try:
                self._sock.sendall(line)
            except OSError:
                continue  # the reader sees the end and says so; later lines may have a new socket
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        try:
            while self._heard_overrun() and not self._closing and self._attach_again():
                pass
        finally:
            self._end()

    def _heard_overrun(self) -> bool:
        """Read until the connection ends. True when it ended because we were too slow."""
        try:
            return any(self._line(decode(line)) for line in lines(self._sock, ENGINE_LINE))
        except (WireError, OSError):
            return False

    def _line(self, body: dict[str, Any]) -> bool:
        """Take one line. True when the connection has to be made anew."""
        if "event" in body:
            event = event_from(body["event"])
            if event is not None:
                self._tell(event)
        elif "answer" in body:
            self._answered(body)
        elif body.get("notice") == "overrun":
            return True
        elif body.get("notice") == "detach":
            if self.on_detach is not None:
                self.on_detach()
        elif "refused" in body and not self._greeted.done():
            self._greeted.set_exception(RefusedByEngine(str(body["refused"])))
        return False

    def _answered(self, body: dict[str, Any]) -> None:
        number, answer = body.get("id"), body["answer"]
        if number == 0:
            if not self._greeted.done():
                self._greeted.set_result(answer)
            return
        with self._lock:
            entry = self._open.pop(number, None) if isinstance(number, int) else None
        if entry is None:
            return
        future, make, gone = entry
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(make(answer))
        except (TypeError, ValueError, KeyError, AttributeError):
            future.set_result(gone)  # an answer of another version

    def _tell(self, event: Event) -> None:
        if isinstance(event, EngineStopped):
            self._stopped_told = True
        self._newest = max(self._newest, event.t)
        if self._fresh is not None and isinstance(event, LogLine):
            self._fresh.add(event)
        for listener in self._listeners:
            listener(event)

    def _attach_again(self) -> bool:
        """After an overrun: a new connection, and the present state told to all listeners."""
        try:
            fresh = dial(self.places)
        except OSError:
            fresh = None
        if fresh is None:
            return False
        with self._lock:
            old, self._sock = self._sock, fresh
            lost, self._open = self._open, {}
        old.close()
        self._cut, self._fresh = self._newest, set()
        for future, _, gone in lost.values():
            if future.set_running_or_notify_cancel():
                future.set_result(_unknown(gone))
        self._hello()
        self._ask({"do": "subscribe"}, self._told_past, None)
        self._ask({"do": "snapshot"}, self._retell, None)
        return True

    def _told_past(self, body: dict[str, Any]) -> None:
        """The readings of the last minutes, so that plots have a past."""
        told = (event_from(item) for item in body.get("events", ()))
        self._tell_new([event for event in told if event is not None])
        self.past_told.set()

    def _retell(self, body: dict[str, Any]) -> None:
        """The present state, to listeners that missed what led to it."""
        fresh, self._fresh = self._fresh or set(), None
        events = events_of(snapshot_from_dict(body))
        self._tell_new([e for e in events if not isinstance(e, LogLine) or e not in fresh])

    def _tell_new(self, events: list[Event]) -> None:
        """Lines and readings that were told before the cut are not told twice."""
        for event in events:
            told = isinstance(event, LogLine | LedgerUpdated | DevicesSampled | Spike)
            if not told or event.t > self._cut:
                self._tell(event)

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            lost, self._open = self._open, {}
        if not self._greeted.done():
            self._greeted.set_exception(_HungUp(sentence("the engine hung up")))
        for future, _, gone in lost.values():
            if future.set_running_or_notify_cancel():
                future.set_result(gone)
        self._out.put(None)
        if not self._stopped_told and not self._closing:
            self._tell(EngineStopped(reason=sentence("its process is gone")))
        self._sock.close()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


def _unknown(gone: Any) -> Any:
    """What a request is answered whose answer was lost with its connection."""
    if isinstance(gone, Reply):
        return Reply(False, sentence("the connection broke; look whether it was done"))
    return gone


def attach(
    places: Places | None = None, *, kind: str = "client", read_only: bool = False
) -> SocketClient | None:
    """The running engine's client; None when no engine runs.

    Args:
        places: whose engine. kind: ``console`` is counted and can be asked to leave.
        read_only: the engine refuses every command of this client.

    Raises:
        RefusedByEngine, NotOurs, OSError: one runs, and this client cannot have it.
    """
    where = places or Places.of()
    sock = dial(where)
    if sock is None:
        return None
    client = SocketClient(sock, where, kind, read_only)
    try:
        client.start()
    except _HungUp:
        return None
    return client

"""The engine's side of the socket: one connection, two threads; the engine waits for neither."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from engine.engine import InProcessClient
from engine.messages import Command, EngineStarted, Event, MessageError, Reply, from_dict
from engine.remote.address import Peer, peer_of
from engine.remote.outbox import Outbox
from engine.remote.recent import Recent
from engine.remote.wire import (
    CLIENT_LINE,
    VERSION,
    WireError,
    decode,
    encode,
    lines,
    snapshot_to_dict,
)
from engine.sentence import sentence

MOST_CLIENTS: Final = 32
#: Seconds a client may take for its hello.
HELLO_SECONDS: Final = 10.0
#: Seconds the last events of an ending engine may take to reach a client that reads.
FAREWELL_SECONDS: Final = 2.0


class Server:
    """Serves one engine on a listening socket until ``close``.

    Args:
        client: the engine. listening: a bound and listening Unix socket, owned from now on.
        version: told to clients. peer: who is at the other end (tests give another answer).
        most: what may wait for one client (see ``Outbox``).
    """

    def __init__(
        self,
        client: InProcessClient,
        listening: socket.socket,
        version: str,
        *,
        peer: Callable[[socket.socket], Peer] = peer_of,
        most: int | None = None,
    ) -> None:
        self.engine = client
        self.version = version
        self.peer = peer
        self.most = most
        self._started: EngineStarted | None = None
        self._recent = Recent()
        client.subscribe(self._remember)
        self._listening = listening
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._closed = False
        self._farewells: set[int] = set()
        self.accepted = 0  # connections, ever
        threading.Thread(target=self._accept, name="avatop-accept", daemon=True).start()

    @property
    def clients(self) -> int:
        """How many are connected now."""
        with self._lock:
            return len(self._connections)

    def consoles(self) -> list[Connection]:
        """Connections of consoles."""
        with self._lock:
            return [c for c in self._connections if c.kind == "console"]

    def farewell(self, pid: int) -> None:
        """A client leaves on purpose: what it began goes on."""
        with self._lock:
            self._farewells.add(pid)

    def said_farewell(self, pid: int) -> bool:
        """Whether the client of this process left on purpose."""
        with self._lock:
            return pid in self._farewells

    def retire(self, accepted: int) -> bool:
        """Take nobody any more, if nobody is there and nobody came since ``accepted`` did."""
        with self._lock:
            if self._connections or self.accepted != accepted:
                return False
            self._closed = True
        return True

    def close(self) -> None:
        """Take nobody any more and let everybody go, after what waits for them."""
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        # Closing alone does not wake a thread that waits in accept.
        _shut(self._listening)
        self._listening.close()
        for connection in connections:
            connection.outbox.close()
        for connection in connections:
            connection.end(FAREWELL_SECONDS)

    def join(self, connection: Connection, number: object) -> None:
        """Let a connection hear all events from now on, after what it missed: the engine's start
        and the readings of the last minutes. On the engine's thread, so that nothing falls in
        between."""
        past: list[Event] = [] if self._started is None else [self._started]
        past += self._recent.events()
        connection.hear(self.engine.subscribe(connection.outbox.event))
        connection.outbox.say(
            lambda: {"id": number, "answer": {"events": [event.to_dict() for event in past]}}
        )

    def _remember(self, event: Event) -> None:
        if isinstance(event, EngineStarted):
            self._started = event
        self._recent(event)

    def log(self, level: str, text: str) -> None:
        """A line in the engine's log."""
        engine = self.engine.engine
        engine.call(lambda: engine.bus.log(level, text))

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        with self._lock:
            self._connections.discard(connection)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:  # closed
                return
            reason = self._refusal(sock)
            if reason is not None:
                self.log("WARNING", f"a connection was refused: {reason}")
                _last_word(sock, reason)
                continue
            connection = Connection(self, sock)
            with self._lock:
                if self._closed:
                    sock.close()
                    continue
                self._connections.add(connection)
                self.accepted += 1
                connection.start()

    def _refusal(self, sock: socket.socket) -> str | None:
        try:
            peer = self.peer(sock)
        except OSError as error:
            return sentence("the kernel does not say who calls: {error}", error=error)
        if peer.uid != os.getuid():
            return sentence(
                "process {pid} belongs to user {uid}, the engine to {getuid}",
                pid=peer.pid,
                uid=peer.uid,
                getuid=os.getuid(),
            )
        if self.clients >= MOST_CLIENTS:
            return sentence(
                "{most_clients} clients are attached already", most_clients=MOST_CLIENTS
            )
        return None


class Connection:
    """One client: a thread that reads its requests, one that writes what waits for it."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self.kind = ""
        self.pid = 0
        self.read_only = False
        self.outbox = Outbox() if server.most is None else Outbox(server.most)
        self._ending = threading.Lock()
        self._ended = False
        self._unsubscribe: Callable[[], None] | None = None
        self._reader = threading.Thread(target=self._read, name="avatop-client", daemon=True)
        self._writer = threading.Thread(target=self._write, name="avatop-to-client", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._writer.start()  # first: the reader's end waits for it
        self._reader.start()

    def hear(self, end: Callable[[], None]) -> None:
        """It is subscribed; ``end`` takes it off. On the engine's thread."""
        with self._ending:
            if not self._ended and self._unsubscribe is None:
                self._unsubscribe = end
                return
        end()

    def end(self, patience: float) -> None:
        """Give what waits ``patience`` seconds to be taken, then cut the connection."""
        self._writer.join(patience)
        _shut(self._sock)

    def _write(self) -> None:
        try:
            while (line := self.outbox.take()) is not None:
                self._sock.sendall(line)
        except OSError:
            pass  # the client is gone; the reader notices too
        finally:
            if self.outbox.overrun:
                self._server.log(
                    "WARNING", f"client {self.pid} did not read for long and has to attach again"
                )
            _shut(self._sock)

    def _read(self) -> None:
        try:
            self._sock.settimeout(HELLO_SECONDS)
            for line in lines(self._sock, CLIENT_LINE):
                self._request(decode(line))
        except (WireError, OSError) as error:
            if isinstance(error, WireError):
                self._server.log("WARNING", f"client {self.pid}: {error}; it is disconnected")
        finally:
            with self._ending:
                self._ended = True
            if self._unsubscribe is not None:
                self._unsubscribe()
            self.outbox.close()
            _shut(self._sock)
            self._writer.join()
            self._sock.close()
            if self.kind == "console":
                self._server.log("INFO", f"console {self.pid} has left")
            self._server.left(self)

    def _request(self, body: dict[str, Any]) -> None:
        number = body.get("id")
        if not self.kind and body.get("do") != "hello":
            raise WireError(sentence("the first line has to be hello"))
        match body.get("do"):
            case "hello":
                self._hello(body)
            case "subscribe":
                server = self._server
                if not server.engine.engine.call(lambda: server.join(self, number)):
                    self._answer(number, {"events": []})
            case "command":
                self._command(number, body.get("command"))
            case "snapshot":
                self._later(number, self._server.engine.snapshot(), snapshot_to_dict)
            case "idle":
                self._later(number, self._server.engine.when_idle(), lambda _: {})
            case "prewarm":
                if not self.read_only:
                    self._server.engine.prewarm()
                self._answer(number, {})
            case "status":
                self._answer(number, {"consoles": len(self._server.consoles())})
            case "detach_consoles":
                self._detach(number)
            case "farewell":
                self._server.farewell(self.pid)
            case other:
                self._answer(
                    number, {"error": sentence("this engine does not know {other!r}", other=other)}
                )

    def _hello(self, body: dict[str, Any]) -> None:
        self.kind = str(body.get("kind") or "client")[:32]
        self.pid = int(self._server.peer(self._sock).pid)
        self.read_only = body.get("read_only") is True
        self._sock.settimeout(None)
        self._answer(
            body.get("id"), {"v": VERSION, "pid": os.getpid(), "version": self._server.version}
        )
        if self.kind == "console":
            how = ", read-only" if self.read_only else ""
            self._server.log("INFO", f"console {self.pid} is attached{how}")

    def _command(self, number: object, data: object) -> None:
        try:
            message = from_dict(data) if isinstance(data, dict) else None
        except MessageError as error:
            self._answer(number, _reply(Reply(False, str(error))))
            return
        if not isinstance(message, Command):
            self._answer(number, _reply(Reply(False, sentence("this is not a command"))))
        elif self.read_only:
            text = sentence("this console is read-only: it changes nothing")
            self._answer(number, _reply(Reply(False, text, state="refused")))
        else:
            self._later(number, self._server.engine.send(message), _reply)

    def _detach(self, number: object) -> None:
        consoles = [] if self.read_only else self._server.consoles()
        for console in consoles:
            console.outbox.say(lambda: {"notice": "detach"})
        self._answer(number, {"consoles": len(consoles)})

    def _later(self, number: object, future: Future[Any], make: Callable[[Any], Any]) -> None:
        """Answer when the engine has; made into JSON on this connection's thread, not on its."""

        def done(answered: Future[Any]) -> None:
            if not answered.cancelled():
                result = answered.result()
                self.outbox.say(lambda: {"id": number, "answer": make(result)})

        future.add_done_callback(done)

    def _answer(self, number: object, answer: dict[str, Any]) -> None:
        self.outbox.say(lambda: {"id": number, "answer": answer})


def _reply(reply: Reply) -> dict[str, Any]:
    return dataclasses.asdict(reply)


def _shut(sock: socket.socket) -> None:
    """Wake whatever waits on a socket; it may be closed or never have been connected."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _last_word(sock: socket.socket, reason: str) -> None:
    """Say why, to somebody who may not even read, and hang up."""
    sock.setblocking(False)
    try:
        sock.send(encode({"refused": reason}))
    except OSError:
        return
    finally:
        sock.close()

"""The one interface through which a user interface reaches an engine.

Two implementations exist by design: in process (``engine.engine.InProcessClient``) and over a
Unix socket (``engine.remote.client.SocketClient``). A user interface works with either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from engine.messages import Event, Reply, Snapshot

if TYPE_CHECKING:
    from engine.messages import Command

Listener = Callable[[Event], None]


class EngineClient(Protocol):
    """Commands in, events out."""

    def send(self, command: Command) -> Future[Reply]:
        """Hand a command to the engine; never blocks. The future ends with the answer."""

    def snapshot(self) -> Future[Snapshot]:
        """The present state, for a first picture."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for every event, on the engine's thread; it must return at once.

        Returns a function that ends the subscription.
        """

    def close(self) -> None:
        """Let go of the engine. In process this ends the engine and every rank."""

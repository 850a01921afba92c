"""Keys one after the other: each meets the screen that the key before it has made.

A key goes to the part that has the focus and climbs from there to the app, where bindings are
looked up; that takes several turns of the loop. Over a slow line keys come in bursts, and without
an order the text typed after a Down would land in the field above, what is typed after the key of
a dialog on the page below it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from textual import events
from textual.timer import Timer

if TYPE_CHECKING:
    from textual.app import App
    from textual.message_pump import MessagePump

#: What is called at the top, with the key's mark.
Then = Callable[[object], object]
#: Seconds after which the next key no longer waits: what handled the last one has gone.
_PATIENCE: Final = 1.0


class TypeAhead:
    """Holds keys and pasted text back while the one before them is still on its way.

    The app asks ``holds`` of each that comes, and calls ``follow`` after it has passed one on.
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._waiting: deque[events.Event] = deque()
        self._under_way: object | None = None  # a mark of the key that is being handled
        self._at: MessagePump | None = None  # where it goes first
        self._timer: Timer | None = None

    def holds(self, event: events.Event) -> bool:
        """Whether the event has to wait; it comes again by itself."""
        if self._under_way is None:
            self._under_way = object()
            self._at = self._app.focused or self._app.screen
            return False
        self._waiting.append(event)
        if self._timer is None:
            mark = self._under_way
            self._timer = self._app.set_timer(_PATIENCE, lambda: self._answered(mark))
        return True

    @property
    def idle(self) -> bool:
        """Whether every key that came has done what it does."""
        return self._under_way is None

    def follow(self) -> None:
        """Climb behind the key, through the same queues."""
        self._climb(self._at, self._under_way, self._handled)

    def _climb(self, node: MessagePump | None, mark: object, then: Then) -> None:
        while node is not None and node is not self._app:
            above = node._parent
            if node.call_later(self._climb, above, mark, then):
                return
            node = above
        self._app.call_later(then, mark)

    def _handled(self, mark: object) -> None:
        """The key's action has run; the part may have told its page, which opens a dialog."""
        if mark is self._under_way:
            self._climb(self._at, mark, self._answered)

    def _answered(self, mark: object) -> None:
        """A screen that was opened still has to find its focus."""
        if mark is self._under_way:
            screen = self._app.screen
            if not screen.call_later(self._app.call_later, self._next, mark):
                self._app.call_later(self._next, mark)

    async def _next(self, mark: object) -> None:
        if mark is not self._under_way:
            return
        self._under_way = self._at = None
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._waiting:
            await self._app.on_event(self._waiting.popleft())

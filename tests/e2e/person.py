"""A person at the console: presses keys in a real terminal and reads what is on its screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pexpect
import pyte

from tests.e2e.harness import PATIENCE, python_in_a_terminal, until

#: What a terminal sends for the keys that have names.
KEYS = {
    "Up": "\x1b[A", "Down": "\x1b[B", "Right": "\x1b[C", "Left": "\x1b[D", "End": "\x1b[F",
    "Enter": "\r", "Tab": "\t", "Esc": "\x1b", "Space": " ", "Backspace": "\x7f",
}  # fmt: skip


class Person:
    """Eyes and fingers. What is seen is what a terminal of this size would show."""

    def __init__(self, child: pexpect.spawn[bytes], size: tuple[int, int]) -> None:
        self.child = child
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._text = ""

    def look(self) -> str:
        """The screen as it is now, line by line."""
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            while True:
                self._stream.feed(self.child.read_nonblocking(1 << 16, timeout=0))
                self._text = ""
        if not self._text:
            self._text = "\n".join(line.rstrip() for line in self.screen.display)
        return self._text

    def press(self, *keys: str) -> None:
        """Keys by name, anything else as typed text; as fast as they come."""
        self.child.send("".join(KEYS.get(key, key) for key in keys))

    def sees(self, *wanted: str, but: str = "", seconds: float = PATIENCE) -> str:
        """Look until every pattern stands somewhere on the screen, and ``but`` does not.

        Raises:
            AssertionError: it never did; with the screen as it was last.
        """

        def there() -> bool:
            text = self.look()
            missing = [one for one in wanted if not re.search(one, text)]
            return not missing and not (but and re.search(but, text))

        return self._until(there, f"to see {wanted!r}" + f" but not {but!r}" * bool(but), seconds)

    def waits_for(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Watch the screen until something is true outside of it; what it is."""
        found: list[Any] = []

        def there() -> bool:
            self.look()
            found[:] = [condition()]
            return bool(found[0])

        self._until(there, "for a condition", seconds)
        return found[0]

    def _until(self, there: Callable[[], bool], what: str, seconds: float) -> str:
        try:
            until(there, seconds)
        except TimeoutError:
            raise AssertionError(f"waited {what}; the screen:\n{self.look()}") from None
        return self.look()

    def leaves(self) -> int | None:
        """The exit code, once the console has ended."""
        self.waits_for(lambda: not self.child.isalive())
        self.child.close()
        code: int | None = self.child.exitstatus
        return code


@contextmanager
def at_the_console(folder: Path, *args: str, size: tuple[int, int] = (120, 40)) -> Iterator[Person]:
    """``avatop ARGS`` in a terminal with somebody before it."""
    with python_in_a_terminal(folder, "-m", "console", *args, size=size) as child:
        yield Person(child, size)

"""One line of text being typed inside a Line-API widget: filters and searches."""

from __future__ import annotations

from textual import events

from console.widgets.paint import Row


class Prompt:
    """The text and where its end is; ``None`` while nothing is typed.

    The owner forwards ``Key`` and ``Paste`` events while :attr:`open`.
    """

    def __init__(self) -> None:
        self.text: str | None = None

    @property
    def open(self) -> bool:
        return self.text is not None

    def begin(self, text: str) -> None:
        self.text = text

    def take(self, event: events.Key | events.Paste) -> str:
        """Take an event in: ``typed``, ``done`` (Enter) or ``left`` (Escape).

        The text is still there after ``done`` and ``left``; ``close`` ends the prompt.
        """
        event.stop()
        event.prevent_default()
        before = self.text or ""
        if isinstance(event, events.Paste):
            self.text = before + " ".join(event.text.split())
        elif event.key == "escape":
            return "left"
        elif event.key == "enter":
            return "done"
        elif event.key in ("backspace", "ctrl+h"):
            self.text = before[:-1]
        elif event.key == "ctrl+w":
            self.text = before.rstrip().rpartition(" ")[0]
        elif event.key == "ctrl+u":
            self.text = ""
        elif event.character and event.is_printable:
            self.text = before + event.character
        return "typed"

    def close(self) -> str:
        """End it; what was typed."""
        text, self.text = self.text or "", None
        return text

    def draw(self, row: Row, sign: str) -> Row:
        """The line: a sign, the text, the cursor."""
        row.put(f" {sign} ", "accent").outside(self.text or "")
        return row.put("▏", "accent")

"""One line of text being typed inside a Line-API widget: filters and searches."""

from __future__ import annotations

from abc import abstractmethod

from textual import events

from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row


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


class Prompted(Lines):
    """A widget in which a line can be typed: keys are its text while ``prompt`` is open.

    Subclasses implement ``typed`` and open the prompt; what other keys mean is theirs, too
    (``other_key``).
    """

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.prompt = Prompt()

    @abstractmethod
    def typed(self, outcome: str) -> None:
        """Something was typed: ``typed``, ``done`` or ``left`` (see ``Prompt.take``)."""

    def other_key(self, event: events.Key) -> None:
        """A key while nothing is typed."""

    @property
    def typing(self) -> bool:  # type: ignore[override]
        return self.prompt.open

    def on_key(self, event: events.Key) -> None:
        if self.prompt.open:
            self._take(event)
        else:
            self.other_key(event)

    def on_paste(self, event: events.Paste) -> None:
        if self.prompt.open:
            self._take(event)

    def _take(self, event: events.Key | events.Paste) -> None:
        self.typed(self.prompt.take(event))
        self.update()

    def check_consume_key(self, key: str, character: str | None) -> bool:  # noqa: ARG002
        """Printable keys belong to the line while one is typed."""
        return self.prompt.open and character is not None and character.isprintable()

    def check_action(
        self,
        action: str,  # noqa: ARG002
        parameters: tuple[object, ...],  # noqa: ARG002
    ) -> bool | None:
        return not self.prompt.open

"""Dialogs: a title, sentences, choices that say what will happen; the safe one has the focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip

from console import format as fmt
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint


@dataclass(frozen=True)
class Choice:
    """One thing a dialog offers: what it returns, and what it says will happen.

    ``about`` stands below all choices while this one has the cursor.
    """

    value: str
    text: str
    danger: bool = False
    about: str = ""


class DialogBody(Lines):
    """The lines of a dialog; drawn, not composed, so that it looks the same in every theme."""

    def __init__(
        self, model: Model, paint: Paint, title: str, sentences: Sequence[str],
        choices: Sequence[Choice],
    ) -> None:  # fmt: skip
        super().__init__(model, paint)
        self.dialog_title = title
        self.sentences = sentences
        self.choices = choices
        self.at = 0

    def needed(self, width: int) -> int:
        """Rows it takes at a width."""
        text = sum(len(fmt.wrap(s, width - 6)) + 1 for s in self.sentences)
        about = max(len(self._about(choice, width)) for choice in self.choices)
        return 5 + text + len(self.choices) + (about + 1 if about else 0)

    def _about(self, choice: Choice, width: int) -> list[str]:
        """What more there is to say of a choice: also itself, where a row cannot hold it."""
        cut = fmt.cells(choice.text) > width - 4
        said = choice.about or (choice.text if cut else "")
        return fmt.wrap(fmt.inert(said), width - 6) if said else []

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        paint = self.paint
        blank = paint.blank(width)
        head = [
            paint.row(width).put("   ").outside(self.dialog_title, "title.focus").strip(),
            blank,
        ]
        for sentence in self.sentences:
            parts = fmt.wrap(fmt.inert(sentence), width - 6)
            head += [paint.row(width).put("   ").outside(part).strip() for part in parts]
            head.append(blank)
        offered = []
        for n, choice in enumerate(self.choices):
            here = n == self.at
            row = paint.row(width, cursor=here).put(" ▌ " if here else "   ", "accent")
            role = "state.act" if choice.danger else "text"
            offered.append(
                row.outside(choice.text, role if here or choice.danger else "soft").strip()
            )
        about = self._about(self.choices[self.at], width)
        told = [paint.row(width).put("   ").outside(part, "soft").strip() for part in about]
        lines = [blank, *head, *offered, blank, *told, *([blank] if told else [])]
        return lines if len(lines) <= height else self._squeezed(head, offered, width, height)

    def _squeezed(
        self, head: list[Strip], offered: list[Strip], width: int, height: int
    ) -> list[Strip]:
        """Where not all has room: the choices, and of the sentences what is left."""
        first = max(min(self.at, len(offered) - height + 1), 0)
        offered = offered[first : first + max(height - 1, 1)]
        room = height - len(offered)
        head = [line for line in head if line is not self.paint.blank(width)]
        if len(head) > room > 1:
            more = self.paint.row(width).put(f"   {self.paint.ellipsis}", "soft").strip()
            head = [*head[: room - 1], more]
        return [*head[: max(room, 0)], *offered]


class Dialog(ModalScreen[str]):
    """Ask; the result is the chosen value. Escape gives ``escape``, else ``choices[0].value``."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > DialogBody { width: 72; max-width: 96%; max-height: 100%; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k,shift+tab", "move(-1)", show=False),
        Binding("down,j,tab", "move(1)", show=False),
        Binding("enter,space", "take", show=False),
        Binding("escape,q", "leave", show=False),
    ]

    def __init__(
        self, model: Model, paint: Paint, title: str, sentences: Sequence[str],
        choices: Sequence[Choice], escape: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._escape = choices[0].value if escape is None else escape
        self.body = DialogBody(model, paint.raised(), title, sentences, choices)

    def compose(self) -> ComposeResult:
        yield self.body

    def on_mount(self) -> None:
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        width = min(72, max(self.app.size.width * 96 // 100, 20))
        self.body.styles.height = self.body.needed(width)

    def action_move(self, by: int) -> None:
        self.body.at = (self.body.at + by) % len(self.body.choices)
        self.body.update()

    def action_take(self) -> None:
        self.dismiss(self.body.choices[self.body.at].value)

    def action_leave(self) -> None:
        self.dismiss(self._escape)

"""Forms: labelled fields, a choice among few words, and problems as sentences below."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widgets import Input

from console import format as fmt
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint

LABEL = 12  # cells


class Words(Lines):
    """Sentences, wrapped; each with a colour role."""

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.sentences: Sequence[tuple[str, str]] = ()

    def say(self, sentences: Sequence[tuple[str, str]]) -> None:
        self.sentences = sentences
        width = max(self.size.width, 40)
        self.styles.height = sum(len(fmt.wrap(text, width - 2)) for text, _ in sentences)
        self.update()

    def on_resize(self) -> None:
        """Another width takes another number of lines."""
        self.say(self.sentences)

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        return [
            self.paint.row(width).put(" ").outside(part, role).strip()
            for text, role in self.sentences
            for part in fmt.wrap(fmt.inert(text), width - 2)
        ]


class Label(Lines):
    """The name of a field."""

    DEFAULT_CSS = f"Label {{ width: {LABEL}; height: 1; }}"

    def __init__(self, model: Model, paint: Paint, text: str) -> None:
        super().__init__(model, paint)
        self.text = text

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        return [self.paint.row(width).put(" ").put(self.text, "soft").strip()]


class Pick(Lines, can_focus=True):
    """One of few words, changed with ← and →."""

    DEFAULT_CSS = "Pick { width: 1fr; height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "turn(-1)", show=False),
        Binding("right,l,space", "turn(1)", show=False),
    ]

    class Changed(Message):
        """Another word was picked."""

        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def __init__(
        self, model: Model, paint: Paint, options: Sequence[tuple[str, str]], value: str,
        *, id: str | None = None,  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(model, paint, id=id)
        self.options = options
        self.at = next((n for n, (name, _) in enumerate(options) if name == value), 0)

    @property
    def value(self) -> str:
        return self.options[self.at][0]

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        row = self.paint.row(width, cursor=self.has_focus)
        name, meaning = self.options[self.at]
        row.put(" ◂ " if self.has_focus else "   ", "accent").outside(name)
        row.put(" ▸ " if self.has_focus else "   ", "accent").outside(meaning, "soft")
        return [row.strip()]

    def action_turn(self, by: int) -> None:
        self.at = (self.at + by) % len(self.options)
        self.update()
        self.post_message(self.Changed(self))


class Form(ModalScreen[Any]):
    """A titled column of fields. Enter sends, Escape leaves.

    Subclasses implement ``fields`` (label and widget pairs) and ``send``.
    """

    DEFAULT_CSS = """
    Form { align: center middle; background: $background 60%; }
    Form > Vertical { width: 84; max-width: 98%; height: auto; max-height: 98%;
                      background: $surface; padding: 1 1;
                      overflow-y: auto; scrollbar-size-vertical: 0; }
    Form Horizontal { height: 1; }
    Form Input, Form Input:focus { width: 1fr; height: 1; border: none; padding: 0 3;
                                   background: $surface; background-tint: transparent 0%; }
    Form Input:focus { background: $background; }
    Form Words { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False, priority=True),
        Binding("enter", "send", show=False, priority=True),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, model: Model, paint: Paint, title: str, keys: str) -> None:
        super().__init__()
        self.model = model
        self.paint = paint = paint.raised()
        self.form_title = title
        self.title_words = Words(model, paint, id="form-title")
        self.about = Words(model, paint, id="about")
        self.problems = Words(model, paint, id="problems")
        self.keys = Words(model, paint, id="keys")
        self.keys_text = keys

    @abstractmethod
    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        """Label and widget of each row."""

    @abstractmethod
    def send(self) -> None:
        """The form is complete: do what it is for."""

    def compose(self) -> ComposeResult:
        rows = [Horizontal(Label(self.model, self.paint, text), w) for text, w in self.fields()]
        yield Vertical(self.title_words, *rows, self.about, self.problems, self.keys)

    def on_mount(self) -> None:
        self.title_words.say([(self.form_title, "title.focus"), ("", "text")])
        self.about.say([("", "text")])
        self.problems.say([])
        self.keys.say([("", "text"), (self.keys_text, "soft")])
        self.ready()

    def ready(self) -> None:
        """The fields are on the screen: say what is special, choose the focus."""

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_send(self) -> None:
        self.send()


def entry(value: str, hint: str, name: str, *, replaced: bool = False) -> Input:
    """A text field without a box; with ``replaced`` the first key takes the value's place."""
    return Input(value, placeholder=hint, id=name, select_on_focus=replaced)

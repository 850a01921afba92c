"""Confirmation by typing a word: for what cannot be taken back and concerns others."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widgets import Input

from console.i18n import t
from console.screens.form import Form, Pick, entry
from console.state import Model
from console.widgets.paint import Paint


class TypedConfirm(Form):
    """The result is True once ``word`` was typed and sent, else None.

    Args:
        title: what will happen, as a question. sentences: what is lost, who is concerned.
        word: what has to be typed, e.g. the pid or the name of what is ended.
    """

    def __init__(
        self, model: Model, paint: Paint, title: str, sentences: Sequence[str], word: str
    ) -> None:
        super().__init__(model, paint, title, t("Enter confirms · Esc leaves everything as it is"))
        self.sentences = sentences
        self.word = word
        self.typed = entry("", t("type {word} to confirm", word=word), "typed")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [(t("confirm"), self.typed)]

    def ready(self) -> None:
        self.about.say([("", "text"), *((sentence, "text") for sentence in self.sentences)])
        self.typed.focus()

    def send(self) -> None:
        if self.typed.value.strip() == self.word:
            self.dismiss(True)
            return
        wrong = t("That is not {word}; nothing was done.", word=self.word)
        self.problems.say([("", "text"), (wrong, "state.act")])

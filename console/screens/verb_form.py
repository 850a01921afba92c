"""A form whose fields become a verb's arguments, so that both understand the same."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import click
from textual.widgets import Input

from console.i18n import t
from console.screens.form import Form
from console.spoken import spoken


class VerbForm(Form):
    """The result is what the verb makes of the arguments, or None when left.

    Subclasses implement ``fields``, ``ready`` (which calls ``tell``), ``arguments`` and ``made``.
    """

    #: How many of the first fields must be filled in.
    REQUIRED: ClassVar[int]
    #: The sentence (of the catalogue) that names the verb's help.
    ALL_FLAGS: ClassVar[str]

    @abstractmethod
    def arguments(self) -> list[str]:
        """What was typed, as the command line has it.

        Raises:
            ValueError: the flags cannot be taken apart.
        """

    @abstractmethod
    def made(self, arguments: list[str]) -> Any:
        """The result of the form.

        Raises:
            click.ClickException, ValueError: the arguments are wrong, and why.
            click.exceptions.Exit: they asked for help.
        """

    def tell(self, about: str) -> None:
        """Say below the title what sending does."""
        self.about.say([("", "text"), (about, "soft")])

    def on_input_changed(self) -> None:
        if self.problems.sentences:
            self.problems.say([])

    def send(self) -> None:
        for label, field in self.fields()[: self.REQUIRED]:
            if isinstance(field, Input) and not field.value.strip():
                self._problem(t("{field} is required.", field=label))
                return
        try:
            result = self.made(self.arguments())
        except (click.ClickException, ValueError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            self._problem(spoken(text))
        except click.exceptions.Exit:
            self._problem(t(self.ALL_FLAGS))
        else:
            self.dismiss(result)

    def _problem(self, text: str) -> None:
        self.problems.say([("", "text"), *((line, "state.act") for line in text.splitlines())])

"""Exit codes of the command line, and the error that carries one."""

from __future__ import annotations

from typing import Final

import click

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
INTERRUPTED: Final = 130


class Refused(click.ClickException):
    """Understood, and not done: a plan does not fit, or a guard says no."""

    exit_code = REFUSED


class BadInput(click.ClickException):
    """A flag, a file or a folder is not what it must be."""

    exit_code = USAGE


class Failed(click.ClickException):
    """The work was begun and failed."""

    exit_code = FAILED

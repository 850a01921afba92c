"""What one parameter is; which there are stands in the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from engine.parameters.request import DEFAULTS

Kind = Literal["text", "int", "float", "bool", "choice", "size", "path", "file", "bytes", "gpus"]


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name in the reference's spelling, its type, range and meaning.

    ``env`` are the names the environment may use besides ``AVATOP_<NAME>``; ``aliases`` further
    spellings of the flag. ``help`` says meaning, range and effect. ``no_effect`` is set for
    flags of the reference that are understood and change nothing, with the reason.
    """

    name: str
    kind: Kind
    group: str
    help: str
    env: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    hub: bool = False  # a Hub id is accepted in place of a path
    no_effect: str = ""

    @property
    def default(self) -> Any:
        """The value of a request that says nothing; ``None`` where something else decides."""
        return DEFAULTS.get(self.name)

    @property
    def flag(self) -> str:
        """As the reference writes it."""
        return f"--{self.name}"

    @property
    def flags(self) -> tuple[str, ...]:
        """Every accepted spelling, the reference's first, then hyphenated and aliases."""
        names = (self.name, *self.aliases)
        both = [f"--{spelling}" for name in names for spelling in (name, name.replace("_", "-"))]
        return tuple(dict.fromkeys(both))

    @property
    def env_names(self) -> tuple[str, ...]:
        """Environment variables that set it; the first wins over the others."""
        return (f"AVATOP_{self.name.upper()}", *self.env)

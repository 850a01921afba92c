"""What is wrong with a parameter, and what to do: one clear sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """One refused value.

    ``parameter`` is the name as its writer knows it (``--size``, ``RESOLUTION``, ``size in
    job.toml``), ``value`` what was given (``None``: nothing), ``reason`` and ``suggestion``
    clauses without a full stop.
    """

    parameter: str
    value: str | None
    reason: str
    suggestion: str = ""

    @property
    def text(self) -> str:
        given = f"{self.parameter} {self.value}" if self.value is not None else self.parameter
        if not self.suggestion:
            return f"{given}: {self.reason}."
        stop = "" if self.suggestion.endswith("?") else "."
        return f"{given}: {self.reason}. {self.suggestion[0].upper()}{self.suggestion[1:]}{stop}"


class ParamError(ValueError):
    """A request that cannot run; the command line ends with exit code 2."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.text for problem in self.problems))


def closest(name: str, known: Iterable[str]) -> str:
    """``did you mean X``, or an empty string where nothing is near."""
    near = get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else ""

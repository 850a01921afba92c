"""What is wrong with a parameter, and what to do: one clear sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from engine.sentence import joined, sentence


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
        given = self.parameter
        if self.value is not None:
            given = sentence("{parameter} {value}", parameter=given, value=self.value)
        told = sentence("{what}: {why}.", what=given, why=self.reason)
        if not self.suggestion:
            return told
        hint = f"{self.suggestion[0].upper()}{self.suggestion[1:]}"
        if not hint.endswith("?"):
            hint = sentence("{hint}.", hint=hint)
        return joined((told, hint), " ")


class ParamError(ValueError):
    """A request that cannot run; the command line ends with exit code 2."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(joined([problem.text for problem in self.problems], "\n"))


def closest(name: str, known: Iterable[str]) -> str:
    """``did you mean X``, or an empty string where nothing is near."""
    near = get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.7)
    return sentence("did you mean {near}?", near=near[0]) if near else ""

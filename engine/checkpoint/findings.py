"""Findings of a verification: severity, file, tensor, problem, remedy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.checkpoint.errors import CheckpointError
from engine.sentence import sentence

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing wrong. An ``error`` makes the checkpoint unusable."""

    severity: Severity
    file: str
    tensor: str | None
    problem: str
    remedy: str

    def line(self) -> str:
        """The finding as one line for a person."""
        where = (
            sentence("{what} (tensor {tensor})", what=self.file, tensor=self.tensor)
            if self.tensor
            else self.file
        )
        return sentence(
            "{severity}: {where}: {problem}. {remedy}",
            severity=self.severity,
            where=where,
            problem=self.problem,
            remedy=self.remedy,
        )


@dataclass
class Findings:
    """Collects findings; file names are told relative to the checkpoint's directory."""

    root: Path
    found: list[Finding] = field(default_factory=list)

    def add(
        self,
        file: Path | str,
        problem: str,
        remedy: str,
        *,
        tensor: str | None = None,
        severity: Severity = "error",
    ) -> None:
        self.found.append(Finding(severity, self._name(file), tensor, problem, remedy))

    def add_error(self, error: CheckpointError) -> None:
        """An exception of this room as a finding."""
        problem = (
            sentence("{what}: {why}", what=error.what, why=error.why) if error.why else error.what
        )
        self.add(error.where, problem, error.remedy, tensor=error.tensor)

    def add_group(
        self, file: Path | str, tensors: list[str], problem: str, remedy: str, why: str = ""
    ) -> None:
        """One finding for many tensors with the same fault: the first is named, all are counted."""
        if tensors:
            told = sentence("{what}: {why}", what=problem, why=why) if why else problem
            if len(tensors) > 1:
                told = sentence(
                    "{problem}, and {count} more tensors", problem=told, count=len(tensors) - 1
                )
            self.add(file, told, remedy, tensor=tensors[0])

    def _name(self, file: Path | str) -> str:
        path = Path(file)
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(file)


@dataclass(frozen=True)
class Verdict:
    """The outcome: usable or not, errors first."""

    ok: bool
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def verdict(findings: Findings) -> Verdict:
    ordered = sorted(findings.found, key=lambda finding: finding.severity != "error")
    return Verdict(all(f.severity != "error" for f in ordered), tuple(ordered))

"""Does torch stay where it belongs: in the ranks, never in the console's process?"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from console.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "safetensors.torch")


def _belongs(path: Path) -> bool:
    """Modules that run in ranks and may use torch."""
    parts = path.relative_to(ROOT).parts
    return parts[:2] == ("engine", "model") or "onrank" in parts


def _modules() -> Iterator[Path]:
    for folder in ("console", "engine", "themes"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_torch_is_imported_by_the_model_and_the_onrank_rooms_alone() -> None:
    wrong = {
        str(path.relative_to(ROOT)): names
        for path in _modules()
        if not _belongs(path)
        and (names := {n for n in _imports(path) if n.split(".")[0] in HEAVY or n in HEAVY})
    }
    assert wrong == {}


def test_nothing_outside_the_ranks_imports_what_runs_in_them() -> None:
    wrong = {
        str(path.relative_to(ROOT)): names
        for path in _modules()
        if not _belongs(path)
        and (
            names := {
                n
                for n in _imports(path)
                if n.startswith("engine.model") or "onrank" in n.split(".")
            }
        )
    }
    assert wrong == {}


def test_every_verb_and_the_console_do_without_torch() -> None:
    modules = sorted({target.partition(":")[0] for target, _ in VERBS.values()})
    modules += ["console.app", "console.headless", "console.commands.console"]
    modules += ["engine.services", "engine.runner", "engine.outcome"]
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    assert _loaded(code, HEAVY) == []


@pytest.mark.parametrize("module", ["console.app", "console.cli"])
def test_the_first_picture_waits_for_no_heavy_library(module: str) -> None:
    """The engine's own imports happen on its thread, behind the first picture."""
    late = ["torch", "transformers", "numpy", "av", "PIL", "plotext", "sqlite3", "pynvml"]
    assert _loaded(f"import {module}", late) == []


def test_no_page_waits_for_codecs_or_arrays() -> None:
    """A number key answers at once: what a deed on a page needs is loaded by the deed."""
    code = (
        "import importlib; from console import actions\n"
        "for page in actions.PAGES: importlib.import_module(page.at.partition(':')[0])"
    )
    assert _loaded(code, ["torch", "numpy", "av", "PIL"]) == []


def _loaded(code: str, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that are imported once ``code`` has run in a Python of its own."""
    told = (
        f"{code}\nimport json, sys; print(json.dumps([m for m in {names!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", told],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found

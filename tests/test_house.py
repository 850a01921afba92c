"""Are the rules of the house kept: small modules with a purpose, arrows one way, no leftovers?"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.version import version

ROOT = Path(__file__).resolve().parents[1]
#: Lines of one module; a longer one does two jobs.
LONGEST = 450
# Built at run time, so that this file does not find itself.
_LEFTOVERS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
_SKIPS = re.compile(r"pytest\.(mark\.)?(skip|x" + r"fail)")


def _sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _names(paths: Iterator[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_modules_are_small() -> None:
    long = {
        name: lines
        for name in _names(_sources("console", "engine", "themes"))
        if (lines := len((ROOT / name).read_text().splitlines())) > LONGEST
    }
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name
        for name in _names(_sources("console", "engine"))
        if not name.endswith("__init__.py")
        and not ast.get_docstring(ast.parse((ROOT / name).read_text()))
        and not name.endswith("__main__.py")
    ]
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    left = [
        name
        for name in _names(_sources("console", "engine", "themes"))
        if _LEFTOVERS.search((ROOT / name).read_text())
    ]
    assert left == []


def test_no_test_is_skipped_without_a_device_s_reason() -> None:
    """Only what needs hardware that is not there may be left out."""
    skipping = [
        name
        for name in _names(_sources("tests"))
        if _SKIPS.search((ROOT / name).read_text())
        and "cuda" not in (ROOT / name).read_text().lower()
    ]
    assert skipping == []


@pytest.mark.timeout(100)
def test_the_import_contracts_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():  # an installation for testing alone; test_no_torch holds the core
        return
    done = subprocess.run(
        [str(command)], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_project_file_names_the_entry_point_and_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"avatop": "console.cli:main"}
    assert version() == project["version"]


def test_make_has_the_two_commands_that_matter() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "lint", "bench"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
    assert "avatop demo" in text

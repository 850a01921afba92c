"""Do the pages tell every flag, variable, verb and key that exists?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.actions import ACTIONS
from console.cli import VERBS
from engine.params import PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_parameter_and_its_variables_are_told() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    missing = [
        word
        for p in PARAMETERS
        for word in (f"--{p.name}", *p.env_names)
        if f"`{word}`" not in page
    ]
    assert missing == []


def test_every_verb_is_told() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    assert [verb for verb in VERBS if f"avatop {verb}" not in page] == []


def test_every_key_has_a_sentence() -> None:
    assert [action.name for action in ACTIONS if not action.help.endswith(".")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [t for t in targets if "://" not in t and not t.startswith("mailto:")]
    assert [t for t in local if not (page.parent / t).exists()] == []

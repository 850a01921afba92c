"""Does every requirement of batches and releases have tests that carry its name?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NAMED = re.compile(r"def test((?:_[BR][1-9])+)_")


@pytest.mark.parametrize("name", [*(f"B{n}" for n in range(1, 8)), *(f"R{n}" for n in range(1, 9))])
def test_a_requirement_is_asked_about_by_name(name: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")]
    asked = {part for text in texts for found in NAMED.findall(text) for part in found.split("_")}
    assert name in asked

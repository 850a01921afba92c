"""The small checkpoint, and a copy of it that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tiny import tiny_ckpt


@pytest.fixture
def sample() -> Path:
    return tiny_ckpt()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A private copy of the sample."""
    return Path(shutil.copytree(tiny_ckpt(), tmp_path / "ckpt"))

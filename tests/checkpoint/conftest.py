"""The sample checkpoint, and a copy of it that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parents[2] / "sample_data" / "ckpt"


@pytest.fixture
def sample() -> Path:
    return SAMPLE


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A private copy of the sample."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "ckpt"))

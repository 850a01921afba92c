"""An engine of this process, reached directly and over its socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.jobs.paths import Places
from engine.remote.host import Hosting


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def hosting(places: Places) -> Iterator[Hosting]:
    found = Hosting(places, "1.2.3")
    try:
        yield found
    finally:
        found.close()

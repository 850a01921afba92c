from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.release.world import World, quick_environment, world


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    with quick_environment(monkeypatch):
        async with world(tmp_path) as opened:
            yield opened

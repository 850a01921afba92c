from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_inputs import make_files
from tests.e2e.harness import Driven, engine_under


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_files(folder)
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    """One engine for a module: ranks after the first job start from a warm server."""
    with engine_under(tmp_path_factory.mktemp("engine")) as driven:
        yield driven

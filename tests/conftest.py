"""The order of files: those that start ranks come first, so that none of them is left for last."""

from __future__ import annotations

import os
import sys

import pytest

from tests.tiny import keep_folder


def pytest_configure(config: pytest.Config) -> None:
    """Python keeps what it compiled: hundreds of processes start here, as a user's would.

    Test processes side by side share one small checkpoint, and what is encoded for it.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if getattr(config.option, "numprocesses", None):  # only in the process that starts them
        keep_folder()
        # One core each: threads of one would wait for those of the other, and spin meanwhile.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    heavy = {item.path for item in items if item.get_closest_marker("ranks") is not None}
    items.sort(key=lambda item: item.path not in heavy)  # stable: a file stays together

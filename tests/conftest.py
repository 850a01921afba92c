"""How tests are spread over processes: files that take long come first, none is left for last."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from tests.tiny import keep_folder

#: Files that one process takes: they share an import of seconds.
TOGETHER = (
    "tests/sample/test_ckpt.py",
    "tests/model/test_speech.py",
    "tests/model/test_text.py",
    "tests/parity/test_audio.py",
    "tests/parity/test_t5.py",
)


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile``, and files of ``TOGETHER`` as one."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER[0] if file in TOGETHER else file

    return Files(config, log)

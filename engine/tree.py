"""Files below a folder that others may be removing at this moment."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[os.stat_result]:
    """Every regular file below, links not followed; what vanishes or may not be read is left out.

    ``Path.rglob`` ends with an error where a folder vanishes between two of its looks.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - as walk gives them
                if stat.S_ISREG(info.st_mode):
                    yield info

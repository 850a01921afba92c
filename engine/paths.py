"""Where avatop keeps things, by the XDG base directories.

Only this module knows the folders' names. Nothing is created until it is written to.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import platformdirs


@dataclasses.dataclass(frozen=True)
class Paths:
    """The folders of one user on one host."""

    state: Path  # the job store, the log, one folder per job
    cache: Path  # prompt and audio embeddings by hash; safe to delete
    data: Path  # videos, unless a job names another output

    @classmethod
    def from_environment(cls) -> Paths:
        """XDG folders; ``AVATOP_STATE_DIR`` and ``AVATOP_CACHE_DIR`` win over them."""
        state = os.environ.get("AVATOP_STATE_DIR")
        cache = os.environ.get("AVATOP_CACHE_DIR")
        return cls(
            state=Path(state or platformdirs.user_state_dir("avatop", appauthor=False)).absolute(),
            cache=Path(cache or platformdirs.user_cache_dir("avatop", appauthor=False)).absolute(),
            data=Path(platformdirs.user_data_dir("avatop", appauthor=False)).absolute(),
        )

    @classmethod
    def under(cls, root: Path | str) -> Paths:
        """All three folders below one root, for a test or a drill."""
        base = Path(os.fspath(root))
        return cls(base / "state", base / "cache", base / "data")

    @property
    def store(self) -> Path:
        """The SQLite file of jobs."""
        return self.state / "jobs.sqlite3"

    @property
    def log(self) -> Path:
        """The engine's log, rotated."""
        return self.state / "avatop.log"

    @property
    def videos(self) -> Path:
        """Default folder of finished videos."""
        return self.data / "videos"

    def job(self, number: int) -> Path:
        """The folder of one job: its segments, manifest and result."""
        return self.state / "jobs" / f"{number:06d}"

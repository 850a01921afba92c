"""Files of a checkpoint that change while a job needs them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

#: Milliseconds of quiet after which a change is told: a copy changes a file many times.
DEBOUNCE_MS: Final = 400
_STEP_MS: Final = 100
#: By how much the time of a file's change may be behind the clock.
_GRAIN_SECONDS: Final = 0.02


def touched(
    needs: Mapping[int, frozenset[Path]], changed: Iterable[Path]
) -> dict[int, tuple[Path, ...]]:
    """Job → those of its files that changed."""
    paths = set(changed)
    found = {job: tuple(sorted(files & paths)) for job, files in needs.items()}
    return {job: files for job, files in found.items() if files}


def later(files: Iterable[Path], began: float) -> tuple[Path, ...]:
    """Those that changed after ``began`` (Unix seconds), or are gone.

    A change is told late, and one that was over before a job began is what the job has read.
    """
    return tuple(path for path in files if _changed_at(path) >= began - _GRAIN_SECONDS)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except OSError:
        return math.inf


class FileWatch:
    """Watches the files of the jobs at hand; ``needs`` may be changed at any time.

    Args:
        told: called on the loop with job → changed files.
    """

    def __init__(self, told: Callable[[dict[int, tuple[Path, ...]]], Awaitable[None]]) -> None:
        self._told = told
        self._needs: dict[int, frozenset[Path]] = {}
        self._changed = asyncio.Event()

    @property
    def jobs(self) -> frozenset[int]:
        return frozenset(self._needs)

    def need(self, needs: Mapping[int, frozenset[Path]]) -> None:
        """What each job reads, from now on."""
        if needs != self._needs:
            before = self._folders()
            self._needs = dict(needs)
            if self._folders() != before:
                self._changed.set()

    async def run(self) -> None:
        """Watch. Ends by being cancelled."""
        from watchfiles import awatch

        while True:
            self._changed.clear()
            folders = self._folders()
            if not folders:
                await self._changed.wait()
                continue
            async for changes in awatch(
                *folders,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._changed,
                recursive=False,
                rust_timeout=1_000,
            ):
                found = touched(self._needs, (Path(path) for _, path in changes))
                if found:
                    await self._told(found)

    def _folders(self) -> frozenset[Path]:
        every = {path.parent for files in self._needs.values() for path in files}
        return frozenset(folder for folder in every if folder.is_dir())

"""Jobs as the store has them, without an engine: what verbs that only read open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from console.exits import Failed
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import JobRow


@contextlib.contextmanager
def stored_jobs() -> Iterator[JobStore | None]:
    """The store of this user; None where there never was a job: looking must not make a file.

    Raises:
        Failed: it cannot be read.
    """
    path = Places.of().database
    if not path.exists():
        yield None
        return
    try:
        with contextlib.closing(JobStore(path)) as jobs:
            yield jobs
    except StoreError as error:
        raise Failed(str(error)) from error


def stored_row(database: Path, job: int) -> JobRow:
    """A job's row when its engine has ended.

    Raises:
        StoreError: the store cannot be read, or does not know the job.
    """
    with contextlib.closing(JobStore(database)) as jobs:
        return jobs.get(job)

"""Jobs that are disturbed on their way, held to the one that was left alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from engine.jobs.kept import ENVIRONMENT
from engine.messages import BlockDone, Event, JobChanged, JobRow, PlanChanged
from engine.outcome import read_result
from tests.e2e.harness import PATIENCE, Driven


@dataclass(frozen=True)
class Whole:
    """A job undisturbed: any shorter one is its beginning."""

    blocks: Any  # latents, [blocks, 16, 3, h, w]
    segments: list[str]

    def latents(self, clips: int) -> str:
        return hashlib.sha256(self.blocks[:clips].astype("<f4").tobytes()).hexdigest()


def undisturbed(driven: Driven, flags: Mapping[str, str], folder: Path) -> Whole:
    """What the flags come to, in clips of one block."""
    dump = folder / "latents.safetensors"
    job = driven.submit({**flags, "dump_latents": str(dump)})
    row = ended(driven, job)
    assert row.state == "done", row.error
    found = Whole(load_file(dump)["latents"], digests(driven, job))
    assert found.latents(row.clips) == latents(driven, row)
    return found


def digests(engine: Driven, job: int) -> list[str]:
    text = (engine.places.job(job).segments / "manifest.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["sha256"] for line in lines if line["event"] == "clip"]


def latents(engine: Driven, row: JobRow) -> Any:
    return read_result(engine.places.job(row.id), row)["latents_sha256"]


def made(job: int, block: int) -> Any:
    return lambda e: isinstance(e, BlockDone) and e.job == job and e.block >= block


def changed(job: int) -> Any:
    """The first block after a resume or a switch, which tells how long it took."""
    return lambda e: isinstance(e, PlanChanged) and e.job == job and e.seconds is not None


def ended(driven: Driven, job: int) -> JobRow:
    """The job's row at its end; the longest takes a while on a loaded machine."""
    over = ("done", "failed", "interrupted")

    def there(event: Event) -> bool:
        return isinstance(event, JobChanged) and event.job.id == job and event.job.state in over

    event = driven.wait(there, 4 * PATIENCE)
    assert isinstance(event, JobChanged)
    return event.job


def same(driven: Driven, job: int, whole: Whole) -> JobRow:
    """The job's row, once it is done and has come out as the undisturbed one."""
    row = ended(driven, job)
    assert row.state == "done", row.error
    assert latents(driven, row) == whole.latents(row.clips)
    assert digests(driven, job) == whole.segments[: row.clips]
    assert not list(Path(os.environ[ENVIRONMENT]).iterdir()), "state of a job that is done"
    assert not (driven.places.job(job).segments / "latents.bin").exists()
    return row

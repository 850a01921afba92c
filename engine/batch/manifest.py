"""From folders to a batch's manifest, and what of it the planner is asked about."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.batch.freeze import freeze
from engine.batch.keys import checkpoint_identity
from engine.batch.pairs import Pairing, Remark, pair_up
from engine.batch.prepare import lint_item
from engine.batch.rows import WAITING, ItemRow, NoteRow
from engine.batch.spec import BatchSpec, SpecError
from engine.batch.store import BatchStore
from engine.geometry import blocks_per_clip
from engine.jobs.store import JobStore
from engine.release.rows import STABLE, get_release, pointer
from engine.sentence import sentence

#: Items looked at for one that the planner may be asked about.
_SAMPLED: Final = 20


def frozen(jobs: JobStore, batch: str, spec: BatchSpec) -> tuple[Pairing, list[ItemRow]]:
    """Pairs of a batch's folders and its items. Blocks; reads every file.

    Raises:
        SpecError, PairError, CheckpointError, ReleaseError: what was asked cannot be.
    """
    out = Path(spec.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK | os.X_OK):
        raise SpecError(sentence("{out} cannot be written to", out=out))
    made_by = weights(jobs, spec)
    table = Path(spec.manifest) if spec.manifest else None
    found = pair_up(Path(spec.audio_dir), Path(spec.image_dir), table)
    # What lies in an inbox already may be half copied: it enters once it is seen to be whole.
    pairs = () if spec.watch else found.pairs
    return found, freeze(batch, spec, pairs, made_by)


def mend(jobs: JobStore, store: BatchStore, spec: BatchSpec, items: Sequence[ItemRow]) -> None:
    """Freeze items again whose files are not what they were: somebody may have mended them.
    Blocks.

    Raises:
        PairError, CheckpointError, ReleaseError: folders or weights that cannot be read.
    """
    table = Path(spec.manifest) if spec.manifest else None
    pairs = {p.name: p for p in pair_up(Path(spec.audio_dir), Path(spec.image_dir), table).pairs}
    made_by = weights(jobs, spec)
    for item in items:
        if item.name not in pairs:
            continue  # it fails again, and says why
        others = [i for i in store.items(item.batch) if i.key != item.key]
        (new,) = freeze(item.batch, spec, [pairs[item.name]], made_by, others)
        if new.key != item.key:
            store.refreeze(item, new)


def weights(jobs: JobStore, spec: BatchSpec) -> str:
    """What the weights are: the release that items run by, and the files that are read.

    Without a named release the queue binds a batch to one at its first item; which one is live
    counts here, so that what another one made is not taken for the same.

    Raises:
        ReleaseError: there is no such release.
        CheckpointError: there is no such checkpoint.
    """
    identity = checkpoint_identity(spec.request)
    with jobs.reading() as db:
        digest = get_release(db, spec.version).digest if spec.version else pointer(db, STABLE)
    return f"{digest}:{identity}" if digest else identity


def samples(
    items: Sequence[ItemRow],
) -> tuple[dict[str, Mapping[str, Any]], list[tuple[str, int]]]:
    """One whole request per frame size whose files can be used, and (size, blocks) of every item
    that has work to do."""
    found: dict[str, Mapping[str, Any]] = {}
    looked: dict[str, int] = {}
    work = []
    for item in items:
        if item.state != WAITING:
            continue
        size = str(item.request.get("size"))
        frames, clips = int(item.request["infer_frames"]), int(item.request["num_clip"])
        work.append((size, clips * blocks_per_clip(frames)))
        if size not in found and looked.get(size, 0) < _SAMPLED:
            looked[size] = looked.get(size, 0) + 1
            if not any(finding.level == "error" for finding in lint_item(item)):
                found[size] = item.request
    return found, work


def note(batch: str, remark: Remark) -> NoteRow:
    """A remark as the store keeps it."""
    return NoteRow(batch, time.time(), remark.kind, remark.text, remark.name)

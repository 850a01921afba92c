"""A checkpoint as the console looks at it: which there are, what one holds, what changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.state import Model
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.inspect import Inspection, Lists, inspect
from engine.checkpoint.layout import Layout, find
from engine.checkpoint.tensors import TensorRow, tensors

#: Request fields that name files outside the folder → the parameter of ``find``.
_ELSEWHERE = {
    "t5_path": "t5_path", "vae_path": "vae_path", "wav2vec_path": "wav2vec_path",
    "lora_path_dmd": "lora_path",
}  # fmt: skip
_VARIABLES = ("AVATOP_CKPT_DIR", "MODEL_CKPT_DIR", "CKPT_DIR")


@dataclass(frozen=True)
class Place:
    """A checkpoint's folder, and the components that lie elsewhere (parameters of ``find``)."""

    folder: str
    elsewhere: tuple[tuple[str, str], ...] = ()

    def find(self) -> Layout:
        """Its files.

        Raises:
            CheckpointError: there is no such folder.
        """
        other = dict(self.elsewhere)
        return find(
            self.folder,
            t5_path=other.get("t5_path"),
            vae_path=other.get("vae_path"),
            wav2vec_path=other.get("wav2vec_path"),
            lora_path=other.get("lora_path"),
        )


@dataclass(frozen=True)
class Stamp:
    """A file as it was: modification time in nanoseconds, bytes."""

    mtime_ns: int
    bytes: int


@dataclass(frozen=True)
class Weights:
    """What was read of a checkpoint. ``problem`` says why nothing could be."""

    place: Place
    layout: Layout | None = None
    inspection: Inspection | None = None
    tensors: tuple[TensorRow, ...] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
    read: float = 0.0  # Unix seconds
    problem: CheckpointError | None = None


def known(model: Model, environ: Mapping[str, str], sample: Path | None) -> list[Place]:
    """Checkpoints that may be meant: of jobs, newest first, of changes told, named, shipped."""
    places = [_of(job.request) for job in model.job_rows() if job.request.get("ckpt_dir")]
    places += [Place(folder) for folder in model.production.checkpoints]
    places += [Place(environ[name]) for name in _VARIABLES if environ.get(name)]
    if sample is not None and sample.is_dir():
        places.append(Place(str(sample)))
    by_folder: dict[str, Place] = {}
    for place in places:
        by_folder.setdefault(place.folder, place)
    return list(by_folder.values())


def _of(request: Mapping[str, Any]) -> Place:
    named = {p: request.get(field) for field, p in _ELSEWHERE.items()}
    if not request.get("load_lora"):
        named.pop("lora_path")
    elsewhere = tuple((name, str(value)) for name, value in named.items() if value)
    return Place(str(request["ckpt_dir"]), elsewhere)


def read(place: Place, now: float, lists: Lists | None = None) -> Weights:
    """Headers of every file; ``.pth`` files only as far as ``lists`` has them."""
    try:
        layout = place.find()
        found = inspect(layout, headers_only=lists is None, lists=lists)
        rows = tuple(tensors(layout, lists))
    except (CheckpointError, OSError) as error:
        if isinstance(error, OSError):
            error = CheckpointError(error.strerror or str(error), where=place.folder)
        return Weights(place, read=now, problem=error)
    return Weights(place, layout, found, rows, stamps(layout), now)


def stamps(layout: Layout) -> dict[Path, Stamp]:
    """The files that hold it, as they are now; one that is gone is left out."""
    from engine.checkpoint.fingerprint import files_of

    out = {}
    for path in files_of(layout):
        try:
            stat = path.stat()
        except OSError:
            continue
        out[path] = Stamp(stat.st_mtime_ns, stat.st_size)
    return out


def changed(weights: Weights) -> list[Path]:
    """Files that are another now than when they were read, or gone, or new."""
    if weights.layout is None:
        return []
    try:
        now = stamps(weights.place.find())
    except CheckpointError:
        now = {}
    paths = set(now) | set(weights.stamps)
    return sorted(path for path in paths if now.get(path) != weights.stamps.get(path))


def newer_than(weights: Weights, moment: float) -> list[Path]:
    """Files that were written after a moment, such as the start of a job."""
    return sorted(p for p, stamp in weights.stamps.items() if stamp.mtime_ns / 1e9 > moment)

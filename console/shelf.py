"""Which recordings can be opened here: this host's own, exported bundles, shipped examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.jobs.paths import Places
from engine.telemetry.recording import Recording, RecordingError, open_recording
from engine.telemetry.recording_segment import Mark
from engine.tree import files_below

#: The newest segments of this host's recording that are listed one by one.
SEGMENTS: Final = 100
BUNDLES: Final = 100


@dataclass(frozen=True)
class Taped:
    """One recording that can be opened, or a stretch of one.

    ``kind``: "host" (all that this host kept), "segment" (a stretch of it), "bundle", "shipped",
    "file". ``problem`` says why it cannot be opened.
    """

    path: Path
    kind: str
    name: str
    recording: Recording | None = None
    start: float | None = None
    end: float | None = None
    events: int | None = None
    bytes: int | None = None
    marks: tuple[Mark, ...] = ()
    jobs: tuple[int, ...] = ()
    problem: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)  # kind of mark → number


def on_shelf(environ: Mapping[str, str], samples: Path | None, here: Path) -> list[Taped]:
    """Everything at hand, this host's own first. Reads indexes; takes a while on a slow disk.

    Args:
        samples: where shipped recordings lie. here: a folder that bundles were written to.
    """
    places = Places.of(environ)
    out = list(_own(places.recordings))
    bundles = [*_newest(places.state / "bundles"), *_newest(here)][:BUNDLES]
    out += [taped(path, "bundle") for path in dict.fromkeys(bundles)]
    if samples is not None and samples.is_dir():
        shipped = (p for p in sorted(samples.iterdir()) if p.is_dir() or p.suffix == ".zip")
        out += [taped(path, "shipped") for path in shipped if not path.name.startswith(("_", "."))]
    return out


def taped(path: Path, kind: str) -> Taped:
    """A file or folder as a recording; what is wrong with it becomes its ``problem``."""
    try:
        recording = open_recording(path)
        size = _bytes(path)
    except (RecordingError, OSError) as error:
        return Taped(path, kind, path.name, problem=str(error))
    return Taped(
        path, kind, path.name, recording, recording.start, recording.end, recording.count, size,
        tuple(recording.marks), tuple(recording.jobs), None, _counts(recording.marks),
    )  # fmt: skip


def _own(folder: Path) -> Iterator[Taped]:
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    whole = taped(folder, "host")
    yield whole
    if whole.recording is None:
        return
    for segment in reversed(whole.recording.segments[-SEGMENTS:]):
        index = segment.index
        yield Taped(
            folder / segment.name, "segment", segment.name, whole.recording, segment.start,
            segment.end, index.events, _bytes(folder / segment.name), tuple(index.marks),
            tuple(sorted(index.jobs)), None, _counts(index.marks),
        )  # fmt: skip


def _newest(folder: Path) -> list[Path]:
    """Bundles in a folder by their name's moment, the newest first."""
    return sorted(folder.glob("avatop-incident-*.zip"), reverse=True) if folder.is_dir() else []


def _counts(marks: Sequence[Mark]) -> dict[str, int]:
    return dict(Counter(mark.kind for mark in marks))


def _bytes(path: Path) -> int | None:
    try:
        if path.is_dir():
            return sum(file.st_size for file in files_below(path))
        return path.stat().st_size
    except OSError:
        return None

"""From a finished job's video to an output under its name: verified, durable, never over another.

In this order, so that a death at any point leaves something that the next start understands:
verify; hash and fsync the video; write and fsync its sidecar; link the sidecar, then the video,
under their names (a link never overwrites); fsync the folder; drop the temporary names.
A video without its sidecar is never ours; a sidecar without its video is a publication cut short.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.batch.keys import file_digest
from engine.media.check import OutputCheck, check_output
from engine.media.findings import Finding
from engine.media.segment import fsync_and_hash, fsync_folder
from engine.sentence import sentence

#: Where temporary files lie: inside the output folder, so on its file system.
WORK: Final = ".avatop-batch"
_SIDECAR: Final = ".avatop.json"
SCHEMA: Final = 1

#: Findings that make a file useless; others (black, frozen, silent parts) are told beside it.
_BROKEN: Final = frozenset(
    {"unplayable", "no_video", "frame_count", "no_audio", "bad_audio", "short_audio", "nan"}
)

#: Called at each step with its name; tests die there.
Reached = Callable[[str], None]


class NameTaken(Exception):  # noqa: N818 - says what happened
    """Another file has the output's name."""


@dataclass(frozen=True)
class Published:
    """An output under its name."""

    path: Path
    sha256: str
    bytes: int


def sidecar_of(video: Path) -> Path:
    """The JSON file beside an output that says what it is."""
    return video.with_name(f"{video.stem}{_SIDECAR}")


def verify(video: Path, frames: int | None, audio: Path) -> OutputCheck:
    """Look at a finished file as a player does (B6): streams, frames, sound, place of the sound."""
    return check_output(video, frames, source_audio=audio)


def broken(check: OutputCheck) -> tuple[Finding, ...]:
    """Findings for which a file is made anew."""
    return tuple(f for f in check.findings if f.level == "error" and f.kind in _BROKEN)


def publish(temporary: Path, final: Path, facts: Mapping[str, Any], reached: Reached) -> Published:
    """Put a verified video under its final name with its sidecar. Blocks.

    Args:
        facts: of the sidecar; must hold ``key``. reached: told each step.

    Raises:
        NameTaken: the name is another file's.
        OSError: it could not be made durable (a full disk).
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    digest = fsync_and_hash(temporary)
    found = Published(final, digest, temporary.stat().st_size)
    reached("synced")
    note = temporary.with_suffix(".json")
    body = {"schema": SCHEMA, **facts, "sha256": digest, "bytes": found.bytes}
    with note.open("w", encoding="utf-8") as stream:
        json.dump(body, stream, ensure_ascii=False, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    reached("noted")
    _link(note, sidecar_of(final))
    reached("sidecar")
    _link(temporary, final)
    reached("linked")
    fsync_folder(final.parent)
    temporary.unlink()
    note.unlink()
    reached("published")
    return found


def adopt(final: Path, key: str, reached: Reached) -> tuple[Published, dict[str, Any]] | None:
    """The output that an earlier run published for this key, if it is whole. Reads all of it.

    A sidecar of ours whose video is missing is removed: its publication was cut short.
    """
    facts = read_sidecar(final)
    if facts is None or facts.get("key") != key:
        return None
    try:
        digest = file_digest(final)
    except FileNotFoundError:
        sidecar_of(final).unlink(missing_ok=True)
        return None
    except OSError:
        return None
    if digest != facts.get("sha256"):
        return None
    fsync_folder(final.parent)
    reached("adopted")
    return Published(final, digest, final.stat().st_size), facts


def read_sidecar(final: Path) -> dict[str, Any] | None:
    """What the sidecar of an output says; None if there is none that can be read."""
    try:
        body = json.loads(sidecar_of(final).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def taken(final: Path) -> str | None:
    """Why an output cannot get this name; None if it can. Ask ``adopt`` first."""
    for path in (final, sidecar_of(final)):
        if path.exists() or path.is_symlink():
            return sentence(
                "{path} is there already and is not this item's, or not whole; move "
                "it, or choose another folder",
                path=path,
            )
    return None


def sweep(work: Path) -> None:
    """Remove a batch's temporary folder, and the one it lies in, if nothing is left in them."""
    try:
        work.rmdir()
        work.parent.rmdir()
    except OSError:
        return  # in use by another batch, or not there


def _link(source: Path, name: Path) -> None:
    try:
        os.link(source, name)
    except FileExistsError as error:
        if os.path.samefile(source, name):  # noqa: PTH121 (of two paths, neither is the first)
            return
        raise NameTaken(str(taken(name))) from error

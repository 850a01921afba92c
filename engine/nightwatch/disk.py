"""Sees that a disk is about to be full before a clip is torn by it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.preflight import DISK_RESERVE
from engine.sentence import sentence

#: Clips that must still fit: the one that is written and the one after it.
_CLIPS: Final = 2

Usage = Callable[[Path], Any]


@dataclass(frozen=True)
class Trouble:
    """Why nothing more can be written into a folder. ``free``, ``needed``: bytes, None: unknown."""

    folder: Path
    sentence: str
    free: int | None = None
    needed: int | None = None


def trouble(
    folders: Iterable[Path], clip_bytes: int, usage: Usage = shutil.disk_usage
) -> Trouble | None:
    """The first folder that cannot take the next clips, None where all can.

    Args:
        folders: where a job writes.
        clip_bytes: of its largest clip so far; 0 before the first.
    """
    needed = DISK_RESERVE + _CLIPS * clip_bytes
    for folder in folders:
        there = next((p for p in (folder, *folder.parents) if p.exists()), None)
        if there is None:
            continue
        if not os.access(there, os.W_OK):
            return Trouble(
                there, sentence("{there} may not be written: read-only, or another's", there=there)
            )
        try:
            free = int(usage(there).free)
        except OSError as error:
            return Trouble(there, f"{there}: {error.strerror or error}")
        if free < needed:
            text = sentence(
                "the disk of {there} is nearly full: {free:.0f} MiB ({free2} bytes) are "
                "free, {needed:.0f} MiB are kept for what is being written",
                there=there,
                free=free / 2**20,
                free2=free,
                needed=needed / 2**20,
            )
            return Trouble(there, text, free, needed)
    return None


def largest_clip(segments: Path) -> int:
    """Bytes of the largest committed clip of a folder; 0 where there is none."""
    try:
        return max((p.stat().st_size for p in segments.glob("clip_*.mp4")), default=0)
    except OSError:
        return 0

"""What people send: kept under names of ours in a folder per ticket, within limits, for a while."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from engine.tree import files_below

MIB: Final = 2**20
IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
AUDIO: Final = frozenset({".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac"})
_TICKET: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_CHUNK: Final = 1 << 20


class UploadRefused(ValueError):  # noqa: N818 - says what happened
    """Too large, of an unknown kind, or there is no room; a sentence."""


@dataclass(frozen=True)
class Limits:
    """Of one upload, in bytes, and of all of them together."""

    image_bytes: int = 20 * MIB
    audio_bytes: int = 200 * MIB
    folder_bytes: int = 20 * 1024 * MIB
    keep_seconds: float = 7 * 86400.0


def is_ticket(text: str) -> bool:
    """Whether a text has the form of a ticket: nothing else ever becomes part of a path."""
    return _TICKET.fullmatch(text) is not None


class Uploads:
    """The folder of everything that came in, and of what goes out."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder, self.limits = folder, limits or Limits()
        self.videos = folder / "videos"
        for place in (folder, self.videos):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)

    def new(self) -> str:
        """A ticket that cannot be guessed, with its folder.

        Raises:
            UploadRefused: the folder is full.
        """
        self.tidy()
        held = sum(file.st_size for file in files_below(self.folder))
        if held > self.limits.folder_bytes:
            raise UploadRefused("the server keeps as much as it may; try again later")
        ticket = secrets.token_urlsafe(16)
        (self.folder / ticket).mkdir(mode=0o700)
        return ticket

    def take(self, ticket: str, what: str, name: str, source: BinaryIO) -> Path:
        """Keep one file; ``what`` is "image" or "audio". Nothing of ``name`` but its kind is used.

        Raises:
            UploadRefused: of a kind that is not known, or too large.
        """
        kinds, most = {
            "image": (IMAGES, self.limits.image_bytes),
            "audio": (AUDIO, self.limits.audio_bytes),
        }[what]
        suffix = Path(name).suffix.lower()
        if suffix not in kinds:
            raise UploadRefused(f"the {what} is of no known kind; send {', '.join(sorted(kinds))}")
        target = self.folder / ticket / f"{what}{suffix}"
        size = 0
        with target.open("xb") as out:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > most:
                    out.close()
                    target.unlink()
                    raise UploadRefused(f"the {what} is over {most // MIB} MiB")
                out.write(chunk)
        return target

    def video(self, ticket: str) -> Path:
        """Where a ticket's video will be."""
        return self.videos / f"{ticket}.mp4"

    def drop(self, ticket: str) -> None:
        """Forget what came in with a ticket."""
        if is_ticket(ticket):
            shutil.rmtree(self.folder / ticket, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what is older than it is kept."""
        before = time.time() - self.limits.keep_seconds
        for place in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
                if is_ticket(place.name) and place.stat().st_mtime < before:
                    self.drop(place.name)
                    self.video(place.name).unlink(missing_ok=True)

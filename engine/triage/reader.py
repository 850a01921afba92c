"""Bytes of a log, robustly → lines: any encoding error, any length, rotation and truncation."""

from __future__ import annotations

import codecs
import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final

from watchfiles import watch

from engine.sentence import sentence

CHUNK: Final = 1 << 18
#: A line is handed on in parts of at most so many bytes, so that one without an end takes no more.
PART: Final = 1 << 20
#: Changes are looked for so often where the file system tells of none (network mounts).
_POLL_MS: Final = 500
_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
#: How logs are packed that are not unpacked here.
_PACKED: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


class LineSplitter:
    """Bytes in any pieces → (text, whether a new line begins with it)."""

    def __init__(self) -> None:
        self._rest = b""
        self._inside = False  # a part of the present line was handed on already
        self._begun = False

    def push(self, data: bytes) -> Iterator[tuple[str, bool]]:
        """Complete lines, and full parts of a line that is too long to wait for."""
        if not self._begun and data:
            self._begun = True
            data = data.removeprefix(_BOM)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = b""
        for line in lines:
            yield from self._parts(line)
            self._inside = False
        while len(rest) > PART:
            yield self._text(rest[:PART])
            rest = rest[PART:]
        self._rest = rest

    def close(self) -> Iterator[tuple[str, bool]]:
        """The last line, if it has no end."""
        if self._rest:
            yield from self._parts(self._rest)
        self._rest = b""
        self._inside = False

    def _parts(self, line: bytes) -> Iterator[tuple[str, bool]]:
        if not line and self._inside:
            return
        yield self._text(line[:PART])
        for start in range(PART, len(line), PART):
            yield self._text(line[start : start + PART])

    def _text(self, data: bytes) -> tuple[str, bool]:
        fresh, self._inside = not self._inside, True
        return data.decode("utf-8", "replace").rstrip("\r"), fresh


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """What a stream gives, as soon as it gives it, until its end: a log's text.

    A rotated log (gzip) is unpacked, UTF-16 (with its mark) becomes UTF-8.

    Raises:
        OSError: it cannot be read, or is packed otherwise.
    """
    descriptor = stream.fileno()
    pieces = iter(lambda: os.read(descriptor, CHUNK), b"")
    first = next(pieces, b"")
    for mark, name in _PACKED.items():
        if first.startswith(mark):
            raise OSError(sentence("it is packed by {name}; unpack it first", name=name))
    whole = itertools.chain([first], pieces)
    if first.startswith(_GZIP):
        yield from _unzipped(whole)
    elif first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decode = codecs.getincrementaldecoder("utf-16")("replace").decode
        yield from (decode(data).encode("utf-8", "replace") for data in whole)
    else:
        yield from whole


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The text of gzip members, one after the other; of a cut off one what is there."""
    inside = zlib.decompressobj(wbits=31)
    try:
        for data in pieces:
            while data:
                yield inside.decompress(data, CHUNK)
                data = inside.unconsumed_tail or inside.unused_data
                if inside.eof:
                    inside = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise OSError(sentence("what is packed in it is damaged: {error}", error=error)) from error


def follow(path: Path, stop: Event) -> Iterator[bytes | None]:
    """A growing file's bytes until ``stop`` is set; None whenever it is quiet.

    A file that is renamed and made anew (rotation) is read to its end, then the new one from its
    start; one that is shorter than before is read from its start. One that is not there yet is
    waited for.

    Raises:
        OSError: the folder is not there, or the file may not be read.
    """
    held: BinaryIO | None = None
    try:
        wakes = watch(
            path.parent,
            stop_event=stop,
            yield_on_timeout=True,
            rust_timeout=_POLL_MS,
            debounce=100,
            step=20,
            recursive=False,
            raise_interrupt=True,
        )
        while True:
            if held is None:
                held = _opened(path)
            if held is not None:
                yield from _more(held)
                if _replaced(path, held):
                    yield from _more(held)
                    held.close()
                    held = None
                    continue
            yield None
            if stop.is_set() or next(wakes, None) is None:
                return
    finally:
        if held is not None:
            held.close()


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        return None


def _more(held: BinaryIO) -> Iterator[bytes]:
    if os.fstat(held.fileno()).st_size < held.tell():
        held.seek(0)
    while data := held.read(CHUNK):
        yield data


def _replaced(path: Path, held: BinaryIO) -> bool:
    """Whether another file lies at the path now. A missing one is about to be made anew."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    before = os.fstat(held.fileno())
    return (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino)

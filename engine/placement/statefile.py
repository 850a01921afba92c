"""A file of a job's state: safetensors with a fixed layout, written in place slot by slot.

Keys and values of a ring, or latents under way, lie in *slots* along the first axis of every
tensor; the tensor ``tags`` says which block a slot holds (−1: none, or one being written). A slot
is written between two writes of its tag, so what a kill tears is never taken for whole. The files
outlive their writers: in shared memory while a job runs, on disk when it is paused. No torch here:
the engine reads the tags to say where a job can go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from engine.sentence import sentence

_PAGE: Final = 4096
_TAGS: Final = "tags"
_TAG: Final = struct.Struct("<q")
#: What a slot's tag says while it holds no whole block.
EMPTY: Final = -1
_HEADER_LIMIT: Final = 8 << 20


class StateFileError(ValueError):
    """A file that is no state, or is damaged: a job cannot go on from it."""


@dataclass(frozen=True)
class Entry:
    """A tensor of a state file. ``offset`` counts from the file's beginning."""

    dtype: str  # as safetensors writes it: "F32", "BF16" …
    shape: tuple[int, ...]  # the first axis counts slots
    offset: int
    nbytes: int

    @property
    def slot_nbytes(self) -> int:
        return self.nbytes // self.shape[0]


class StateFile:
    """An open state file. Use ``create`` or ``open``; leave it by ``close`` or ``with``."""

    def __init__(
        self, path: Path, descriptor: int, entries: dict[str, Entry], metadata: dict[str, str]
    ) -> None:
        self.path, self.descriptor = path, descriptor
        self.entries, self.metadata = entries, metadata

    @classmethod
    def create(
        cls,
        path: Path,
        slots: int,
        tensors: Mapping[str, tuple[str, tuple[int, ...], int]],
        metadata: Mapping[str, str] | None = None,
    ) -> Self:
        """A new file with empty slots, its memory taken at once; or the one of that very layout.

        Args:
            tensors: name → dtype, shape of one slot, bytes of one slot.

        Raises:
            OSError: it cannot be made; ENOSPC where its folder has no room for it.
        """
        header, entries = _layout(slots, tensors, metadata or {})
        with contextlib.suppress(OSError, StateFileError):
            known = cls.open(path, writable=True)
            if (known.entries, known.metadata) == (entries, dict(metadata or {})):
                return known
            known.close()
        temporary = path.with_name(f"{path.name}.new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        made = cls(path, descriptor, entries, dict(metadata or {}))
        try:
            os.posix_fallocate(descriptor, 0, max(e.offset + e.nbytes for e in entries.values()))
            os.pwrite(descriptor, header, 0)
            made.clear()
            temporary.rename(path)
        except OSError:
            made.close()
            temporary.unlink(missing_ok=True)
            raise
        return made

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Self:
        """A file that is there.

        Raises:
            OSError: it cannot be opened. StateFileError: it is no state file, or cut short.
        """
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            entries, metadata = _read_header(path, descriptor)
            return cls(path, descriptor, entries, metadata)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def slots(self) -> int:
        return self.entries[_TAGS].shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return max(e.offset + e.nbytes for e in self.entries.values())

    @property
    def tags(self) -> tuple[int, ...]:
        """What each slot holds: a block's number (of a clip boundary in the VAE's), or EMPTY."""
        entry = self.entries[_TAGS]
        raw = os.pread(self.descriptor, entry.nbytes, entry.offset)
        return struct.unpack(f"<{self.slots}q", raw)

    def holds(self, number: int) -> bool:
        """Whether the slot of ``number`` holds it, whole."""
        return self.tags[number % self.slots] == number

    def tag(self, slot: int, number: int) -> None:
        """Say what a slot holds; the last write of a slot, and (EMPTY) the first."""
        os.pwrite(self.descriptor, _TAG.pack(number), self.entries[_TAGS].offset + _TAG.size * slot)

    def clear(self) -> None:
        """Every slot is empty."""
        for slot in range(self.slots):
            self.tag(slot, EMPTY)

    def place(self, name: str, slot: int) -> tuple[int, int]:
        """Where a slot of a tensor lies: offset and bytes."""
        entry = self.entries[name]
        return entry.offset + slot * entry.slot_nbytes, entry.slot_nbytes

    def write(self, name: str, slot: int, data: memoryview) -> None:
        """Put bytes into a slot of a tensor (between two calls of ``tag``)."""
        offset, size = self.place(name, slot)
        if data.nbytes != size:
            raise ValueError(
                sentence("{nbytes} bytes for a slot of {size}", nbytes=data.nbytes, size=size)
            )
        done = 0
        while done < size:
            done += os.pwrite(self.descriptor, data[done:], offset + done)

    def read(self, name: str, slot: int, into: memoryview) -> None:
        """Fill ``into`` from a slot of a tensor.

        Raises:
            StateFileError: the file ends before.
        """
        offset, size = self.place(name, slot)
        if into.nbytes != size:
            raise ValueError(
                sentence("{nbytes} bytes for a slot of {size}", nbytes=into.nbytes, size=size)
            )
        done = 0
        while done < size:
            got = os.preadv(self.descriptor, [into[done:]], offset + done)
            if not got:
                raise StateFileError(
                    sentence("{path} ends within {name}", path=self.path, name=name)
                )
            done += got

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _layout(
    slots: int,
    tensors: Mapping[str, tuple[str, tuple[int, ...], int]],
    metadata: Mapping[str, str],
) -> tuple[bytes, dict[str, Entry]]:
    sizes = {_TAGS: ("I64", (slots,), _TAG.size * slots)} | {
        name: (dtype, (slots, *shape), slots * size)
        for name, (dtype, shape, size) in tensors.items()
    }
    described: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, whole, size) in sizes.items():
        described[name] = {"dtype": dtype, "shape": list(whole), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _PAGE)  # safetensors allows spaces; data starts on a page
    start = 8 + len(text)
    return struct.pack("<Q", len(text)) + text, _entries(described, start)


def _entries(described: Mapping[str, Any], start: int) -> dict[str, Entry]:
    return {
        name: Entry(
            str(one["dtype"]),
            tuple(int(n) for n in one["shape"]),
            start + int(one["data_offsets"][0]),
            int(one["data_offsets"][1]) - int(one["data_offsets"][0]),
        )
        for name, one in described.items()
        if name != "__metadata__"
    }


def _read_header(path: Path, descriptor: int) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        (length,) = struct.unpack("<Q", os.pread(descriptor, 8, 0))
        if length > _HEADER_LIMIT:
            raise StateFileError(sentence("{path} is no state of a job", path=path))
        described = json.loads(os.pread(descriptor, length, 8))
        entries = _entries(described, 8 + length)
        metadata = {str(k): str(v) for k, v in described.get("__metadata__", {}).items()}
        tags, end = entries[_TAGS], max(e.offset + e.nbytes for e in entries.values())
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise StateFileError(
            sentence("{path} is no state of a job: {error}", path=path, error=error)
        ) from error
    if tags.nbytes != _TAG.size * tags.shape[0] or os.fstat(descriptor).st_size < end:
        raise StateFileError(
            sentence("{path} is damaged: it is shorter than its header says", path=path)
        )
    return entries, metadata

"""Safetensors headers, read with bounded memory and time. No torch, no trust.

The format: 8 bytes little-endian header length, a JSON object (name → dtype, shape, data_offsets),
then the tensors' bytes without holes. The specification's limit of 100 MB for the header is held;
a header is taken apart entry by entry, so a hostile one cannot make the parser build a large tree.

Format: https://github.com/huggingface/safetensors (section "Format").
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.errors import CheckpointError
from engine.sentence import joined, sentence

#: Largest header the specification allows, in bytes.
HEADER_LIMIT: Final = 100_000_000
#: More tensors than this in one file is refused; the largest known models have a few thousand.
TENSOR_LIMIT: Final = 100_000
_ENTRY_LIMIT: Final = 4096  # bytes of one tensor's entry, name excluded
_NAME_LIMIT: Final = 1024
_METADATA_LIMIT: Final = 4_000_000
_SIZE_LIMIT: Final = 1 << 62

#: Bits per element of every dtype of the format.
DTYPE_BITS: Final[dict[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}

DOWNLOAD_AGAIN: Final = sentence("download this file again and compare its size with the source")

# Possessive quantifiers keep matching linear in time and flat in memory.
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
_FLAT_OBJECT = re.compile(rb'\{(?:[^"{}]++|"(?:[^"\\\x00-\x1f]++|\\.)*+")*+\}')
_SPACE = re.compile(rb"[ \t\r\n]*+")


class HeaderError(CheckpointError):
    """A safetensors file whose header or layout cannot be trusted."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: ``offset`` counts from the start of ``file``; sizes in bytes."""

    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int
    bytes: int

    @property
    def params(self) -> int:
        return math.prod(self.shape)

    def rows(self, begin: int, end: int) -> TensorInfo:
        """The part of it with these indices in its first dimension."""
        each = self.bytes // self.shape[0]
        shape = (end - begin, *self.shape[1:])
        return replace(
            self, shape=shape, offset=self.offset + begin * each, bytes=(end - begin) * each
        )


@dataclass(frozen=True, slots=True)
class Header:
    """One file's tensors, in the order of the header."""

    file: str
    size: int
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(path: Path | str) -> Header:
    """Read and check one file's header; at most ``HEADER_LIMIT`` bytes are read.

    Raises:
        HeaderError: anything that makes the file unusable, told with its remedy.
    """
    where = str(path)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - str and Path alike
            size = os.fstat(file.fileno()).st_size
            length = _length(where, size, file.read(8))
            raw = file.read(length)
    except OSError as error:
        raise HeaderError(
            sentence("cannot be read"),
            where=where,
            why=error.strerror or str(error),
            remedy=sentence("check that the file exists and that this user may read it"),
        ) from error
    if len(raw) != length:
        raise _truncated(
            where,
            sentence(
                "its header should have {length} bytes, {raw} are there",
                length=length,
                raw=len(raw),
            ),
        )
    return _parse(where, size, raw)


def _truncated(where: str, why: str) -> HeaderError:
    return HeaderError(sentence("truncated file"), where=where, why=why, remedy=DOWNLOAD_AGAIN)


def _length(where: str, size: int, first: bytes) -> int:
    if size == 0:
        raise _truncated(where, sentence("it is empty"))
    # A length within the limit has zeros in its upper half; text has none.
    text = not first.endswith(bytes(4))
    if text and first.startswith(b"version "):
        raise HeaderError(
            sentence("a Git LFS pointer, not the weights"),
            where=where,
            why=sentence("it has only {size} bytes", size=size),
            remedy=sentence("run `git lfs pull` in the repository, or download the file itself"),
        )
    if text and first.lstrip()[:1] == b"<":
        raise HeaderError(
            sentence("a web page, not the weights"),
            where=where,
            why=sentence("it begins with '<'"),
            remedy=sentence(
                "the download was answered by a page (login or error); download it again"
            ),
        )
    if len(first) < 8:
        raise _truncated(
            where, sentence("{size} bytes are too few for a safetensors file", size=size)
        )
    length: int = struct.unpack("<Q", first)[0]
    if length > HEADER_LIMIT:
        raise HeaderError(
            sentence("oversized header"),
            where=where,
            why=sentence(
                "it claims {length:,} bytes, the format allows {header_limit:,}",
                length=length,
                header_limit=HEADER_LIMIT,
            ),
            remedy=joined(
                (sentence("this is no safetensors file, or it is damaged"), DOWNLOAD_AGAIN)
            ),
        )
    if length + 8 > size:
        raise _truncated(
            where,
            sentence("header of {length:,} bytes in a file of {size:,}", length=length, size=size),
        )
    return length


class _Reader:
    """A cursor over the header's bytes that accepts the format's grammar and nothing else."""

    def __init__(self, where: str, raw: bytes) -> None:
        self.where, self.raw, self.at = where, raw, 0

    def bad(self, why: str, tensor: str | None = None) -> HeaderError:
        return HeaderError(
            sentence("damaged header"),
            where=self.where,
            why=why,
            tensor=tensor,
            remedy=DOWNLOAD_AGAIN,
        )

    def skip(self) -> None:
        match = _SPACE.match(self.raw, self.at)
        self.at = match.end() if match else self.at

    def take(self, byte: bytes) -> bool:
        self.skip()
        if self.raw[self.at : self.at + 1] != byte:
            return False
        self.at += 1
        return True

    def expect(self, byte: bytes) -> None:
        if not self.take(byte):
            raise self.bad(
                sentence("{decode!r} expected at byte {at}", decode=byte.decode(), at=self.at + 8)
            )

    def name(self) -> str:
        self.skip()
        match = _STRING.match(self.raw, self.at)
        if match is None:
            raise self.bad(sentence("a tensor name expected at byte {at}", at=self.at + 8))
        if match.end() - match.start() > _NAME_LIMIT:
            raise self.bad(
                sentence("a tensor name longer than {name_limit} bytes", name_limit=_NAME_LIMIT)
            )
        self.at = match.end()
        try:
            return str(json.loads(match.group()))
        except ValueError as error:
            raise self.bad(
                sentence("a tensor name that is no text at byte {start}", start=match.start() + 8)
            ) from error

    def entry(self, name: str) -> dict[str, Any]:
        """The flat object after a name; nesting, oversize and duplicate keys are refused."""
        self.skip()
        match = _FLAT_OBJECT.match(self.raw, self.at)
        if match is None:
            raise self.bad(
                sentence("its entry is not a flat JSON object (nested or cut off)"), name
            )
        limit = _METADATA_LIMIT if name == "__metadata__" else _ENTRY_LIMIT
        if match.end() - match.start() > limit:
            raise self.bad(sentence("its entry is longer than {limit} bytes", limit=limit), name)
        self.at = match.end()
        try:
            pairs = json.loads(match.group(), object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            raise self.bad(
                sentence("its entry is no JSON ({error})", error=type(error).__name__), name
            ) from error
        found = dict(pairs)
        if len(found) != len(pairs):
            raise self.bad(sentence("duplicate keys in its entry"), name)
        return found


def _parse(where: str, size: int, raw: bytes) -> Header:
    reader = _Reader(where, raw)
    start = 8 + len(raw)
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    seen_metadata = False
    reader.expect(b"{")
    if not reader.take(b"}"):
        while True:
            name = reader.name()
            reader.expect(b":")
            if name in tensors or (name == "__metadata__" and seen_metadata):
                raise reader.bad(sentence("the name occurs twice"), name)
            entry = reader.entry(name)
            if name == "__metadata__":
                seen_metadata = True
                metadata = _metadata(reader, entry)
            else:
                tensors[name] = _tensor(reader, name, entry, start)
            if len(tensors) > TENSOR_LIMIT:
                raise reader.bad(
                    sentence("more than {tensor_limit:,} tensors", tensor_limit=TENSOR_LIMIT)
                )
            if reader.take(b"}"):
                break
            reader.expect(b",")
    reader.skip()
    if reader.at != len(raw):
        raise reader.bad(
            sentence("something follows the JSON object at byte {at}", at=reader.at + 8)
        )
    _check_coverage(where, start, size, tensors)
    return Header(where, size, tensors, metadata)


def _metadata(reader: _Reader, entry: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in entry.values()):
        raise reader.bad(sentence("__metadata__ holds something that is no text"))
    return entry


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _SIZE_LIMIT


def _tensor(reader: _Reader, name: str, entry: dict[str, Any], start: int) -> TensorInfo:
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise reader.bad(sentence("its entry needs exactly dtype, shape and data_offsets"), name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise HeaderError(
            sentence("unknown dtype"),
            where=reader.where,
            why=f"{str(dtype)[:40]!r}",
            tensor=name,
            remedy=joined((sentence("the file is damaged or of a newer format"), DOWNLOAD_AGAIN)),
        )
    if not isinstance(shape, list) or len(shape) > 16 or not all(_is_count(n) for n in shape):
        raise reader.bad(sentence("its shape is not a list of sizes"), name)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        raise reader.bad(sentence("its data_offsets are not two positions"), name)
    begin, end = offsets
    expected = math.prod(shape) * DTYPE_BITS[dtype] // 8
    if end < begin:
        raise _out_of_range(
            reader.where,
            name,
            sentence("it ends ({end:,}) before it begins ({begin:,})", end=end, begin=begin),
        )
    if end - begin != expected:
        raise _out_of_range(
            reader.where,
            name,
            sentence(
                "{dtype} {shape} needs {expected:,} bytes, its offsets span {end:,}",
                dtype=dtype,
                shape=str(shape),
                expected=expected,
                end=end - begin,
            ),
        )
    return TensorInfo(dtype, tuple(shape), reader.where, start + begin, end - begin)


def _out_of_range(where: str, name: str, why: str) -> HeaderError:
    return HeaderError(
        sentence("offsets out of range"), where=where, why=why, tensor=name, remedy=DOWNLOAD_AGAIN
    )


def _check_coverage(where: str, start: int, size: int, tensors: dict[str, TensorInfo]) -> None:
    """Tensors must follow each other without overlap or hole, up to the end of the file."""
    at, before = start, ""
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].bytes)):
        if info.offset < at:
            raise HeaderError(
                sentence("overlapping tensors"),
                where=where,
                why=sentence(
                    "it begins {at:,} bytes before {before} ends",
                    at=at - info.offset,
                    before=before,
                ),
                tensor=name,
                remedy=DOWNLOAD_AGAIN,
            )
        if info.offset > at:
            beyond = next((n for n, t in tensors.items() if t.offset + t.bytes > size), None)
            if beyond is not None:
                end = tensors[beyond].offset + tensors[beyond].bytes
                why = sentence("it ends at byte {end:,}, the file has {size:,}", end=end, size=size)
                raise _out_of_range(where, beyond, why)
            raise _out_of_range(
                where,
                name,
                sentence("{offset:,} bytes before it belong to none", offset=info.offset - at),
            )
        at, before = info.offset + info.bytes, name
    if at > size:
        raise _truncated(
            where, sentence("its tensors need {at:,} bytes, it has {size:,}", at=at, size=size)
        )
    if at != size:
        raise HeaderError(
            sentence("bytes that belong to no tensor"),
            where=where,
            why=sentence("{size:,} bytes after the last one", size=size - at),
            remedy=DOWNLOAD_AGAIN,
        )

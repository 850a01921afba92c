"""Writes PyTorch's zip file of a state dict without torch, and checks such a zip's directory.

A ``.pth`` is a zip of stored records: a pickle that rebuilds tensors from numbered storages, the
storages, a version and the byte order. Writing it by hand keeps memory bounded, whatever the size.
Reading tensors is never done here: that is torch's work, with ``weights_only=True``.

Format: torch/serialization.py and caffe2/serialize of PyTorch.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.header import DOWNLOAD_AGAIN
from engine.sentence import joined, sentence

_STORAGES: Final = {"BF16": "BFloat16Storage", "F32": "FloatStorage", "F16": "HalfStorage"}
_ALIGNMENT: Final = 64
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_ITEMSIZE: Final = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class Record:
    """One stored entry of the zip: its local header begins at ``start``, its bytes at ``data``."""

    name: str
    start: int
    data: int
    size: int


@dataclass(frozen=True)
class PthPlan:
    """Positions of everything in the file to be written."""

    small: dict[str, bytes]  # record name → content known now
    records: tuple[Record, ...]
    tensors: dict[str, Record]  # tensor → its storage's record
    directory: int  # where the central directory begins


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value: int) -> bytes:
    if value < 0x80000000:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_number(value) for value in values) + b"t"


def _state_dict_pickle(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The pickle (protocol 2) of name → tensor; storages by persistent id "0", "1", …."""
    out = [b"\x80\x02}("]
    for number, (name, (dtype, shape)) in enumerate(tensors.items()):
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        storage = b"ctorch\n" + _STORAGES[dtype].encode() + b"\n"
        out.append(
            _text(name)
            + b"ctorch._utils\n_rebuild_tensor_v2\n("
            + b"("
            + _text("storage")
            + storage
            + _text(str(number))
            + _text("cpu")
            + _number(math.prod(shape))
            + b"tQ"
            + _number(0)
            + _tuple(shape)
            + _tuple(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR"
        )
    return b"".join(out) + b"u."


def plan_pth(archive: str, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> PthPlan:
    """Lay out the file of ``tensors`` (name → dtype, shape); storages start 64-byte aligned."""
    body = _state_dict_pickle(tensors)
    pickle_name, order_name = f"{archive}/data.pkl", f"{archive}/byteorder"
    small = {pickle_name: body, order_name: b"little", f"{archive}/version": b"3\n"}
    sizes = {pickle_name: len(body), order_name: 6}
    storages: dict[str, str] = {}
    for number, (name, (dtype, shape)) in enumerate(tensors.items()):
        storages[name] = f"{archive}/data/{number}"
        sizes[storages[name]] = math.prod(shape) * _ITEMSIZE[dtype]
    sizes[f"{archive}/version"] = 2
    records: dict[str, Record] = {}
    at = 0
    for name, size in sizes.items():
        data = at + _LOCAL.size + len(name) + 4
        data += -data % _ALIGNMENT
        records[name] = Record(name, at, data, size)
        at = data + size
    return PthPlan(
        small,
        tuple(records.values()),
        {name: records[storage] for name, storage in storages.items()},
        at,
    )


def local_header(record: Record, crc: int) -> bytes:
    """The bytes from ``record.start`` up to ``record.data``."""
    padding = record.data - record.start - _LOCAL.size - len(record.name)
    fields = (0, 0, 0, 0, 0x21, crc, record.size, record.size, len(record.name), padding)
    extra = b"FB" + struct.pack("<H", padding - 4) + b"Z" * (padding - 4)
    return _LOCAL.pack(b"PK\x03\x04", *fields) + record.name.encode() + extra


def central_directory(plan: PthPlan, crcs: Mapping[str, int]) -> bytes:
    """Everything from ``plan.directory`` to the end of the file, in zip64 form where needed."""
    entries = []
    for record in plan.records:
        large = record.start > 0xFFFFFFFE
        extra = struct.pack("<HHQ", 1, 8, record.start) if large else b""
        fixed = (0, 45 if large else 0, 0, 0, 0, 0x21, crcs[record.name], record.size, record.size)
        tail = (len(record.name), len(extra), 0, 0, 0, 0, 0xFFFFFFFF if large else record.start)
        entries.append(_CENTRAL.pack(b"PK\x01\x02", *fixed, *tail) + record.name.encode() + extra)
    body = b"".join(entries)
    count, at = len(entries), plan.directory
    end64 = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(body), at
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at + len(body), 1)
    end = struct.pack(
        "<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(body), min(at, 0xFFFFFFFF), 0
    )
    return body + end64 + locator + end


def check_pth(path: Path) -> None:
    """Refuse a ``.pth`` whose zip cannot be whole: directory, records' ranges, the pickle's CRC.

    Contents are not unpickled; the only record read is the small ``data.pkl``.

    Raises:
        CheckpointError: told with its remedy.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            first = file.read(16)
    except OSError as error:
        raise CheckpointError(
            sentence("cannot be read"),
            where=where,
            why=error.strerror or str(error),
            remedy=sentence("check that the file exists and that this user may read it"),
        ) from error
    if first.startswith(b"version "):
        raise CheckpointError(
            sentence("a Git LFS pointer, not the weights"),
            where=where,
            remedy=sentence("run `git lfs pull` in the repository, or download the file itself"),
        )
    if first.lstrip()[:1] == b"<":
        raise CheckpointError(
            sentence("a web page, not the weights"),
            where=where,
            remedy=sentence(
                "the download was answered by a page (login or error); download it again"
            ),
        )
    if first[:2] != b"PK":
        legacy = first[:1] == pickle.PROTO
        raise CheckpointError(
            sentence("an old-style pickle, not PyTorch's zip format")
            if legacy
            else sentence("not a PyTorch file"),
            where=where,
            remedy=sentence("save it again in the zip format") if legacy else DOWNLOAD_AGAIN,
        )
    try:
        with zipfile.ZipFile(path) as archive:
            _check_records(where, archive)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            sentence("damaged or truncated .pth (zip directory)"),
            where=where,
            why=str(error)[:200],
            remedy=DOWNLOAD_AGAIN,
        ) from error


def _check_records(where: str, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(
            sentence("no PyTorch state dict"),
            where=where,
            why=sentence("no data.pkl in it"),
            remedy=DOWNLOAD_AGAIN,
        )
    if pickles[0].file_size > 64_000_000:
        raise CheckpointError(
            sentence("oversized data.pkl"),
            where=where,
            remedy=joined((sentence("this is no state dict"), DOWNLOAD_AGAIN)),
        )
    archive.read(pickles[0])  # checks its CRC
    for entry in entries:
        with archive.open(entry):  # checks the local header against the directory
            pass

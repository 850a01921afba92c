"""Is a header read rightly, and a hostile one refused in bounded memory and time?"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.checkpoint.header import HEADER_LIMIT, HeaderError, read_header

A: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
B: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}


def write(path: Path, header: bytes | dict[str, Any], data: int = 12, length: int = -1) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(raw) if length < 0 else length
    path.write_bytes(struct.pack("<Q", size) + raw + bytes(data))
    return path


def test_it_reads_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "ü\n": np.zeros(0, np.float16)}
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"alpha": "64"})
    header = read_header(path)
    assert header.metadata == {"alpha": "64"}
    info = header.tensors["a"]
    raw = path.read_bytes()[info.offset : info.offset + info.bytes]
    assert raw == tensors["a"].tobytes()
    assert header.tensors["ü\n"].shape == (0,)


BAD = {
    "huge length": (b"{}", 0, 1 << 62, "oversized header"),
    "over the limit": (b"{}", 0, HEADER_LIMIT + 1, "oversized header"),
    "beyond the file": (b"{}", 0, 5000, "truncated"),
    "no object": (b"[]", 0, -1, "damaged header"),
    "cut off": (b'{"a":{"dtype":"F32"', 0, -1, "damaged header"),
    "trailing": (b"{} {}", 0, -1, "damaged header"),
    "deep nesting": (b'{"a":' + b"[" * 3_000_000, 0, -1, "flat"),
    "deep object": (b'{"a":' * 500_000, 0, -1, "flat"),
    "deep in an entry": (
        b'{"a":{"shape":' + b"[" * 2000 + b"]" * 2000 + b"}}", 0, -1, "damaged header",
    ),
    "huge entry": (b'{"a":{"shape":[' + b"1," * 3_000_000 + b"1]}}", 0, -1, "longer than"),
    "huge name": (b'{"' + b"a" * 5_000_000 + b'":{}}', 0, -1, "longer than"),
    "open string": (b'{"' + b"a" * 5_000_000, 0, -1, "name expected"),
    "bad escape": (b'{"\\x":{}}', 0, -1, "no text"),
    "not utf-8": (b'{"\xff\xfe":{}}', 0, -1, "no text"),
    "unknown dtype": ({"a": {**A, "dtype": "Q4"}}, 8, -1, "unknown dtype"),
    "negative size": ({"a": {**A, "shape": [-2]}}, 8, -1, "shape"),
    "huge number": (
        b'{"a":{"dtype":"F32","data_offsets":[0,8],"shape":[' + b"9" * 4000 + b"]}}", 8, -1, "shape"
    ),
    "huge product": ({"a": {**A, "shape": [1 << 40, 1 << 40]}}, 8, -1, "needs"),
    "bool as size": ({"a": {**A, "shape": [True]}}, 8, -1, "shape"),
    "backwards": ({"a": {**A, "data_offsets": [8, 0]}}, 8, -1, "before it begins"),
    "size differs": ({"a": {**A, "data_offsets": [0, 4]}}, 4, -1, "out of range"),
    "overlap": ({"a": A, "b": {**B, "data_offsets": [4, 8]}}, 8, -1, "overlapping"),
    "hole": ({"a": A, "b": {**B, "data_offsets": [12, 16]}}, 16, -1, "belong to none"),
    "out of range": ({"a": A, "b": {**B, "data_offsets": [999, 1003]}}, 12, -1, "out of range"),
    "truncated data": ({"a": A, "b": B}, 10, -1, "truncated"),
    "surplus data": ({"a": A, "b": B}, 13, -1, "belong to no tensor"),
    "missing field": ({"a": {"dtype": "F32", "shape": [2]}}, 8, -1, "exactly dtype"),
    "metadata number": ({"__metadata__": {"a": 1}, "a": A}, 8, -1, "no text"),
    "duplicate tensor": (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8, -1, "occurs twice",
    ),
    "duplicate field": (
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8, -1, "duplicate",
    ),
    "duplicate metadata": (b'{"__metadata__":{},"__metadata__":{}}', 0, -1, "occurs twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_header_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    header, data, length, told = BAD[name]
    path = write(tmp_path / "x.safetensors", header, data, length)
    with pytest.raises(HeaderError, match=told) as caught:
        read_header(path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"abc", "too few"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
    ],
)
def test_what_is_no_safetensors_file_at_all_is_named(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(HeaderError, match=told):
        read_header(path)


def test_hostile_headers_of_the_largest_size_stay_within_memory(tmp_path: Path) -> None:
    """Each of 60 MB: read in a child whose address space is limited."""
    entry = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    many = b"{" + b"".join(entry % n for n in range(1_000_000))
    nested = b'{"a":' * 12_000_000
    spaces = b"{" + b" " * 60_000_000
    paths = [
        str(write(tmp_path / f"{n}.safetensors", raw, 0))
        for n, raw in enumerate((many, nested, spaces))
    ]
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from engine.checkpoint.header import HeaderError, read_header\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_header(path)\n"
        "    except HeaderError as error:\n"
        "        print(error.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["damaged header"] * 3, done.stderr

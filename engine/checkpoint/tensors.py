"""Every tensor of a checkpoint as one list, to search in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import part_of
from engine.checkpoint.header import DTYPE_BITS, read_header
from engine.checkpoint.inspect import Lists, encoder_files
from engine.checkpoint.layout import Layout


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor: where it belongs, what it is, which file holds it. ``bytes`` as stored."""

    component: str
    part: str  # of the DiT; empty elsewhere
    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    file: str


def tensors(layout: Layout, lists: Lists | None = None) -> list[TensorRow]:
    """All tensors, the DiT's first, in the files' order.

    Args:
        lists: tensors of ``.pth`` files (``list_pth``); files that it lacks are left out.

    Raises:
        CheckpointError: a damaged safetensors file.
    """
    rows = [row for path in layout.dit_files for row in _headers("dit", path)]
    for component, path in encoder_files(layout).items():
        if path.suffix == ".safetensors":
            rows += _headers(component, path)
            continue
        found = (lists or {}).get(path)
        if found is None or isinstance(found, CheckpointError):
            continue
        for name, tensor in found.items():
            size = math.prod(tensor.shape) * DTYPE_BITS.get(tensor.dtype, 8) // 8
            rows.append(TensorRow(component, "", name, tensor.dtype, tensor.shape, size, path.name))
    if layout.lora is not None:
        rows += _headers("lora", layout.lora)
    return rows


def _headers(component: str, path: Path) -> Iterator[TensorRow]:
    for name, info in read_header(path).tensors.items():
        part = part_of(name) if component == "dit" else ""
        yield TensorRow(component, part, name, info.dtype, info.shape, info.bytes, path.name)

"""What a checkpoint holds: components, parts of the DiT, tensors, bytes, dtypes, shards.

Safetensors headers only, so it is instant at any size; ``.pth`` lists come from a short child.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import PARTS, DiTShape, part_of, unit_of
from engine.checkpoint.header import DTYPE_BITS, Header, read_header
from engine.checkpoint.layout import Layout
from engine.checkpoint.pthlist import PthTensor, list_pth
from engine.checkpoint.shapes import DIT_14B

#: What is counted of one tensor: its name, dtype and shape.
Counted = tuple[str, str, tuple[int, ...]]

_FAMILY: Final = "Wan2.2-S2V"


@dataclass(frozen=True)
class Part:
    """A part of the DiT."""

    name: str
    tensors: int
    params: int
    bytes: int


@dataclass(frozen=True)
class Shard:
    """One DiT file: its size on disk and which units of the model lie in it."""

    file: str
    tensors: int
    bytes: int
    holds: tuple[str, ...]


@dataclass(frozen=True)
class Component:
    """One component. What was not read (``.pth`` with headers only) is ``None``.

    ``bytes`` are the tensors' bytes, or the files' where tensors are unknown; ``dtypes`` counts
    tensors.
    """

    name: str
    files: tuple[str, ...]
    tensors: int | None
    params: int | None
    bytes: int
    file_bytes: int
    dtypes: dict[str, int] | None
    parts: tuple[Part, ...] = ()
    shards: tuple[Shard, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """The whole report, as ``avatop ckpt inspect --json`` prints it."""

    dir: str
    family: str
    components: tuple[Component, ...]
    missing: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


#: Tensors of ``.pth`` files, as ``list_pth`` gives them.
Lists = Mapping[Path, dict[str, PthTensor] | CheckpointError]


def inspect(
    layout: Layout, *, headers_only: bool = False, lists: Lists | None = None
) -> Inspection:
    """Look at every component that is there.

    Args:
        lists: the tensors of its ``.pth`` files, where they have been asked for already.

    Raises:
        CheckpointError: an unreadable configuration or a damaged file.
    """
    shape = DiTShape.from_config(layout.config, str(layout.config_file))
    components: list[Component] = []
    if layout.dit_files:
        components.append(_dit(layout, shape))
    if lists is None:
        lists = {} if headers_only else list_pth(pickles(layout))
    components += _encoders(layout, lists)
    if layout.tokenizer is not None:
        files = sorted(path for path in layout.tokenizer.iterdir() if path.is_file())
        size = sum(path.stat().st_size for path in files)
        names = tuple(_relative(path, layout.root) for path in files)
        components.append(Component("tokenizer", names, None, None, size, size, None))
    if layout.lora is not None:
        components.append(_counted("lora", [layout.lora], layout.root, _of(layout.lora)))
    return Inspection(
        dir=str(layout.root),
        family=family(layout.config, shape),
        components=tuple(components),
        missing={name: str(path) for name, path in layout.missing.items()},
        config=layout.config,
    )


def family(config: Mapping[str, Any], shape: DiTShape) -> str:
    """``Wan2.2-S2V-14B`` for the released shape, the same without the size for others."""
    if config.get("model_type", "s2v") != "s2v":
        return str(config["model_type"])
    same = shape == DiTShape.from_config(DIT_14B)
    return f"{_FAMILY}-14B" if same else _FAMILY


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _of(path: Path) -> list[Counted]:
    return [(name, info.dtype, info.shape) for name, info in read_header(path).tensors.items()]


def _bytes(tensor: Counted) -> int:
    return math.prod(tensor[2]) * DTYPE_BITS.get(tensor[1], 8) // 8


def _totals(tensors: Iterable[Counted]) -> tuple[int, int, int, dict[str, int]]:
    """Tensors, parameters, bytes, tensors by dtype."""
    rows = list(tensors)
    dtypes = dict(Counter(dtype for _, dtype, _ in rows).most_common())
    return len(rows), sum(math.prod(row[2]) for row in rows), sum(map(_bytes, rows)), dtypes


def _counted(name: str, files: list[Path], root: Path, tensors: list[Counted]) -> Component:
    count, params, size, dtypes = _totals(tensors)
    names = tuple(_relative(path, root) for path in files)
    on_disk = sum(path.stat().st_size for path in files)
    return Component(name, names, count, params, size, on_disk, dtypes)


def _dit(layout: Layout, shape: DiTShape) -> Component:
    headers = [read_header(path) for path in layout.dit_files]
    tensors = [
        (name, info.dtype, info.shape) for head in headers for name, info in head.tensors.items()
    ]
    by_part: dict[str, list[Counted]] = {part: [] for part, _ in PARTS}
    for tensor in tensors:
        by_part.setdefault(part_of(tensor[0]), []).append(tensor)
    parts = tuple(Part(part, *_totals(rows)[:3]) for part, rows in by_part.items() if rows)
    base = _counted("dit", list(layout.dit_files), layout.root, tensors)
    shards = tuple(_shard(head, shape) for head in headers)
    return dataclasses.replace(base, parts=parts, shards=shards)


def _shard(header: Header, shape: DiTShape) -> Shard:
    units = list(dict.fromkeys(unit_of(name, shape) for name in header.tensors))
    return Shard(Path(header.file).name, len(header.tensors), header.size, _ranges(units))


def _ranges(units: list[str]) -> tuple[str, ...]:
    """``layer 0``, ``layer 1``, ``layer 2`` → ``layers 0–2``; the root first."""
    numbers: dict[str, list[int]] = {}
    for unit in units:
        kind, _, number = unit.partition(" ")
        numbers.setdefault(kind, []).append(int(number or 0))
    told = ["root"] if numbers.pop("root", None) else []
    for kind in sorted(numbers, reverse=True):
        runs: list[list[int]] = []
        for place in sorted(numbers[kind]):
            if runs and place == runs[-1][1] + 1:
                runs[-1][1] = place
            else:
                runs.append([place, place])
        told += [f"{kind} {a}" if a == b else f"{kind}s {a}–{b}" for a, b in runs]
    return tuple(told)


def encoder_files(layout: Layout) -> dict[str, Path]:
    """Component → its file of weights, for those beside the DiT that are there."""
    found = {"vae": layout.vae, "t5": layout.t5, "wav2vec2": layout.wav2vec_weights()}
    return {name: path for name, path in found.items() if path is not None}


def pickles(layout: Layout) -> list[Path]:
    """Files whose tensors only a child process can list."""
    return [path for path in encoder_files(layout).values() if path.suffix != ".safetensors"]


def _encoders(layout: Layout, lists: Lists) -> list[Component]:
    files = encoder_files(layout)
    return [_encoder(name, path, layout.root, lists.get(path)) for name, path in files.items()]


def _encoder(
    name: str, path: Path, root: Path, tensors: dict[str, PthTensor] | CheckpointError | None
) -> Component:
    if path.suffix == ".safetensors":
        return _counted(name, [path], root, _of(path))
    if tensors is None:
        size = path.stat().st_size
        return Component(name, (_relative(path, root),), None, None, size, size, None)
    if isinstance(tensors, CheckpointError):
        raise tensors
    return _counted(name, [path], root, [(key, t.dtype, t.shape) for key, t in tensors.items()])

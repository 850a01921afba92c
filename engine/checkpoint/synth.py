"""Writes a checkpoint with random weights in the real layout: drills, benchmarks, the sample.

Bounded memory at any size: files are laid out first, then threads write slices of shared tables
straight into place. Nothing is left behind on failure: all is written under a temporary name.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.checkpoint import inits, tokenizer
from engine.checkpoint.encoders import t5_tensors, vae_tensors, wav2vec_tensors
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import DiTShape, dit_tensors, lora_tensors
from engine.checkpoint.layout import LORA_FILE, STEMS, T5_FILE, TOKENIZER_DIR, VAE_FILE, WAV2VEC_DIR
from engine.checkpoint.pth import PthPlan, Record, central_directory, local_header, plan_pth
from engine.checkpoint.randoms import Init, Tables
from engine.checkpoint.shapes import SHAPES, SynthShape
from engine.sentence import sentence

COMPONENTS: Final = ("dit", "vae", "t5", "wav2vec", "lora")
_ITEMSIZE: Final = {"BF16": 2, "F32": 4}
_MARGIN: Final = 64_000_000  # bytes of the disk left free, at least


class DiskTooSmallError(CheckpointError):
    """There is no room for the checkpoint; nothing was written."""


@dataclass(frozen=True)
class Drawn:
    """One tensor to draw."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    init: Init

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * _ITEMSIZE[self.dtype]


@dataclass
class FilePlan:
    """One file: known bytes at known places, tensors at known places, and the size."""

    path: str
    size: int
    fixed: list[tuple[int, bytes]]
    tensors: list[tuple[int, Drawn]]
    pth: PthPlan | None = None
    crcs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SynthResult:
    dir: str
    bytes: int
    params: int


def synth(
    shape: str,
    out: Path,
    seed: int,
    components: Sequence[str] = COMPONENTS,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SynthResult:
    """Write the checkpoint ``shape`` (``tiny`` or ``14b``) to ``out``, which must not exist.

    Every tensor is a function of (seed, its name) and its shape. ``on_progress(done, total)`` is
    called with bytes, from the writing threads.

    Raises:
        CheckpointError: unknown shape or component, ``out`` exists, or the disk is too small.
    """
    unknown = [name for name in components if name not in COMPONENTS]
    if shape not in SHAPES or unknown or not components:
        raise CheckpointError(
            sentence("unknown component {unknown!r}", unknown=unknown[0])
            if unknown
            else sentence("unknown shape {shape!r}", shape=shape),
            remedy=sentence(
                "shapes: {shapes}; components: {components}",
                shapes=", ".join(SHAPES),
                components=", ".join(COMPONENTS),
            ),
        )
    kind = SHAPES[shape]
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(
            sentence("already exists"),
            where=str(out),
            remedy=sentence("name a new directory with --out"),
        )
    files = [plan for name in COMPONENTS if name in components for plan in _FILES[name](kind)]
    total = sum(plan.size for plan in files)
    parent = next(path for path in out.parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < total + _MARGIN:
        raise DiskTooSmallError(
            sentence("the disk is too small"),
            where=str(parent),
            why=sentence("{total:,} bytes are needed, {free:,} are free", total=total, free=free),
            remedy=sentence("free some space, choose another disk, or write fewer --components"),
        )
    made = _missing_parents(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        partial.mkdir()
        _write_small(partial, kind, components)
        _write_files(partial, files, Tables(seed), workers or os.cpu_count() or 1, on_progress)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for directory in made:
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(
                sentence("cannot be written"),
                where=str(out),
                why=error.strerror or str(error),
                remedy=sentence("choose another directory with --out"),
            ) from error
        raise
    params = sum(drawn.count for plan in files for _, drawn in plan.tensors)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return SynthResult(str(out), written, params)


def _missing_parents(directory: Path) -> list[Path]:
    """Directories that ``mkdir(parents=True)`` will make, innermost first."""
    return [path for path in (directory, *directory.parents) if not path.exists()]


def _safetensors(path: str, tensors: Iterable[Drawn], metadata: dict[str, str]) -> FilePlan:
    entries: dict[str, Any] = {"__metadata__": metadata}
    placed: list[tuple[int, Drawn]] = []
    at = 0
    for drawn in tensors:
        entries[drawn.name] = {
            "dtype": drawn.dtype,
            "shape": list(drawn.shape),
            "data_offsets": [at, at + drawn.bytes],
        }
        placed.append((at, drawn))
        at += drawn.bytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)
    fixed = [(0, struct.pack("<Q", len(header)) + header)]
    return FilePlan(path, start + at, fixed, [(start + place, drawn) for place, drawn in placed])


def _pth(path: str, archive: str, tensors: Sequence[Drawn]) -> FilePlan:
    plan = plan_pth(archive, {drawn.name: (drawn.dtype, drawn.shape) for drawn in tensors})
    fixed = [
        (record.data, plan.small[record.name])
        for record in plan.records
        if record.name in plan.small
    ]
    placed = [(plan.tensors[drawn.name].data, drawn) for drawn in tensors]
    # The checksums of the directory come last; their values do not change its size.
    size = plan.directory + len(central_directory(plan, dict.fromkeys(_names(plan), 0)))
    crcs = {name: zlib.crc32(content) for name, content in plan.small.items()}
    return FilePlan(path, size, fixed, placed, plan, crcs)


def _names(plan: PthPlan) -> list[str]:
    return [record.name for record in plan.records]


def _dit_files(kind: SynthShape) -> list[FilePlan]:
    shape = DiTShape.from_config(kind.dit_config)
    drawn = [
        Drawn(name, size, "BF16", inits.dit_init(name, size, shape.num_layers))
        for name, size in dit_tensors(shape).items()
    ]
    limit = math.ceil(sum(tensor.bytes for tensor in drawn) / kind.dit_shards)
    shards: list[list[Drawn]] = [[] for _ in range(kind.dit_shards)]
    filled = 0
    for tensor in drawn:
        shards[min(filled // limit, kind.dit_shards - 1)].append(tensor)
        filled += tensor.bytes
    names = [
        f"{STEMS[0]}-{n + 1:05d}-of-{kind.dit_shards:05d}.safetensors"
        for n in range(kind.dit_shards)
    ]
    plans = [
        _safetensors(name, shard, {"format": "pt"})
        for name, shard in zip(names, shards, strict=True)
    ]
    index = {
        "metadata": {"total_size": filled},
        "weight_map": {
            t.name: name for name, shard in zip(names, shards, strict=True) for t in shard
        },
    }
    body = _json(index)
    return [*plans, FilePlan(f"{STEMS[0]}.safetensors.index.json", len(body), [(0, body)], [])]


def _vae_files(kind: SynthShape) -> list[FilePlan]:
    table = vae_tensors(kind.vae)
    drawn = [Drawn(name, size, "F32", inits.vae_init(name, size)) for name, size in table.items()]
    return [_pth(VAE_FILE, "Wan2.1_VAE", drawn)]


def _t5_files(kind: SynthShape) -> list[FilePlan]:
    head = kind.t5.dim_attn // kind.t5.num_heads
    table = t5_tensors(kind.t5)
    drawn = [
        Drawn(name, size, "BF16", inits.t5_init(name, size, head)) for name, size in table.items()
    ]
    return [_pth(T5_FILE, "models_t5_umt5-xxl-enc-bf16", drawn)]


def _wav2vec_files(kind: SynthShape) -> list[FilePlan]:
    table = wav2vec_tensors(kind.wav2vec)
    drawn = [
        Drawn(name, size, "F32", inits.wav2vec_init(name, size, table))
        for name, size in table.items()
    ]
    return [_safetensors(f"{WAV2VEC_DIR}/model.safetensors", drawn, {"format": "pt"})]


def _lora_files(kind: SynthShape) -> list[FilePlan]:
    table = lora_tensors(kind.dit_config, kind.lora_rank)
    drawn = [
        Drawn(name, size, "BF16", inits.lora_init(name, size, kind.dit["num_layers"]))
        for name, size in table.items()
    ]
    return [_safetensors(LORA_FILE, drawn, {"format": "pt"})]


_FILES: Final[dict[str, Callable[[SynthShape], list[FilePlan]]]] = {
    "dit": _dit_files,
    "vae": _vae_files,
    "t5": _t5_files,
    "wav2vec": _wav2vec_files,
    "lora": _lora_files,
}


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _write_small(root: Path, kind: SynthShape, components: Sequence[str]) -> None:
    """Configurations and the tokenizer."""
    if "dit" in components:
        (root / "config.json").write_bytes(_json(kind.dit_config))
    if "t5" in components:
        tokenizer.write(root / TOKENIZER_DIR, vocab_size=min(kind.t5.vocab_size, 2048))
    if "wav2vec" in components:
        folder = root / WAV2VEC_DIR
        folder.mkdir()
        (folder / "config.json").write_bytes(_json(kind.wav2vec))
        preprocessor = {
            "do_normalize": True,
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": 16000,
        }
        (folder / "preprocessor_config.json").write_bytes(_json(preprocessor))


def _write_files(
    root: Path,
    files: Sequence[FilePlan],
    tables: Tables,
    workers: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    total = sum(plan.size for plan in files)
    done = 0
    descriptors: list[int] = []
    try:
        jobs: list[tuple[int, FilePlan, int, Drawn]] = []
        for plan in files:
            path = root / plan.path
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            descriptors.append(descriptor)
            os.ftruncate(descriptor, plan.size)
            for place, content in plan.fixed:
                _write_at(descriptor, content, place)
            jobs += [(descriptor, plan, place, drawn) for place, drawn in plan.tensors]
        jobs.sort(key=lambda job: -job[3].bytes)  # the longest first, or one thread ends alone
        with ThreadPoolExecutor(max_workers=workers) as pool:
            running = [pool.submit(_write_tensor, tables, *job) for job in jobs]
            try:
                for job, future in zip(jobs, running, strict=True):
                    future.result()
                    done += job[3].bytes
                    if on_progress is not None:
                        on_progress(done, total)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        for descriptor, plan in zip(descriptors, files, strict=True):
            if plan.pth is not None:
                _finish_pth(descriptor, plan, plan.pth)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _write_at(descriptor: int, content: bytes | memoryview, place: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written


def _write_tensor(
    tables: Tables, descriptor: int, plan: FilePlan, place: int, drawn: Drawn
) -> None:
    crc = 0
    for view in tables.slices(drawn.name, drawn.dtype, drawn.count, drawn.init):
        _write_at(descriptor, view, place)
        place += len(view)
        if plan.pth is not None:
            crc = zlib.crc32(view, crc)
    if plan.pth is not None:
        plan.crcs[plan.pth.tensors[drawn.name].name] = crc


def _finish_pth(descriptor: int, plan: FilePlan, pth: PthPlan) -> None:
    for record in pth.records:
        _write_header(descriptor, record, plan.crcs[record.name])
    _write_at(descriptor, central_directory(pth, plan.crcs), pth.directory)


def _write_header(descriptor: int, record: Record, crc: int) -> None:
    _write_at(descriptor, local_header(record, crc), record.start)

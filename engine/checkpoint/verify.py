"""Is a checkpoint whole and does it fit its configuration? Findings name file, tensor and remedy.

Headers and directories only, unless a deep scan of the values is asked for. Consequences of a
finding are not told again: a missing shard's tensors are not listed as missing too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import DiTShape, dit_tensors
from engine.checkpoint.findings import Findings, Verdict, verdict
from engine.checkpoint.header import TensorInfo, read_header
from engine.checkpoint.layout import (
    REQUIRED,
    Layout,
    missing_component,
    read_index,
    read_json,
    shard_number,
    shards_present,
)
from engine.checkpoint.lora import read_lora
from engine.checkpoint.verify_encoders import verify_encoders
from engine.sentence import sentence

_COMPUTABLE: Final = ("BF16", "F16", "F32")
#: Part of a deep verification that headers take; from here on values are read, byte by byte.
READING: Final = 0.05
_OTHER_MODEL: Final = sentence(
    "config.json and the shards belong to different models; take both from one source"
)


#: Is told how far a verification is (0…1) and what is looked at; what it raises ends the work.
Told = Callable[[float, str], None]


def verify(
    layout: Layout,
    *,
    deep: bool = False,
    headers_only: bool = False,
    told: Told = lambda _part, _what: None,
) -> Verdict:
    """Check everything that can be checked without a device.

    Args:
        deep: also read every DiT tensor and look for NaN and infinity (streamed, bounded memory).
        headers_only: do not start the child that lists the tensors of ``.pth`` files.
        told: hears of the progress.
    """
    share = READING if deep else 1.0  # of the whole work; reading values takes the rest
    told(0.0, layout.config_file.name)
    findings = Findings(layout.root)
    shape = _config(layout, findings)
    told(share * 0.1, "DiT")
    tensors, whole = _shards(layout, findings)
    expected = None if shape is None else dit_tensors(shape)
    fits = expected is not None
    if expected is not None and tensors:
        fits = _compare(layout, findings, tensors, expected, whole=whole)
    for name in REQUIRED:
        if name in layout.missing and name != "dit":
            findings.add_error(missing_component(name, layout.missing[name]))
    told(share * 0.3, "VAE, T5, wav2vec2")
    verify_encoders(layout, shape, findings, headers_only=headers_only)
    if "lora" in layout.missing:
        findings.add_error(missing_component("lora", layout.missing["lora"]))
    # A configuration of another model would make every LoRA look wrong.
    told(share * 0.9, "LoRA")
    if layout.lora is not None and expected is not None and fits:
        try:
            read_lora(layout.lora, expected)
        except CheckpointError as error:
            findings.add_error(error)
    if deep and all(finding.severity != "error" for finding in findings.found):
        _scan(findings, tensors, told)
    return verdict(findings)


def _config(layout: Layout, findings: Findings) -> DiTShape | None:
    try:
        return DiTShape.from_config(layout.config, str(layout.config_file))
    except CheckpointError as error:
        findings.add_error(error)
        return None


def _shards(layout: Layout, findings: Findings) -> tuple[dict[str, TensorInfo], bool]:
    """Tensors of the shards that can be read, and whether that is all of them."""
    present = shards_present(layout.root)
    weight_map: dict[str, str] | None = None
    whole = True
    if layout.dit_index is not None:
        try:
            weight_map = read_index(layout.dit_index)
        except CheckpointError as error:
            findings.add_error(error)
    if not present and weight_map is None:
        findings.add_error(missing_component("dit", layout.missing.get("dit", layout.root)))
        return {}, False
    names = {path.name for path in present}
    wanted = set(weight_map.values()) if weight_map else _numbered(names)
    absent = sorted(wanted - names)
    for name in absent:
        findings.add(
            layout.root / name,
            sentence("missing shard"),
            sentence("download this file; the index names it")
            if weight_map
            else sentence("download this file; the other shards' names count it"),
        )
        whole = False
    for name in sorted(names - wanted):
        findings.add(
            layout.root / name,
            sentence("surplus shard: the index does not name it")
            if weight_map
            else sentence("surplus shard: it does not belong to the others' numbering"),
            sentence("remove it, or take the index that belongs to it"),
        )
    tensors: dict[str, TensorInfo] = {}
    readable: dict[str, Mapping[str, TensorInfo]] = {}
    for path in present:
        if path.name not in wanted:
            continue
        try:
            readable[path.name] = read_header(path).tensors
        except CheckpointError as error:
            findings.add_error(error)
            whole = False
            continue
        doubles = [name for name in readable[path.name] if name in tensors]
        findings.add_group(
            path,
            doubles,
            sentence("in two shards"),
            sentence("remove the shard that does not belong to this checkpoint"),
            why=Path(tensors[doubles[0]].file).name if doubles else "",
        )
        tensors |= {name: info for name, info in readable[path.name].items() if name not in tensors}
    if weight_map is not None and layout.dit_index is not None:
        whole = _compare_index(layout.dit_index, weight_map, readable, findings) and whole
        if whole:
            _compare_size(layout.dit_index, tensors, findings)
    elif layout.dit_index is None and len(present) > 1:
        findings.add(
            layout.root / "diffusion_pytorch_model.safetensors.index.json",
            sentence("no index beside several shards"),
            sentence("download it; avatop reads the shards without it, other programs do not"),
            severity="warning",
        )
    return tensors, whole


def _numbered(names: set[str]) -> set[str]:
    """The complete set of file names that the numbering of ``names`` promises."""
    sets = Counter((found[0], found[2]) for found in map(shard_number, names) if found is not None)
    if not sets:
        return names
    (stem, total), _ = sets.most_common(1)[0]
    return {f"{stem}-{n:05d}-of-{total:05d}.safetensors" for n in range(1, min(total, 999) + 1)}


def _compare_index(
    index: Path,
    weight_map: Mapping[str, str],
    readable: Mapping[str, Mapping[str, TensorInfo]],
    findings: Findings,
) -> bool:
    """Does the index say of every readable shard what its header says? True if so."""
    remedy = sentence("take index and shards from the same source")
    lost = [t for t, file in weight_map.items() if file in readable and t not in readable[file]]
    strays = [t for file, held in readable.items() for t in held if weight_map.get(t) != file]
    if lost:
        file = weight_map[lost[0]]
        findings.add_group(
            index,
            lost,
            sentence("the index disagrees with the shards: {file} does not hold it", file=file),
            remedy,
        )
    else:
        findings.add_group(
            index,
            strays,
            sentence("the index disagrees with the shards: it does not list it"),
            remedy,
        )
    return not lost and not strays


def _compare_size(index: Path, tensors: Mapping[str, TensorInfo], findings: Findings) -> None:
    metadata = read_json(index).get("metadata")
    told = metadata.get("total_size") if isinstance(metadata, dict) else None
    size = sum(info.bytes for info in tensors.values())
    if isinstance(told, int) and told != size:
        findings.add(
            index,
            sentence(
                "the index tells a total of {told:,} bytes, the shards hold {size:,}",
                told=told,
                size=size,
            ),
            sentence("take index and shards from the same source"),
            severity="warning",
        )


def _compare(
    layout: Layout,
    findings: Findings,
    tensors: Mapping[str, TensorInfo],
    expected: Mapping[str, tuple[int, ...]],
    *,
    whole: bool,
) -> bool:
    """Names, shapes and dtypes against the configuration; one finding per kind of fault.

    False when the configuration seems to be another model's.
    """
    shapes = [n for n, info in tensors.items() if n in expected and info.shape != expected[n]]
    if shapes:
        first = shapes[0]
        why = sentence(
            "{shape}, the configuration asks for {expected}",
            shape=str(list(tensors[first].shape)),
            expected=str(list(expected[first])),
        )
        file: Path | str = tensors[first].file
        findings.add_group(file, shapes, sentence("wrong shape"), _OTHER_MODEL, why)
    dtype = _dtype(layout.config, tensors)
    wrong = [name for name, info in tensors.items() if info.dtype != dtype]
    if dtype not in _COMPUTABLE:
        wrong = list(tensors)
    if wrong:
        found = tensors[wrong[0]].dtype
        findings.add_group(
            tensors[wrong[0]].file,
            wrong,
            sentence("wrong dtype"),
            sentence("take the bf16 weights of the model's source"),
            sentence("{found} is not what a DiT is stored in", found=found)
            if dtype not in _COMPUTABLE
            else sentence("{found} in a {dtype} model", found=found, dtype=dtype),
        )
    if not whole or shapes:
        return not shapes
    lost = [name for name in expected if name not in tensors]
    where = layout.dit_index or layout.dit_files[0]
    findings.add_group(where, lost, sentence("the shards lack a tensor"), _OTHER_MODEL)
    extra = [name for name in tensors if name not in expected]
    if extra and not lost:
        findings.add_group(
            tensors[extra[0]].file,
            extra,
            sentence("a tensor the configuration does not know"),
            _OTHER_MODEL,
        )
    return not lost and not extra


def _dtype(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> str:
    """The dtype the configuration declares, or that of most tensors."""
    names = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
    declared = names.get(str(config.get("torch_dtype") or config.get("dtype")))
    return declared or Counter(info.dtype for info in tensors.values()).most_common(1)[0][0]


def _scan(findings: Findings, tensors: Mapping[str, TensorInfo], told: Told) -> None:
    from engine.checkpoint.scan import first_bad_value  # numpy: headers are read without it

    bad: dict[str, str] = {}
    total, read = sum(info.bytes for info in tensors.values()) or 1, 0
    for name, info in tensors.items():
        told(READING + (1 - READING) * read / total, f"{Path(info.file).name}: {name}")
        read += info.bytes
        value = first_bad_value(info)
        if value is not None:
            bad[name] = value
    if bad:
        first = next(iter(bad))
        findings.add_group(
            tensors[first].file,
            list(bad),
            sentence("values that are not finite"),
            sentence("download this file again; these weights would give a broken picture"),
            bad[first],
        )

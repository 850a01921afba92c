"""A LoRA file's header, read against the model it is for: targets, shapes, rank, alpha."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.header import TensorInfo, read_header
from engine.checkpoint.layout import read_json
from engine.sentence import sentence

PREFIX: Final = "base_model.model."
_PAIR = re.compile(r"(?P<path>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")
_REMEDY: Final = sentence("take the LoRA that was made for this model, or run without --load_lora")


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA file changes: parameters by pairs A, B, and parameters it replaces whole."""

    path: str
    tensors: dict[str, TensorInfo]
    merged: tuple[str, ...]
    replaced: tuple[str, ...]
    rank: int | None
    alpha: float | None


def read_lora(path: Path | str, model: Mapping[str, tuple[int, ...]]) -> LoraFile:
    """Read and check the LoRA ``path`` for a DiT with the tensors ``model`` (name → shape).

    ``alpha`` comes from the file's metadata or an ``adapter_config.json`` beside it; files that
    tell none have half their rank, as the released one (128 and 64).

    Raises:
        CheckpointError: a damaged header, half a pair, a target the model does not have, or a
            shape that does not fit; the message names the tensor.
    """
    header = read_header(path)
    where = str(path)
    sides: dict[str, dict[str, TensorInfo]] = {}
    replaced: list[str] = []
    unmatched: list[str] = []
    for key, info in header.tensors.items():
        name = key.removeprefix(PREFIX)
        match = _PAIR.fullmatch(name)
        target = f"{match['path']}.weight" if match else name
        if target not in model:
            unmatched.append(key)
        elif match:
            sides.setdefault(target, {})[match["side"]] = info
        else:
            replaced.append(target)
            if info.shape != model[target]:
                raise _misfit(where, key, info.shape, model[target])
    if unmatched:
        raise CheckpointError(
            sentence("the LoRA has targets this model does not have"),
            where=where,
            why=sentence(
                "{count} in all, the first: {first}",
                count=len(unmatched),
                first=", ".join(unmatched[:3]),
            ),
            tensor=unmatched[0],
            remedy=_REMEDY,
        )
    if not sides and not replaced:
        raise CheckpointError(sentence("no LoRA: it has no tensors"), where=where, remedy=_REMEDY)
    ranks: set[int] = set()
    for target, pair in sides.items():
        ranks.add(_check_pair(where, target, pair, model[target]))
    rank = max(ranks, default=None)
    return LoraFile(
        where,
        header.tensors,
        tuple(sides),
        tuple(replaced),
        rank,
        _alpha(Path(path), header.metadata, rank),
    )


def _check_pair(
    where: str, target: str, pair: Mapping[str, TensorInfo], shape: tuple[int, ...]
) -> int:
    path = target.removesuffix(".weight")
    if len(pair) != 2:
        lacking = "B" if "A" in pair else "A"
        raise CheckpointError(
            sentence("half a LoRA pair"),
            where=where,
            why=sentence("lora_{lacking} is missing", lacking=lacking),
            tensor=path,
            remedy=_REMEDY,
        )
    a, b = pair["A"].shape, pair["B"].shape
    if len(shape) != 2 or len(a) != 2 or len(b) != 2 or a[1] != shape[1] or b != (shape[0], a[0]):
        raise _misfit(where, path, (*b, *a), shape)
    return a[0]


def _misfit(
    where: str, tensor: str, found: tuple[int, ...], wanted: tuple[int, ...]
) -> CheckpointError:
    return CheckpointError(
        sentence("the LoRA does not fit this model"),
        where=where,
        why=sentence(
            "shape {found} for a weight of {wanted}",
            found=str(list(found)),
            wanted=str(list(wanted)),
        ),
        tensor=tensor,
        remedy=_REMEDY,
    )


def _alpha(path: Path, metadata: Mapping[str, str], rank: int | None) -> float | None:
    told: object = metadata.get("lora_alpha") or metadata.get("alpha")
    beside = path.parent / "adapter_config.json"
    if told is None and beside.is_file():
        told = read_json(beside).get("lora_alpha")
    if told is None:
        return None if rank is None else rank / 2
    try:
        return float(str(told))
    except ValueError as error:
        raise CheckpointError(
            sentence("lora_alpha is no number"), where=str(path), why=str(told)[:40], remedy=_REMEDY
        ) from error

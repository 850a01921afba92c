"""LoRA: which tensors of a file change which parameter, and the merge itself.

Pure functions on names and tensors, so that a loader can merge one parameter at a time while it
reads them. Source: LoRA (arXiv:2106.09685) and the names PEFT writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

PREFIX = "base_model.model."

_PAIR = re.compile(r"^(?P<path>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight$")


@dataclass(frozen=True)
class LoraIndex:
    """What a LoRA file holds, by the name of the parameter it changes.

    ``pairs``: parameter → (key of A ``[r, in]``, key of B ``[out, r]``). ``replaced``: parameter →
    key of the tensor that takes its place. ``halves``: keys whose other half is missing.
    """

    pairs: dict[str, tuple[str, str]] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    halves: tuple[str, ...] = ()

    @property
    def parameters(self) -> frozenset[str]:
        """Every parameter that the file changes."""
        return frozenset(self.pairs) | frozenset(self.replaced)


def index(keys: Iterable[str]) -> LoraIndex:
    """Sort a file's keys. With or without ``base_model.model.`` in front, any adapter name."""
    sides: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    for key in keys:
        name = key.removeprefix(PREFIX)
        if match := _PAIR.match(name):
            sides.setdefault(match["path"] + ".weight", {})[match["side"]] = key
        else:
            replaced[name] = key
    pairs = {name: (s["A"], s["B"]) for name, s in sides.items() if len(s) == 2}
    halves = tuple(key for s in sides.values() if len(s) == 1 for key in s.values())
    return LoraIndex(pairs, replaced, halves)


Rows = tuple[int, int]


def merge(
    weight: Tensor, a: Tensor, b: Tensor, alpha: float, rank: int, rows: Rows | None = None
) -> Tensor:
    """``weight + (alpha/rank)·B·A`` in ``weight``'s dtype, as a new tensor.

    Product and sum are made in float32 and rounded once. ``rows``: ``weight`` is this part of the
    parameter alone; the product is made whole all the same, so that its bits are those of the
    whole. Raises ``ValueError`` when the shapes do not belong together.
    """
    fits = weight.ndim == a.ndim == b.ndim == 2
    begin, end = rows or (0, b.shape[0])
    if not fits or a.shape[0] != b.shape[1] or weight.shape != (end - begin, a.shape[1]):
        raise ValueError(
            f"B{list(b.shape)}·A{list(a.shape)} does not fit a weight of {list(weight.shape)}"
        )
    if rank < 1:
        raise ValueError(f"a LoRA of rank {rank}")
    delta = torch.mm(b.float(), a.float()) * (alpha / rank)
    return delta[begin:end].add_(weight).to(weight.dtype)


def apply(
    name: str,
    weight: Tensor,
    lora: LoraIndex,
    read: Callable[[str], Tensor],
    alpha: float | None = None,
    rows: Rows | None = None,
) -> Tensor:
    """Parameter ``name`` as the LoRA wants it: merged, replaced, or ``weight`` itself.

    ``read`` gives a tensor of the file by key. ``alpha`` None scales by 1. ``rows``: ``weight`` is
    this part of the parameter alone. Raises ``ValueError`` for a replacement of another shape.
    """
    if name in lora.pairs:
        a, b = (read(key).to(weight.device) for key in lora.pairs[name])
        rank = a.shape[0]
        return merge(weight, a, b, rank if alpha is None else alpha, rank, rows)
    if name in lora.replaced:
        new = read(lora.replaced[name])
        new = new if rows is None else new[slice(*rows)]
        if new.shape != weight.shape:
            raise ValueError(
                f"{name} is replaced by {list(new.shape)}, but has {list(weight.shape)}"
            )
        return new.to(device=weight.device, dtype=weight.dtype)
    return weight

"""Weights straight onto the device, unit by unit, the LoRA merged and fp8 made on the way.

A model is built on the meta device and takes its parameters as views of one slab per unit (a
transformer block, an injector with its AdaIN layer, the root). Above what stays, loading needs a
staging buffer and one merge's scratch: less than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import DiTShape, unit_of
from engine.checkpoint.header import TensorInfo
from engine.checkpoint.layout import Layout, find
from engine.checkpoint.lora import LoraFile, read_lora
from engine.checkpoint.onrank.files import TensorReader
from engine.checkpoint.onrank.fp8cache import Fp8Cache
from engine.checkpoint.onrank.slab import Allocator, Spec, allocate, carve
from engine.model import lora as merging
from engine.model.config import FP8, DiTConfig, Numerics
from engine.model.dit import DiT
from engine.model.fp8 import SCALE, quantise_into
from engine.sentence import sentence

#: Called after a unit is on the device: its name, bytes loaded so far, bytes in all.
OnUnit = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Place:
    """Where a tensor of the checkpoint belongs in the model."""

    name: str
    module: nn.Module
    key: str
    spec: Spec


class DiTSource:
    """The DiT's weights, handed out module by module.

    Placement builds the model on meta and calls ``fill`` for what a rank holds whole. Where it is
    sharded, ``fill_share`` reads this rank's rows alone::

        with DiTSource(paths, lora=path) as source:
            dit = source.build()
            for unit, modules in source.units(dit):
                source.fill(modules, device)

    Args:
        paths: ``Layout.paths()``.
        dtype: of the parameters; ``None`` keeps the file's.
        lora: the LoRA's file, or ``None``. It is checked against the model at once.
        lora_alpha: overrides what the file tells.
        fp8_cache: keep fp8 weights beside the checkpoint, and take them from there.
        allocator: where slabs come from.

    Raises:
        CheckpointError: missing or damaged files, wrong shapes, a LoRA that does not fit.
    """

    def __init__(
        self,
        paths: Mapping[str, str],
        *,
        dtype: torch.dtype | None = None,
        lora: Path | str | None = None,
        lora_alpha: float | None = None,
        fp8_cache: bool = False,
        allocator: Allocator = allocate,
    ) -> None:
        layout = _layout(paths)
        self.config: dict[str, Any] = layout.config
        self.shape = DiTShape.from_config(self.config, str(layout.config_file))
        self.tensors: dict[str, TensorInfo] = layout.dit_header()
        self.dtype = dtype
        self.lora: LoraFile | None = None
        self._allocator = allocator
        self._reader = TensorReader(self.tensors)
        self._prefixes: dict[int, str] = {}  # id of a module → path in front of its parameters
        self._lora_index = merging.LoraIndex()
        self._lora_reader = TensorReader({})
        if lora is not None:
            self.lora = read_lora(lora, {name: info.shape for name, info in self.tensors.items()})
            self.lora_alpha = self.lora.alpha if lora_alpha is None else lora_alpha
            self._lora_index = merging.index(self.lora.tensors)
            self._lora_reader = TensorReader(self.lora.tensors)
        self.fp8_cache: Fp8Cache | None = None
        if fp8_cache:
            files = [Path(path) for path in layout.dit_files]
            extra = [] if lora is None else [Path(lora)]
            made = {"dtype": dtype, "alpha": None if lora is None else self.lora_alpha}
            self.fp8_cache = Fp8Cache(files[0].parent, [*files, *extra], made)

    def __enter__(self) -> DiTSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
        self._lora_reader.close()

    def build(self, numerics: Numerics | None = None) -> DiT:
        """The DiT of this checkpoint on the meta device, checked against the files' table.

        Raises:
            CheckpointError: the files lack a tensor, have another one, or another shape.
        """
        try:
            config = DiTConfig.from_dict(self.config)
        except ValueError as error:
            raise CheckpointError(
                sentence("invalid configuration"),
                where="config.json",
                why=str(error),
                remedy=sentence("take config.json from the model's source again"),
            ) from error
        with torch.device("meta"):
            dit = DiT(config, numerics)
        for name, parameter in dit.named_parameters():
            if name.endswith(SCALE):
                continue  # made while loading
            info = self.tensors.get(name)
            if info is None or info.shape != tuple(parameter.shape):
                raise CheckpointError(
                    sentence("a tensor is missing") if info is None else sentence("wrong shape"),
                    where="" if info is None else info.file,
                    why="" if info is None else f"{info.shape}, not {tuple(parameter.shape)}",
                    tensor=name,
                    remedy=sentence("run `avatop ckpt verify` on this directory"),
                )
        # Modules stay the same objects when they are sharded, parameters do not.
        self._prefixes = {id(m): f"{path}." if path else "" for path, m in dit.named_modules()}
        for place in self.missing(dit):  # of the types they will be loaded with
            outline = torch.empty(place.spec.shape, dtype=place.spec.dtype, device="meta")
            setattr(place.module, place.key, nn.Parameter(outline, requires_grad=False))
        return dit

    def units(self, dit: DiT) -> list[tuple[str, list[nn.Module]]]:
        """Units in loading order, each with its modules: layers, injectors, then the root."""
        units: list[tuple[str, list[nn.Module]]] = [
            (f"layer {n}", [layer]) for n, layer in enumerate(dit.blocks)
        ]
        injector = dit.audio_injector
        pairs = zip(injector.injector_adain_layers, injector.injector, strict=True)
        units += [(f"injector {n}", list(pair)) for n, pair in enumerate(pairs)]
        return [*units, ("root", [dit])]

    def fill(self, modules: nn.Module | list[nn.Module], device: torch.device | str) -> int:
        """Give every parameter of ``modules`` that is still on meta its weights on ``device``.

        Parameters become views of one new slab; those already there stay as they are, so filling
        the whole model last fills the root. Returns the slab's tensors' bytes.
        """
        device = torch.device(device)
        places = self.missing(modules)
        if not places:
            return 0
        specs = {place.name: place.spec for place in places}
        views = carve(specs, device, self._allocator)
        self._load(views)
        for place in places:
            setattr(place.module, place.key, nn.Parameter(views[place.name], requires_grad=False))
        return sum(spec.bytes for spec in specs.values())

    def fill_share(self, shares: Mapping[str, Tensor], rank: int, ranks: int) -> None:
        """Fill one rank's rows of parameters that are cut along dimension 0 into equal chunks.

        Args:
            shares: parameter's name → this rank's rows of it, of a scale with its weight.

        Only those rows are read, but for what is yet to be kept in the fp8 cache: that is made
        whole.
        """
        share = _Share(rank, ranks, self.tensors)
        rest = dict(shares)
        for names in self._unkept(shares):
            device = next(iter(shares.values())).device
            specs = {name: self._whole(name, shares[name].dtype) for name in names}
            whole = carve(specs, device, self._allocator)
            self._load(whole)
            for name in names:
                rest.pop(name).copy_(whole[name][slice(*share.rows(name))])
        self._load(rest, share)

    def missing(self, modules: nn.Module | list[nn.Module]) -> list[Place]:
        """Parameters of ``modules`` that are still on meta, in the order ``fill`` lays them out."""
        found: dict[str, Place] = {}
        for module in modules if isinstance(modules, list) else [modules]:
            for child in module.modules():
                for key, parameter in child.named_parameters(recurse=False):
                    if parameter.is_meta:
                        name = self._prefixes[id(child)] + key
                        found[name] = Place(name, child, key, self._spec(name, parameter))
        return list(found.values())

    def _spec(self, name: str, parameter: Tensor) -> Spec:
        if parameter.dtype == FP8 or name.endswith(SCALE):
            return self._whole(name, parameter.dtype)
        return self._whole(name, self.dtype or self._reader.dtype(name))

    def _whole(self, name: str, dtype: torch.dtype) -> Spec:
        """A parameter as it is where nothing is sharded."""
        shape = self.tensors[name.removesuffix(SCALE)].shape
        return Spec(dtype, shape[:1] if name.endswith(SCALE) else shape)

    def _load(self, views: Mapping[str, Tensor], share: _Share | None = None) -> None:
        """Read parameters to their views, the LoRA merged, quantised where they are to be fp8."""
        kept = self._kept(views, share)

        def wanted() -> Iterator[tuple[str, Tensor]]:
            for name, view in views.items():
                if name in kept:
                    continue
                if view.dtype == FP8:
                    yield name, torch.empty_like(view, dtype=self.dtype or self._reader.dtype(name))
                elif not name.endswith(SCALE):
                    yield name, view

        places = self.tensors if share is None else share.places(views)
        for name, target in self._reader.each(wanted(), places):
            if name in self._lora_index.parameters:
                read, rows = self._lora_reader.read, None if share is None else share.rows(name)
                target.copy_(
                    merging.apply(name, target, self._lora_index, read, self.lora_alpha, rows)
                )
            if target is not views[name]:
                quantise_into(target, views[name], views[name + SCALE])
        if self.fp8_cache is not None and share is None:
            for unit, names in self._quantised(views).items():
                if not kept.issuperset(names):
                    self.fp8_cache.keep(unit, {name: views[name] for name in names})

    def _kept(self, views: Mapping[str, Tensor], share: _Share | None) -> set[str]:
        """Read what the cache has of ``views``; returns the names."""
        done: set[str] = set()
        for found in self._in_cache(views).values():
            own = {n: i if share is None else i.rows(*share.rows(n)) for n, i in found.items()}
            with TensorReader(own) as reader:
                for name, _ in reader.each((name, views[name]) for name in own):
                    done.add(name)
        return done

    def _in_cache(self, views: Mapping[str, Tensor]) -> dict[str, dict[str, TensorInfo]]:
        """Where the cache has the fp8 weights and scales of ``views``, by unit."""
        if self.fp8_cache is None:
            return {}
        return {
            unit: self.fp8_cache.find(unit, {n: self._whole(n, FP8).shape for n in names})
            for unit, names in self._quantised(views).items()
        }

    def _unkept(self, views: Mapping[str, Tensor]) -> list[list[str]]:
        """Fp8 weights and scales that the cache is to keep and has not, by unit."""
        found = self._in_cache(views)
        return [
            n for unit, n in self._quantised(views).items() if unit in found and not found[unit]
        ]

    def _quantised(self, views: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Names of the fp8 weights and their scales, by unit."""
        units: dict[str, list[str]] = {}
        for name, view in views.items():
            if view.dtype == FP8:
                units.setdefault(unit_of(name, self.shape), []).extend((name, name + SCALE))
        return units


@dataclass(frozen=True)
class _Share:
    """The rows of every tensor that are one rank's: equal chunks, the last ones short or empty."""

    rank: int
    ranks: int
    tensors: Mapping[str, TensorInfo]

    def rows(self, name: str) -> tuple[int, int]:
        size = self.tensors[name.removesuffix(SCALE)].shape[0]
        chunk = -(-size // self.ranks)
        return min(size, self.rank * chunk), min(size, (self.rank + 1) * chunk)

    def places(self, names: Iterable[str]) -> dict[str, TensorInfo]:
        """Where those rows lie."""
        return {n: self.tensors[n].rows(*self.rows(n)) for n in names if n in self.tensors}


def load_dit(
    paths: Mapping[str, str],
    device: torch.device | str,
    *,
    dtype: torch.dtype | None = None,
    numerics: Numerics | None = None,
    lora: Path | str | None = None,
    on_unit: OnUnit | None = None,
    allocator: Allocator = allocate,
) -> DiT:
    """The whole DiT on ``device``, in evaluation mode; arguments as of ``DiTSource``.

    Raises:
        CheckpointError: anything wrong with the files, before memory is taken where possible.
    """
    with DiTSource(paths, dtype=dtype, lora=lora, allocator=allocator) as source:
        dit = source.build(numerics)
        total = sum(source._spec(name, p).bytes for name, p in dit.named_parameters())
        done = 0
        for unit, modules in source.units(dit):
            done += source.fill(modules, device)
            if on_unit is not None:
                on_unit(unit, done, total)
    return dit.eval()


def _layout(paths: Mapping[str, str]) -> Layout:
    return find(paths["dit"] if "dit" in paths else paths["root"]).require("dit")

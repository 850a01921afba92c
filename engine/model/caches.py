"""What attention remembers: a ring of keys and values per denoising step, and the conditioning.

Attention must see one contiguous run of keys without concatenating anything, so a ring's buffer
has room in front (the *lead*) for the conditioning tokens. Rotated conditioning keys are written
there only when they change: everything on a new clip epoch, the reference's keys when its time
position moves, nothing otherwise. Key order is always conditioning first, then the ring's slots.
Rings without a lead of their own are in ``packed``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.model.rope import rotate


def _layers(layers: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(range(layers)) if isinstance(layers, int) else tuple(layers)


def _nbytes(buffers: Iterable[dict[int, Tensor]]) -> int:
    return sum(t.nbytes for per_layer in buffers for t in per_layer.values())


class JobMemory:
    """What stays the same for a whole job, computed once.

    Keys and values of the prompt per layer, ``[text_len, H, D]``, and in ``times`` the embedding
    and modulation of every timestep seen so far.
    """

    def __init__(
        self,
        layers: int | Iterable[int],
        text_len: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        shape = (text_len, heads, head_dim)
        self.layers = _layers(layers)
        self.k = {n: torch.zeros(shape, dtype=dtype, device=device) for n in self.layers}
        self.v = {n: torch.zeros(shape, dtype=dtype, device=device) for n in self.layers}
        self.times: dict[float, tuple[Tensor, Tensor]] = {}
        self._filled: set[int] = set()

    @property
    def complete(self) -> bool:
        """Whether every layer's keys and values are here."""
        return self._filled.issuperset(self.layers)

    @property
    def nbytes(self) -> int:
        return _nbytes((self.k, self.v))

    def fill(self, layer: int, k: Tensor, v: Tensor) -> None:
        self.k[layer].copy_(k)
        self.v[layer].copy_(v)
        self._filled.add(layer)


class Conditioning:
    """Conditioning of one clip epoch: keys (un-rotated) and values of reference and motion tokens.

    ``reference_tokens`` come first and are the only ones whose position moves later. ``job`` may
    be shared with another epoch; ``nbytes`` counts it, ``own_nbytes`` does not.

    ``readers`` says how many rings with a lead will take each layer. Then a layer takes memory
    only once it is filled, and as soon as one lead holds it, just the reference's keys are kept:
    the other rings copy the rest from that lead. Without ``readers`` everything stays here.
    """

    def __init__(
        self,
        layers: int | Iterable[int],
        tokens: int,
        reference_tokens: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        job: JobMemory,
        *,
        readers: Mapping[int, int] | None = None,
    ) -> None:
        self._shape = (tokens, heads, head_dim)
        self._kind: dict[str, Any] = {"dtype": dtype, "device": device}
        self.layers = _layers(layers)
        self.tokens = tokens
        self.reference_tokens = reference_tokens
        self._readers = readers
        whole = self.layers if readers is None else ()
        #: Un-rotated keys: of all tokens, or once a lead has taken them of the reference alone.
        self.k = {n: torch.zeros(self._shape, **self._kind) for n in whole}
        self.v = {n: torch.zeros(self._shape, **self._kind) for n in whole}
        self._motion: dict[int, Tensor] = {}  # rotated keys, where the un-rotated are gone
        self._leads: dict[int, list[RollingCache]] = {}  # that have taken a layer
        self.job = job
        self.motion_table: Tensor | None = None
        self.fills: dict[int, object] = {}  # a fresh token per fill, to know a lead by

    @property
    def own_nbytes(self) -> int:
        return _nbytes((self.k, self.v, self._motion))

    @property
    def nbytes(self) -> int:
        return self.own_nbytes + self.job.nbytes

    def fill(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Take un-rotated keys and values ``[tokens, H, D]`` of one layer."""
        for store, given in ((self.k, k), (self.v, v)):
            if layer not in store or len(store[layer]) != self.tokens:
                store[layer] = torch.empty(self._shape, **self._kind)
            store[layer].copy_(given)
        self._motion.pop(layer, None)
        self._leads[layer] = []
        self.fills[layer] = object()

    def reference(self, layer: int) -> Tensor:
        """Un-rotated keys of the reference, ``[reference_tokens, H, D]``."""
        return self.k[layer][: self.reference_tokens]

    def rest(self, layer: int) -> tuple[Tensor, Tensor]:
        """Rotated keys of the motion tokens, and the values of all, wherever they lie now.

        Raises ``ValueError`` if no lead holds them any more.
        """
        if layer in self.v:
            motion = self._motion.get(layer)
            if motion is None:
                assert self.motion_table is not None  # set before anything is filled
                motion = rotate(self.k[layer][self.reference_tokens :], self.motion_table)
            return motion, self.v[layer]
        for ring in self._leads[layer]:
            k, v = ring.lead_of(layer)
            return k[self.reference_tokens :], v
        raise ValueError(f"the conditioning of layer {layer} is gone")

    def taken(self, layer: int, ring: RollingCache) -> None:
        """``ring``'s lead holds the layer now: what lies there need not lie here."""
        if self._readers is None:
            return
        self._leads[layer].append(ring)
        if layer in self.v:
            self.k[layer] = self.reference(layer).clone()
            del self.v[layer]
            self._motion.pop(layer, None)

    def leaving(self, layer: int, ring: RollingCache) -> None:
        """``ring``'s lead is about to hold another epoch."""
        holders = self._leads.get(layer, [])
        if ring not in holders:
            return
        assert self._readers is not None
        if len(holders) == 1 and layer not in self.v and self._readers.get(layer, 0) > 1:
            # Some ring may still be on its way to this epoch.
            motion, values = self.rest(layer)
            self._motion[layer], self.v[layer] = motion.clone(), values.clone()
        holders.remove(ring)

    def snapshot(self) -> dict[str, Tensor]:
        """The tensors that define this object, by name (no copies)."""
        named = {f"text.{n}.k": t for n, t in self.job.k.items()}
        named |= {f"text.{n}.v": t for n, t in self.job.v.items()}
        for n, k in self.k.items():
            named[f"cond.{n}.k"] = k
            if len(k) == self.tokens:
                named[f"cond.{n}.v"] = self.v[n]
            else:
                named[f"cond.{n}.motion"], named[f"cond.{n}.v"] = self.rest(n)
        if self.motion_table is not None:
            named["motion_table"] = self.motion_table
        return named

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Take back what ``snapshot`` gave; the object is filled afterwards."""
        device = self._kind["device"]
        for n in self.layers:
            k, v = named[f"cond.{n}.k"], named[f"cond.{n}.v"]
            motion = named.get(f"cond.{n}.motion")
            if motion is None:
                self.fill(n, k, v)
            else:
                self.k[n], self.v[n], self._motion[n] = (
                    t.to(**self._kind, copy=True) for t in (k, v, motion)
                )
                self._leads[n] = []
                self.fills[n] = object()
            self.job.fill(n, named[f"text.{n}.k"], named[f"text.{n}.v"])
        self.motion_table = named["motion_table"].to(device).clone()


def filled(cond: Conditioning, layer: int, lead: int) -> object:
    """The token of a layer's last fill.

    Raises ``ValueError`` if ``cond`` was not prefilled or does not fit a lead of ``lead`` tokens.
    """
    if layer not in cond.fills or cond.motion_table is None:
        raise ValueError(f"the conditioning of layer {layer} was not prefilled")
    if cond.tokens != lead:
        raise ValueError(f"a lead of {lead} tokens cannot hold {cond.tokens}")
    return cond.fills[layer]


def turn_lead(
    keys: Tensor,
    values: Tensor,
    cond: Conditioning,
    layer: int,
    reference_table: Tensor,
    *,
    anew: bool,
) -> None:
    """Write a lead ``[tokens, H, D]``: the reference's keys, and ``anew`` all that never moves."""
    ref = cond.reference_tokens
    keys[:ref].copy_(rotate(cond.reference(layer), reference_table))
    if anew:
        motion, all_values = cond.rest(layer)
        keys[ref:].copy_(motion)
        values.copy_(all_values)


class RollingCache:
    """Keys (rotated) and values of the last ``capacity`` tokens at one denoising step.

    One buffer ``[lead + capacity, H, D]`` per layer for keys and one for values, allocated once.
    """

    def __init__(
        self,
        layers: int | Iterable[int],
        capacity: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        *,
        lead: int = 0,
    ) -> None:
        shape = (lead + capacity, heads, head_dim)
        self.layers = _layers(layers)
        self.capacity = capacity
        self.lead = lead
        self._k = {n: torch.zeros(shape, dtype=dtype, device=device) for n in self.layers}
        self._v = {n: torch.zeros(shape, dtype=dtype, device=device) for n in self.layers}
        # What each layer's lead holds: whose, the fill it came from, the shift of the reference.
        self._held: dict[int, tuple[weakref.ref[Conditioning], object, int]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, the lead's included."""
        return _nbytes((self._k, self._v))

    def k(self, layer: int) -> Tensor:
        """Rotated keys of the ring, ``[capacity, H, D]``."""
        return self._k[layer][self.lead :]

    def v(self, layer: int) -> Tensor:
        """Values of the ring, ``[capacity, H, D]``."""
        return self._v[layer][self.lead :]

    def slot(self, start: int, tokens: int) -> tuple[int, int]:
        """Where ``tokens`` that begin at absolute token ``start`` go, and how many are active.

        Raises ``ValueError`` if they would straddle the ring's end.
        """
        first = start % self.capacity
        if first + tokens > self.capacity:
            raise ValueError(
                f"{tokens} tokens at slot {first} straddle the end of a ring of {self.capacity}"
            )
        active = start + tokens if start < self.capacity else self.capacity
        return first, active

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put rotated keys and values ``[L, H, D]`` into the ring at ``slot``."""
        at = slice(self.lead + slot, self.lead + slot + len(k))
        self._k[layer][at].copy_(k)
        self._v[layer][at].copy_(v)

    @property
    def has_lead(self) -> bool:
        """Whether conditioning lies here once it was taken."""
        return self.lead > 0

    def lead_of(self, layer: int) -> tuple[Tensor, Tensor]:
        """Rotated keys and values of the conditioning, ``[lead, H, D]``."""
        return self._k[layer][: self.lead], self._v[layer][: self.lead]

    def set_lead(self, layer: int, cond: Conditioning, shift: int, reference_table: Tensor) -> None:
        """Make the lead hold ``cond``, the reference rotated by ``reference_table``.

        Raises ``ValueError`` if ``cond`` was not prefilled or has another number of tokens.
        """
        fill = filled(cond, layer, self.lead)
        source, known, at = self._held.get(layer, (None, None, None))
        if (known, at) == (fill, shift):
            return
        keys, values = self.lead_of(layer)
        if known is not fill:
            before = None if source is None else source()
            if before is not None:
                before.leaving(layer, self)
        turn_lead(keys, values, cond, layer, reference_table, anew=known is not fill)
        if known is not fill:
            cond.taken(layer, self)
        self._held[layer] = (weakref.ref(cond), fill, shift)

    def window(self, layer: int, active: int) -> tuple[Tensor, Tensor]:
        """Keys and values that attention sees: the lead and the first ``active`` slots."""
        return self._k[layer][: self.lead + active], self._v[layer][: self.lead + active]

    def touch(self) -> None:
        """Write zeros everywhere: zeroed memory has no pages until it is written."""
        for buffer in (*self._k.values(), *self._v.values()):
            buffer.zero_()

    def kept(self, layer: int) -> dict[str, Tensor]:
        """A layer's rows as they are stored: views ``[capacity, H, …]``, to read or to write."""
        return {"k": self.k(layer), "v": self.v(layer)}

    def snapshot(self) -> dict[str, Tensor]:
        """The ring's tensors by name (views, no copies); the lead can always be made again."""
        named = {f"{n}.k": self.k(n) for n in self.layers}
        return named | {f"{n}.v": self.v(n) for n in self.layers}

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Take back what ``snapshot`` gave."""
        for n in self.layers:
            self.k(n).copy_(named[f"{n}.k"])
            self.v(n).copy_(named[f"{n}.v"])

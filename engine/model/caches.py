"""What attention remembers: a ring of keys and values per denoising step, and the conditioning.

Attention must see one contiguous run of keys without concatenating anything, so a ring's buffer
has room in front (the *lead*) for the conditioning tokens. Rotated conditioning keys are written
there only when they change: everything on a new clip epoch, the reference's keys when its time
position moves, nothing otherwise. Key order is always conditioning first, then the ring's slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    ) -> None:
        shape = (tokens, heads, head_dim)
        self.layers = _layers(layers)
        self.tokens = tokens
        self.reference_tokens = reference_tokens
        self.k = {n: torch.zeros(shape, dtype=dtype, device=device) for n in self.layers}
        self.v = {n: torch.zeros(shape, dtype=dtype, device=device) for n in self.layers}
        self.job = job
        self.motion_table: Tensor | None = None
        self.fills: dict[int, object] = {}  # a fresh token per fill, to know a lead by

    @property
    def own_nbytes(self) -> int:
        return _nbytes((self.k, self.v))

    @property
    def nbytes(self) -> int:
        return self.own_nbytes + self.job.nbytes

    def fill(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Take un-rotated keys and values ``[tokens, H, D]`` of one layer."""
        self.k[layer].copy_(k)
        self.v[layer].copy_(v)
        self.fills[layer] = object()

    def snapshot(self) -> dict[str, Tensor]:
        """The tensors that define this object, by name (no copies)."""
        named = {f"cond.{n}.k": t for n, t in self.k.items()}
        named |= {f"cond.{n}.v": t for n, t in self.v.items()}
        named |= {f"text.{n}.k": t for n, t in self.job.k.items()}
        named |= {f"text.{n}.v": t for n, t in self.job.v.items()}
        if self.motion_table is not None:
            named["motion_table"] = self.motion_table
        return named

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Take back what ``snapshot`` gave; the object is filled afterwards."""
        for n in self.layers:
            self.fill(n, named[f"cond.{n}.k"], named[f"cond.{n}.v"])
            self.job.fill(n, named[f"text.{n}.k"], named[f"text.{n}.v"])
        self.motion_table = named["motion_table"].to(self.k[self.layers[0]].device).clone()


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
        # What each layer's lead holds: the fill it came from and the shift of the reference.
        self._held: dict[int, tuple[object, int]] = {}

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

    def set_lead(self, layer: int, cond: Conditioning, shift: int, reference_table: Tensor) -> None:
        """Make the lead hold ``cond``, the reference rotated by ``reference_table``.

        Raises ``ValueError`` if ``cond`` was not prefilled or has another number of tokens.
        """
        if layer not in cond.fills or cond.motion_table is None:
            raise ValueError(f"the conditioning of layer {layer} was not prefilled")
        if cond.tokens != self.lead:
            raise ValueError(f"a lead of {self.lead} tokens cannot hold {cond.tokens}")
        fill = cond.fills[layer]
        held = self._held.get(layer, (None, None))
        if held == (fill, shift):
            return
        ref = cond.reference_tokens
        keys, buffer = cond.k[layer], self._k[layer]
        buffer[:ref].copy_(rotate(keys[:ref], reference_table))
        if held[0] is not fill:
            buffer[ref : self.lead].copy_(rotate(keys[ref:], cond.motion_table))
            self._v[layer][: self.lead].copy_(cond.v[layer])
        self._held[layer] = (fill, shift)

    def window(self, layer: int, active: int) -> tuple[Tensor, Tensor]:
        """Keys and values that attention sees: the lead and the first ``active`` slots."""
        return self._k[layer][: self.lead + active], self._v[layer][: self.lead + active]

    def snapshot(self) -> dict[str, Tensor]:
        """The ring's tensors by name (views, no copies); the lead can always be made again."""
        named = {f"{n}.k": self.k(n) for n in self.layers}
        return named | {f"{n}.v": self.v(n) for n in self.layers}

    def restore(self, named: Mapping[str, Tensor]) -> None:
        """Take back what ``snapshot`` gave."""
        for n in self.layers:
            self.k(n).copy_(named[f"{n}.k"])
            self.v(n).copy_(named[f"{n}.v"])
        self._held.clear()

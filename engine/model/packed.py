"""Rings that keep keys and values as they are stored, and show attention one window they share.

A rank has one window ``[lead + capacity]`` on its device. Before each attention the ring's rows
are unpacked into it, behind the conditioning, which then exists once per epoch and not once per
denoising step. That costs a copy within the device's memory per layer and step, and lets rows be
stored in another type (fp8) or elsewhere (the host). Attention sees the same bytes at the same
strides as in a ring with a lead of its own, so latents are equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol

import torch
from torch import Tensor

from engine.model.caches import Conditioning, RollingCache, filled, turn_lead

Packing = Literal["plain", "fp8"]

#: Largest number of ``float8_e4m3fn``.
_E4M3_MAX: Final = 448.0
#: A row's scale lies behind its values.
_SCALE_BYTES: Final = 4


def row_bytes(head_dim: int, dtype: torch.dtype, packing: Packing) -> int:
    """Bytes of one head of one token as stored."""
    return head_dim + _SCALE_BYTES if packing == "fp8" else head_dim * dtype.itemsize


def pack(rows: Tensor, x: Tensor, packing: Packing) -> None:
    """Store ``x [L, H, D]`` in ``rows [L, H, row_bytes]`` (uint8).

    fp8: ``float8_e4m3fn`` with a scale for every token and head. Scales are powers of two, so that
    unpacking is exact in bf16 and packing what was unpacked changes nothing.
    """
    if packing == "plain":
        rows.view(x.dtype).copy_(x)
        return
    wide = x.float()
    _, exponent = torch.frexp(wide.abs().amax(-1, keepdim=True) / _E4M3_MAX)
    scale = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
    width = x.shape[-1]
    rows[..., :width].view(torch.float8_e4m3fn).copy_(wide / scale)
    rows[..., width:].view(torch.float32).copy_(scale)


def unpack(rows: Tensor, out: Tensor, packing: Packing) -> None:
    """Read ``rows [L, H, row_bytes]`` into ``out [L, H, D]``."""
    if packing == "plain":
        out.copy_(rows.view(out.dtype))
        return
    width = out.shape[-1]
    out.copy_(rows[..., :width].view(torch.float8_e4m3fn))
    out.mul_(rows[..., width:].view(torch.float32))


class Store(Protocol):
    """Where the rows of one ring lie, ``[2, capacity, H, row_bytes]`` uint8 per layer."""

    def use(self, layer: int) -> Tensor:
        """A layer's rows on the device, for the attention that comes next."""
        ...

    def wrote(self, layer: int, rows: slice) -> None:
        """Rows of the layer last used have just been written."""
        ...

    def whole(self, layer: int) -> Tensor:
        """A layer's rows where they are kept, up to date, to read or to write."""
        ...

    def replaced(self) -> None:
        """What ``whole`` gave was written to."""
        ...

    def nbytes(self) -> int:
        """Bytes on the device."""
        ...


class DeviceStore:
    """Rows that stay on the device."""

    def __init__(
        self, layers: Iterable[int], shape: tuple[int, ...], device: torch.device | str
    ) -> None:
        self._rows = {n: torch.zeros(shape, dtype=torch.uint8, device=device) for n in layers}

    def use(self, layer: int) -> Tensor:
        return self._rows[layer]

    def wrote(self, layer: int, rows: slice) -> None:
        """They are where they belong."""

    def whole(self, layer: int) -> Tensor:
        return self._rows[layer]

    def replaced(self) -> None:
        """Nothing else has a copy."""

    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows.values())


class Window:
    """The keys and values that attention sees: ``[2, lead + capacity, H, D]``, one a rank."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str):
        self.pair = torch.zeros(shape, dtype=dtype, device=device)
        self._lead: tuple[object, int] | None = None  # the fill and the shift that it holds

    def set_lead(
        self, layer: int, lead: int, cond: Conditioning, shift: int, reference_table: Tensor
    ) -> None:
        """As ``RollingCache.set_lead``, for whichever ring uses the window now."""
        fill = filled(cond, layer, lead)
        if self._lead == (fill, shift):
            return
        anew = self._lead is None or self._lead[0] is not fill
        turn_lead(self.pair[0, :lead], self.pair[1, :lead], cond, layer, reference_table, anew=anew)
        self._lead = (fill, shift)


class PackedRing(RollingCache):
    """A ring whose rows lie in a ``Store``, shown through its rank's ``Window``."""

    def __init__(
        self,
        layers: tuple[int, ...],
        capacity: int,
        lead: int,
        store: Store,
        window: Window,
        packing: Packing,
    ) -> None:
        super().__init__((), capacity, 1, 1, torch.float32, "cpu", lead=lead)
        self.layers = layers
        self._store, self._window, self._packing = store, window, packing
        self._rows: Tensor | None = None  # of the layer in use

    @property
    def has_lead(self) -> bool:
        """The window's lead is overwritten by the next layer."""
        return False

    @property
    def nbytes(self) -> int:
        return self._store.nbytes()

    def k(self, layer: int) -> Tensor:
        return self._unpacked(self._store.whole(layer)[0])

    def v(self, layer: int) -> Tensor:
        return self._unpacked(self._store.whole(layer)[1])

    def _unpacked(self, rows: Tensor) -> Tensor:
        dtype = self._window.pair.dtype
        if self._packing == "plain":
            return rows.view(dtype)
        shape = (*rows.shape[:-1], self._window.pair.shape[-1])
        out = torch.empty(shape, dtype=dtype, device=rows.device)
        unpack(rows, out, self._packing)
        return out

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        """Put rotated keys and values ``[L, H, D]`` into the ring; its layer is then in use."""
        self._rows = self._store.use(layer)
        at = slice(slot, slot + len(k))
        for part, given in enumerate((k, v)):
            pack(self._rows[part, at], given, self._packing)
        self._store.wrote(layer, at)

    def set_lead(self, layer: int, cond: Conditioning, shift: int, reference_table: Tensor) -> None:
        self._window.set_lead(layer, self.lead, cond, shift, reference_table)

    def window(self, layer: int, active: int) -> tuple[Tensor, Tensor]:
        """Keys and values that attention sees; of the layer that was written to last.

        Raises ``ValueError`` before anything was written.
        """
        if self._rows is None:
            raise ValueError(f"layer {layer} is not in use: write to it first")
        end = self.lead + active
        for part in range(2):
            target = self._window.pair[part, self.lead : end]
            unpack(self._rows[part, :active], target, self._packing)
        return self._window.pair[0, :end], self._window.pair[1, :end]

    def touch(self) -> None:
        for layer in self.layers:
            self._store.whole(layer).zero_()
        self._store.replaced()

    def kept(self, layer: int) -> dict[str, Tensor]:
        if self._packing == "plain":
            return super().kept(layer)
        rows = self._store.whole(layer)
        return {"k": rows[0], "v": rows[1]}

    def snapshot(self) -> dict[str, Tensor]:
        """Keys and values, or packed rows as they are stored, so that they come back bit by bit."""
        if self._packing == "plain":
            return super().snapshot()
        return {f"{n}.rows": self._store.whole(n) for n in self.layers}

    def restore(self, named: Mapping[str, Tensor]) -> None:
        for n in self.layers:
            rows = self._store.whole(n)
            if self._packing != "plain" and f"{n}.rows" in named:
                rows.copy_(named[f"{n}.rows"])
                continue
            for part, name in enumerate((f"{n}.k", f"{n}.v")):
                dtype, device = self._window.pair.dtype, rows.device
                pack(rows[part], named[name].to(device, dtype), self._packing)
        self._store.replaced()


class PackedRings:
    """Makes rings on the device that share a window. ``ring`` is for ``Generation``."""

    def __init__(self, device: torch.device, packing: Packing = "plain") -> None:
        self.device, self.packing = device, packing
        self.window: Window | None = None
        self.remark: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes on the device beside the rings' own."""
        return 0 if self.window is None else self.window.pair.nbytes

    def ring(
        self,
        layers: int | Iterable[int],
        capacity: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,  # noqa: ARG002 - the rank's own
        *,
        lead: int = 0,
    ) -> RollingCache:
        """Arguments as of ``RollingCache``."""
        numbers = tuple(range(layers)) if isinstance(layers, int) else tuple(layers)
        if self.window is None:
            self.window = Window((2, lead + capacity, heads, head_dim), dtype, self.device)
        shape = (2, capacity, heads, row_bytes(head_dim, dtype, self.packing))
        store = self.store(numbers, shape)
        return PackedRing(numbers, capacity, lead, store, self.window, self.packing)

    def store(self, layers: tuple[int, ...], shape: tuple[int, ...]) -> Store:
        """Memory for one ring."""
        return DeviceStore(layers, shape, self.device)

    def close(self) -> None:
        """Give back what is not freed by itself: nothing, on the device."""

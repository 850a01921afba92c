"""Rings of keys and values that lie in host memory and come to the device for their moment of use.

Two slots on the device take turns: while attention reads one (step, layer), the next is copied by
a stream of its own, which also brings back what the block wrote. Order matters: a rank does the
same (step, layer) pairs again and again, so the one that followed last time is fetched ahead.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from engine.model.caches import Conditioning, RollingCache
from engine.placement.onrank.hostweights import HostMemory

_SLOTS: Final = 2
_Key = tuple[int, int]  # ring's number, layer


@dataclass
class _Slot:
    """Room on the device for keys and values of one layer of one ring."""

    pair: Tensor  # [2, lead + capacity, H, D]
    key: _Key | None = None
    ready: torch.cuda.Event | None = None  # its copy is done
    free: torch.cuda.Event | None = None  # the last attention over it is done


class HostRings:
    """The device slots that all rings of a rank share. ``ring`` makes a ring, for ``Generation``.

    ``remark`` says why the host memory is not pinned, if it should be and is not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.remark: str | None = None
        self._rings: list[HostRing] = []
        self._slots: list[_Slot] = []
        self._memory: list[HostMemory] = []
        self._turn = 0
        self._used: _Slot | None = None
        self._last: _Key | None = None
        self._after: dict[_Key, _Key] = {}
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(slot.pair.nbytes for slot in self._slots)

    def ring(
        self,
        layers: int | Iterable[int],
        capacity: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,  # noqa: ARG002 - rings lie in host memory
        *,
        lead: int = 0,
    ) -> RollingCache:
        """Arguments as of ``RollingCache``."""
        numbers = tuple(range(layers)) if isinstance(layers, int) else tuple(layers)
        shape = (2, lead + capacity, heads, head_dim)
        if not self._slots:
            self._slots = [
                _Slot(torch.zeros(shape, dtype=dtype, device=self.device)) for _ in range(_SLOTS)
            ]
            if self._stream is not None:
                self._stream.wait_stream(torch.cuda.current_stream(self.device))
        made = HostRing(
            self, len(self._rings), numbers, capacity, lead, self._host(numbers, shape, dtype)
        )
        self._rings.append(made)
        return made

    def _host(
        self, layers: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype
    ) -> dict[int, Tensor]:
        size = torch.Size(shape).numel() * dtype.itemsize
        if not layers:
            return {}
        # Anonymous memory of whole pages: zero, and no page is shared between registrations.
        memory = HostMemory(torch.frombuffer(mmap.mmap(-1, size * len(layers)), dtype=torch.uint8))
        memory.pin(self.device)
        self.remark = self.remark or memory.unpinned_because
        self._memory.append(memory)
        parts = memory.bytes.view(dtype).view(len(layers), *shape)
        return {n: parts[i] for i, n in enumerate(layers)}

    def close(self) -> None:
        """Undo registrations; no ring may be used afterwards."""
        for memory in self._memory:
            memory.close(self.device)

    # For rings

    def acquire(self, key: _Key) -> Tensor:
        """Keys and values of a layer of a ring on the device, ``[2, lead + capacity, H, D]``."""
        if self._stream is not None and self._used is not None:
            # Whatever attention read is behind us on this stream.
            self._used.free = torch.cuda.current_stream(self.device).record_event()
        slot = self._find(key) or self._fetch(key)
        if self._last is not None:
            self._after[self._last] = key
        self._last, self._used = key, slot
        if slot.ready is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.ready)
        following = self._after.get(key)
        if following is not None and self._find(following) is None:
            self._fetch(following, but=slot)
        return slot.pair

    def bring_back(self, key: _Key, rows: slice) -> None:
        """Copy rows of a layer that were just written to the host."""
        slot = self._find(key)
        assert slot is not None  # it was acquired
        ring, layer = key
        host = self._rings[ring].host[layer]
        if self._stream is None:
            host[:, rows].copy_(slot.pair[:, rows])
            return
        self._stream.wait_event(torch.cuda.current_stream(self.device).record_event())
        with torch.cuda.stream(self._stream):
            for part in range(2):
                host[part, rows].copy_(slot.pair[part, rows], non_blocking=True)

    def settle(self) -> None:
        """Until the host's copy is whole."""
        if self._stream is not None:
            self._stream.synchronize()

    def forget(self, ring: int) -> None:
        """The host's copy of a ring was changed: what the device has of it is old."""
        self.settle()
        for slot in self._slots:
            if slot.key is not None and slot.key[0] == ring:
                slot.key = None

    def _find(self, key: _Key) -> _Slot | None:
        return next((slot for slot in self._slots if slot.key == key), None)

    def _fetch(self, key: _Key, but: _Slot | None = None) -> _Slot:
        slot = self._slots[self._turn]
        if slot is but:
            self._turn = (self._turn + 1) % _SLOTS
            slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % _SLOTS
        host = self._rings[key[0]].host[key[1]]
        if self._stream is None:
            slot.pair.copy_(host)
        else:
            if slot.free is not None:
                self._stream.wait_event(slot.free)
            with torch.cuda.stream(self._stream):
                slot.pair.copy_(host, non_blocking=True)
            slot.ready = self._stream.record_event()
        slot.key = key
        return slot


class HostRing(RollingCache):
    """A ring in host memory, used through its rank's slots; made by ``HostRings.ring``."""

    def __init__(
        self,
        rings: HostRings,
        number: int,
        layers: tuple[int, ...],
        capacity: int,
        lead: int,
        host: dict[int, Tensor],
    ) -> None:
        super().__init__((), capacity, 1, 1, torch.float32, "cpu", lead=lead)
        self.layers = layers
        self.host = host
        self._rings, self._number = rings, number

    @property
    def nbytes(self) -> int:
        """None on the device: the slots are the rank's."""
        return 0

    def k(self, layer: int) -> Tensor:
        return self.host[layer][0, self.lead :]

    def v(self, layer: int) -> Tensor:
        return self.host[layer][1, self.lead :]

    def write(self, layer: int, slot: int, k: Tensor, v: Tensor) -> None:
        self._take(layer)
        super().write(layer, slot, k, v)
        self._rings.bring_back(
            (self._number, layer), slice(self.lead + slot, self.lead + slot + len(k))
        )

    def set_lead(self, layer: int, cond: Conditioning, shift: int, reference_table: Tensor) -> None:
        before = self._held.get(layer)
        super().set_lead(layer, cond, shift, reference_table)
        if self._held[layer] != before:
            self._rings.bring_back((self._number, layer), slice(0, self.lead))

    def snapshot(self) -> dict[str, Tensor]:
        self._rings.settle()
        return super().snapshot()

    def restore(self, named: Mapping[str, Tensor]) -> None:
        self._rings.forget(self._number)
        super().restore(named)

    def _take(self, layer: int) -> None:
        """Let the layer's keys and values be those on the device."""
        pair = self._rings.acquire((self._number, layer))
        self._k[layer], self._v[layer] = pair[0], pair[1]

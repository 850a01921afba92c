"""Rings of keys and values that lie in host memory and come to the device for their moment of use.

Two slots on the device take turns: while attention reads one (step, layer), the next is copied by
a stream of its own, which also brings back what the block wrote. Order matters: a rank does the
same (step, layer) pairs again and again, so the one that followed last time is fetched ahead.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from engine.model.packed import PackedRings, Packing, Store
from engine.placement.onrank.hostweights import HostMemory

_SLOTS: Final = 2
_Key = tuple[int, int]  # ring's number, layer


@dataclass
class _Slot:
    """Room on the device for the rows of one layer of one ring."""

    rows: Tensor  # [2, capacity, H, row_bytes]
    key: _Key | None = None
    ready: torch.cuda.Event | None = None  # its copy is done
    free: torch.cuda.Event | None = None  # the last attention over it is done


class HostRings(PackedRings):
    """The device slots that all rings of a rank share. ``ring`` makes a ring, for ``Generation``.

    ``remark`` says why the host memory is not pinned, if it should be and is not.
    """

    def __init__(self, device: torch.device, packing: Packing = "plain") -> None:
        super().__init__(device, packing)
        self.hosts: list[dict[int, Tensor]] = []  # per ring: layer → rows
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
        return super().nbytes + sum(slot.rows.nbytes for slot in self._slots)

    def store(self, layers: tuple[int, ...], shape: tuple[int, ...]) -> Store:
        if not self._slots:
            self._slots = [
                _Slot(torch.zeros(shape, dtype=torch.uint8, device=self.device))
                for _ in range(_SLOTS)
            ]
            if self._stream is not None:
                self._stream.wait_stream(torch.cuda.current_stream(self.device))
        self.hosts.append(self._host(layers, shape))
        return _HostStore(self, len(self.hosts) - 1)

    def _host(self, layers: tuple[int, ...], shape: tuple[int, ...]) -> dict[int, Tensor]:
        if not layers:
            return {}
        size = torch.Size(shape).numel() * len(layers)
        # Anonymous memory of whole pages: zero, and no page is shared between registrations.
        memory = HostMemory(torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8))
        memory.pin(self.device)
        self.remark = self.remark or memory.unpinned_because
        self._memory.append(memory)
        parts = memory.bytes.view(len(layers), *shape)
        return {n: parts[i] for i, n in enumerate(layers)}

    def close(self) -> None:
        """Undo registrations; no ring may be used afterwards."""
        for memory in self._memory:
            memory.close(self.device)

    # For stores

    def acquire(self, key: _Key) -> Tensor:
        """The rows of a layer of a ring on the device, ``[2, capacity, H, row_bytes]``."""
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
        return slot.rows

    def bring_back(self, key: _Key, rows: slice) -> None:
        """Copy rows of a layer that were just written to the host."""
        slot = self._find(key)
        assert slot is not None  # it was acquired
        ring, layer = key
        host = self.hosts[ring][layer]
        if self._stream is None:
            host[:, rows].copy_(slot.rows[:, rows])
            return
        self._stream.wait_event(torch.cuda.current_stream(self.device).record_event())
        with torch.cuda.stream(self._stream):
            for part in range(2):
                host[part, rows].copy_(slot.rows[part, rows], non_blocking=True)

    def settle(self) -> None:
        """Until the host's copy is whole."""
        if self._stream is not None:
            self._stream.synchronize()

    def forget(self, ring: int) -> None:
        """The host's copy of a ring was changed: what the device has of it is old."""
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
        host = self.hosts[key[0]][key[1]]
        if self._stream is None:
            slot.rows.copy_(host)
        else:
            if slot.free is not None:
                self._stream.wait_event(slot.free)
            with torch.cuda.stream(self._stream):
                slot.rows.copy_(host, non_blocking=True)
            slot.ready = self._stream.record_event()
        slot.key = key
        return slot


class _HostStore:
    """The rows of one ring in host memory, used through its rank's slots."""

    def __init__(self, rings: HostRings, number: int) -> None:
        self._rings, self._number = rings, number

    def use(self, layer: int) -> Tensor:
        return self._rings.acquire((self._number, layer))

    def wrote(self, layer: int, rows: slice) -> None:
        self._rings.bring_back((self._number, layer), rows)

    def whole(self, layer: int) -> Tensor:
        self._rings.settle()
        return self._rings.hosts[self._number][layer]

    def replaced(self) -> None:
        self._rings.forget(self._number)

    def nbytes(self) -> int:
        """None: the slots are the rank's."""
        return 0

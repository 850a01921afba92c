"""Slots of pinned host memory between two ranks: what one puts in, the other takes out.

No device ever waits for another: a body is copied to the host by a stream of the sender's, its
header follows when the copy is done, and the receiver copies it up when it has read the header. A
send that nobody has received yet holds no kernel, no communicator and no device memory, so a call
that waits for the whole device (memory, pinning, a module loaded late) can never wait for a peer.
On one host the way through its memory costs about a millisecond for the largest message of the
14B, beside 50 ms and more of work.

The memory is an anonymous file of the sender's, opened by the receiver through ``/proc``: it has no
name, and is gone with the last process that maps it.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from engine.placement.onrank.hostweights import HostMemory

_PAGE: Final = 4096
#: Seconds between two looks for a slot that the receiver has emptied.
_LOOK_SECONDS: Final = 0.0005


class MailboxFullError(RuntimeError):
    """The receiver took nothing for as long as a message may take."""

    kind = "comm"


@dataclass(frozen=True)
class Address:
    """Where a receiver finds a mailbox: process, descriptor, bytes of a slot and their number."""

    pid: int
    descriptor: int
    slot_bytes: int
    slots: int

    def fields(self) -> tuple[int, int, int, int]:
        return self.pid, self.descriptor, self.slot_bytes, self.slots


class Mailbox:
    """One direction between two ranks, for messages of up to ``slot_bytes``.

    The first page holds a byte per slot: 1 while it is full. The sender alone sets it, the receiver
    alone clears it.
    """

    def __init__(self, address: Address, mapping: mmap.mmap, device: torch.device) -> None:
        self.address = address
        self.memory = HostMemory(torch.frombuffer(mapping, dtype=torch.uint8))
        self.memory.pin(device)
        self._device = device
        self._next = 0

    @staticmethod
    def make(slot_bytes: int, slots: int, device: torch.device) -> Mailbox:
        """The sender's end.

        Raises:
            OSError: no memory for it.
        """
        if not 0 < slots <= _PAGE:
            raise ValueError(f"{slots} slots; 1 to {_PAGE} are possible")
        descriptor = os.memfd_create("avatop-wire", os.MFD_CLOEXEC)
        address = Address(os.getpid(), descriptor, slot_bytes, slots)
        os.truncate(descriptor, _size(address))
        return Mailbox(address, _map(descriptor, address), device)

    @staticmethod
    def open(address: Address, device: torch.device) -> Mailbox:
        """The receiver's end.

        Raises:
            OSError: the sender is gone.
        """
        path = f"/proc/{address.pid}/fd/{address.descriptor}"
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return Mailbox(address, _map(descriptor, address), device)
        finally:
            os.close(descriptor)

    def take_slot(self, seconds: float) -> int:
        """An empty slot, marked as full; waits for one.

        Raises:
            MailboxFullError: none in ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            for n in range(self.address.slots):
                slot = (self._next + n) % self.address.slots
                if self.memory.bytes[slot].item() == 0:
                    self.memory.bytes[slot] = 1
                    self._next = slot + 1
                    return slot
            if time.monotonic() > deadline:
                raise MailboxFullError(
                    f"no message of {self.address.slots} was taken within {seconds:.0f} s"
                )
            time.sleep(_LOOK_SECONDS)

    def empty(self, slot: int) -> None:
        """The receiver has taken what the slot held."""
        self.memory.bytes[slot] = 0

    def body(self, slot: int, nbytes: int) -> Tensor:
        """The slot's first ``nbytes`` as uint8, in host memory."""
        start = _PAGE + slot * _stride(self.address)
        return self.memory.bytes[start : start + nbytes]

    def close(self) -> None:
        """Let go of it. The sender's descriptor stays until its process ends: a receiver that is
        behind may have yet to open it."""
        self.memory.close(self._device)


def _stride(address: Address) -> int:
    return -(-address.slot_bytes // _PAGE) * _PAGE


def _size(address: Address) -> int:
    return _PAGE + address.slots * _stride(address)


def _map(descriptor: int, address: Address) -> mmap.mmap:
    return mmap.mmap(descriptor, _size(address), mmap.MAP_SHARED)

"""Weights in host memory that exists once per host: one rank fills it, all that need it map it.

The memory is an anonymous file (``memfd``): it has no name in ``/dev/shm``, is not bounded by that
folder's size, and is gone with the last process that maps it, however that ends.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.placement.onrank.groups import Groups

#: ``cudaHostRegisterPortable``: pinned for every context of the process.
_PORTABLE = 1


@dataclass
class HostMemory:
    """A mapping of ``[bytes]`` uint8; ``pinned`` where the device copies from it by itself.

    ``unpinned_because`` says why not, where that was wanted.
    """

    bytes: Tensor
    pinned: bool = False
    unpinned_because: str | None = None

    def pin(self, device: torch.device) -> None:
        """Register the memory with CUDA; where that fails, copies are slower and hold the host."""
        if device.type != "cuda":
            return
        address, size = self.bytes.data_ptr(), self.bytes.numel()
        try:
            code = _cudart().cudaHostRegister(address, size, _PORTABLE)
        except RuntimeError as error:
            self.unpinned_because = str(error)
            return
        if int(code) != 0:
            self.unpinned_because = f"cudaHostRegister of {size} bytes gave error {int(code)}"
            _forget_error(device)
            return
        self.pinned = True

    def close(self, device: torch.device) -> None:
        """Undo the registration. The mapping goes with its last tensor."""
        if self.pinned:
            torch.cuda.synchronize(device)
            _cudart().cudaHostUnregister(self.bytes.data_ptr())
            self.pinned = False


def share(groups: Groups, owner: int, size: int, *, wanted: bool) -> HostMemory | None:
    """``size`` bytes, zero at first, made by rank ``owner``; mapped where they are ``wanted``.

    Every rank of the job must call this; the owner has the memory in any case.

    Raises:
        OSError: the owner's file cannot be made or opened.
    """
    pair = torch.zeros(2, dtype=torch.int64)
    descriptor = -1
    if groups.rank == owner:
        descriptor = os.memfd_create("avatop-weights", os.MFD_CLOEXEC)
        os.truncate(descriptor, size)
        pair = torch.tensor([os.getpid(), descriptor])
    pid, number = groups.from_rank(owner, pair).tolist()
    try:
        if groups.rank != owner and wanted:
            descriptor = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
        memory = None if descriptor < 0 else HostMemory(_map(descriptor, size))
        groups.barrier()  # the owner closes its descriptor only when all have opened it
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return memory


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _forget_error(device: torch.device) -> None:
    """CUDA keeps a failed call's error for the next launch to report: let that be this one."""
    with contextlib.suppress(RuntimeError):
        torch.zeros(1, device=device)


def _map(descriptor: int, size: int) -> Tensor:
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    # The tensor keeps the mapping alive.
    return torch.frombuffer(mmap.mmap(descriptor, size, mmap.MAP_SHARED), dtype=torch.uint8)

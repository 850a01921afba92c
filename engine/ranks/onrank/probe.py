"""What can be measured of this process's memory: levels, peaks, and what lies outside our books.

On CUDA the allocator tells exactly; the device's own figure says what lies outside it. On a CPU
rank the kernel tells: resident pages, and their high-water mark since it was last reset.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Protocol

import torch

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Probe(Protocol):
    """Measures one rank's device. All figures in bytes.

    ``context`` is what the process took before it loaded anything, None where nothing tells.
    ``exact`` says that levels count single allocations; resident pages lag behind them.
    """

    context: int | None
    exact: bool

    def level(self) -> int:
        """What is in use now: live allocations (CUDA) or resident pages above context (CPU)."""
        ...

    def reset_peak(self) -> None:
        """Begin a new window for ``peak``."""
        ...

    def peak(self) -> int:
        """Highest level since ``reset_peak``."""
        ...

    def slack(self) -> int:
        """Kept by the allocator beyond what is in use."""
        ...

    def outside(self) -> int:
        """Taken on the device by this process beyond allocator and context, when last refreshed."""
        ...

    def refresh(self) -> None:
        """Ask the device again; slower than the rest."""
        ...

    def trim(self) -> None:
        """Give back what is kept without being used."""
        ...


class CpuProbe:
    """Resident memory of this process, from ``/proc/self``.

    Where the kernel does not let the high-water mark be reset, peaks are levels.
    """

    exact = False

    def __init__(self) -> None:
        self._status = Path("/proc/self/status")
        self._statm = Path("/proc/self/statm")
        self._clear = Path("/proc/self/clear_refs")
        self._can_reset = True
        self.context: int | None = self._resident()

    def _resident(self) -> int:
        return int(self._statm.read_bytes().split()[1]) * _PAGE

    def level(self) -> int:
        return max(0, self._resident() - (self.context or 0))

    def reset_peak(self) -> None:
        if self._can_reset:
            try:
                self._clear.write_bytes(b"5")  # proc(5): resets VmHWM to VmRSS
            except OSError:
                self._can_reset = False

    def peak(self) -> int:
        if self._can_reset:
            for line in self._status.read_bytes().splitlines():
                if line.startswith(b"VmHWM:"):
                    return max(0, int(line.split()[1]) * 1024 - (self.context or 0))
        return self.level()

    def slack(self) -> int:
        return 0

    def outside(self) -> int:
        return 0

    def refresh(self) -> None:
        """Nothing to ask: a CPU rank has no device beside the process."""

    def trim(self) -> None:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have none
        if trim is not None:
            trim(ctypes.c_size_t(0))


class CudaProbe:
    """The caching allocator's statistics, and the device's own figure for the rest.

    Where NVML does not tell this process's share of the device, ``context`` is None and what lies
    outside the allocator stays unknown.
    """

    exact = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        torch.zeros(1, device=device)  # makes the context, if there is none yet
        own = own_device_bytes(device)
        self.context: int | None = None
        self._foreign = 0
        self._outside = 0
        if own is not None:
            self.context = max(0, own - self._reserved())
            self._foreign = max(0, self._used() - own)

    def _used(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        return int(total - free)

    def _reserved(self) -> int:
        return int(torch.cuda.memory_reserved(self._device))

    def level(self) -> int:
        return int(torch.cuda.memory_allocated(self._device))

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated(self._device))

    def slack(self) -> int:
        return self._reserved() - self.level()

    def outside(self) -> int:
        return self._outside

    def refresh(self) -> None:
        if self.context is not None:
            grown = self._used() - self._foreign - self.context - self._reserved()
            self._outside = max(0, grown)

    def trim(self) -> None:
        torch.cuda.empty_cache()


def probe_for(device: torch.device) -> Probe:
    """The probe of a rank's device. Call it before anything is loaded."""
    return CudaProbe(device) if device.type == "cuda" else CpuProbe()


def own_device_bytes(device: torch.device) -> int | None:
    """This process's memory on the device by NVML, its context included; None: NVML cannot tell.

    In a container the process numbers of NVML are the host's: then the device's only process is
    taken for this one, as devices are leased to one job.
    """
    import pynvml

    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    if not uuid:
        return None
    try:
        pynvml.nvmlInit()
        try:
            name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    mine = [p for p in found if p.pid == os.getpid()] or (found if len(found) == 1 else [])
    return mine[0].usedGpuMemory if mine else None

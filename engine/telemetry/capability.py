"""Compute capability of the GPUs that are here, by UUID."""

from __future__ import annotations

from collections.abc import Iterable


def capabilities(uuids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """UUID → (major, minor). Devices that NVML does not tell of are left out."""
    import pynvml

    found: dict[str, tuple[int, int]] = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return found
    try:
        for uuid in uuids:
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            except pynvml.NVMLError:
                continue
            found[uuid] = int(major), int(minor)
    finally:
        pynvml.nvmlShutdown()
    return found

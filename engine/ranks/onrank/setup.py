"""What must be set in a fresh rank before the job's code runs."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

import torch

from engine.ranks.protocol import RankSpec


def prepare(spec: RankSpec) -> RankSpec:
    """Set environment, threads and deterministic switches; returns the spec as the job sees it.

    On CUDA, where the plan names the device's UUID, the rank sees that one GPU alone (no stray
    context can land on another), and its device is ``cuda:0`` from then on.
    """
    _place(spec)
    # cuBLAS repeats its results only with a fixed one
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # Kernels that were built stay built: beside the embeddings, in the user's cache.
    os.environ.setdefault("TRITON_CACHE_DIR", str(Path(spec.cache_dir).with_name("kernels")))
    # All ranks of a group live on one host; resolving its name for an interface can fail.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if not spec.device.startswith("cuda"):
        torch.set_num_threads(1)  # sums are split by thread: one thread, one order
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return spec
    uuid = _planned_uuid(spec)
    if uuid is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid
        spec = dataclasses.replace(spec, device="cuda:0")
    torch.set_num_threads(1)
    # Segments that grow leave no gaps that the next, larger request cannot use.
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(os.environ):
        # Its newer name first: the older one warns of itself.
        told = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
        (told or torch.cuda.memory._set_allocator_settings)("expandable_segments:True")
    device = torch.device(spec.device)
    torch.cuda.set_device(device)
    if spec.gpu_memory_cap is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, spec.gpu_memory_cap / total), device)
    return spec


def prepare_again(spec: RankSpec) -> RankSpec:
    """As ``prepare``, for a further job of a process whose device and switches are set."""
    _place(spec)
    seen = spec.device.startswith("cuda") and _planned_uuid(spec) is not None
    return dataclasses.replace(spec, device="cuda:0") if seen else spec


def _place(spec: RankSpec) -> None:
    os.environ.update(
        RANK=str(spec.rank),
        LOCAL_RANK=str(spec.rank),
        WORLD_SIZE=str(spec.world_size),
        MASTER_ADDR=spec.master_addr,
        MASTER_PORT=str(spec.master_port),
    )


def _planned_uuid(spec: RankSpec) -> str | None:
    for device in spec.plan.get("devices") or ():
        if device.get("rank") == spec.rank:
            uuid = device.get("uuid")
            return uuid if isinstance(uuid, str) and uuid else None
    return None


def describe_device(spec: RankSpec) -> dict[str, Any]:
    """``device_name`` and ``device_uuid`` for the ``hello`` report."""
    if not spec.device.startswith("cuda"):
        return {"device_name": _cpu_name(), "device_uuid": None}
    properties = torch.cuda.get_device_properties(torch.device(spec.device))
    uuid = str(getattr(properties, "uuid", "") or "")
    if uuid and not uuid.startswith(("GPU-", "MIG-")):
        uuid = f"GPU-{uuid}"
    return {"device_name": properties.name, "device_uuid": uuid or None}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

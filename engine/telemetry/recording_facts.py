"""Facts of the host for an incident bundle: versions, driver, devices, settings. No torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any, Final

import psutil

_PACKAGES: Final = ("avatop", "torch", "transformers", "safetensors", "tokenizers", "av", "numpy",
                    "textual", "nvidia-ml-py", "psutil", "pillow", "ftfy")  # fmt: skip
_VARIABLES: Final = ("AVATOP_", "CUDA_", "NCCL_", "NVIDIA_", "TORCH_", "PYTORCH_", "GLOO_", "OMP_",
                     "HF_", "MASTER_", "TERM", "LANG", "LC_")  # fmt: skip


def system_facts(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Versions and the host. Values of the environment are not redacted here."""
    memory = psutil.virtual_memory()
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "system": _system(),
        "machine": platform.machine(),
        "cpus": psutil.cpu_count(),
        "memory_total": memory.total,
        "boot_time": psutil.boot_time(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "nvidia": _nvidia(),
        "environment": {k: v for k, v in sorted(environ.items()) if k.startswith(_VARIABLES)},
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.platform()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nvidia() -> dict[str, Any] | None:
    """Driver and GPUs as the driver tells them; None without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return {
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
            "cuda": int(pynvml.nvmlSystemGetCudaDriverVersion_v2()),
            "gpus": [_gpu(pynvml, n) for n in range(int(pynvml.nvmlDeviceGetCount()))],
        }
    except pynvml.NVMLError as error:
        return {"error": str(error)}
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return {
            "index": index,
            "name": _text(nvml.nvmlDeviceGetName(handle)),
            "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
            "memory_total": int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        }
    except nvml.NVMLError as error:
        return {"index": index, "error": str(error)}


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

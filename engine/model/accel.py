"""Whether the hand-written GPU kernels can be used, in one place.

Every operation that has a kernel also has a plain definition in torch, which is what CPU ranks
compute and what the kernel is tested against. The choice follows from the host and the device
alone, never from a timing, so that every rank of a host chooses alike.
"""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

#: Oldest compute capability that the kernels are built for.
CAPABILITY: Final = (8, 0)


@functools.cache
def missing() -> str | None:
    """Why there are no kernels on this host, or None if there are."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"triton cannot be imported ({error})"
    # Triton builds the stub that launches a kernel with the host's compiler.
    if "CC" not in os.environ and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return "no C compiler on this host, which triton needs to launch kernels"
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").is_file():
        return f"no Python.h in {headers}, which triton needs to launch kernels"
    return None


@functools.cache
def _kernels(index: int | None) -> ModuleType | None:
    if missing() is not None or torch.cuda.get_device_capability(index) < CAPABILITY:
        return None
    from engine.model import kernels

    return kernels


def kernels_for(x: Tensor) -> ModuleType | None:
    """``engine.model.kernels`` where ``x`` lies on a GPU and needs no gradient, else None."""
    return None if not x.is_cuda or x.requires_grad else _kernels(x.device.index)

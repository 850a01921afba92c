"""What measurements of kernels share: settings as in a rank, timing by events, a profile."""

from __future__ import annotations

import os
import re
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu import host
from engine.model import accel

#: Kernel names to what they are, first match wins.
CLASSES = (
    ("attention", r"flash|fmha|sdpa|attention"),
    ("own", r"^_(add_norm|norm_rotate|quantise|causal|add_bias|double)"),
    ("convolution", r"conv|fprop|wgrad|dgrad|xmma_fprop|implicit"),
    ("gemm", r"gemm|nvjet|cutlass|cublas|splitk|gemv|gemmk"),
    ("copy", r"memcpy|memset|copy|cat|catarray|fill"),
    ("other", r""),
)


def settle(threads: int = 1) -> torch.device:
    """Settings as of a rank; the device that is measured."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def about() -> dict[str, Any]:
    """Host and versions."""
    import sys

    found: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "host": host()}
    found["kernels_missing"] = accel.missing()
    if accel.missing() is None:
        from importlib.metadata import version

        found["host"]["triton"] = version("triton")
    found["host"]["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        found["host"]["cudnn"] = torch.backends.cudnn.version()
    return found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device, times: int = 5, warm: int = 2) -> float:
    """Median seconds of one call, by events on a GPU; the first ``warm`` calls are not counted."""
    for _ in range(warm):
        work()
    found = []
    for _ in range(times):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1e3)
        else:
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
    return statistics.median(found)


def short_seconds(work: Callable[[], Any], device: torch.device, times: int = 20) -> float:
    """Mean seconds of a short call, many in a row: launches do not show."""

    def many() -> None:
        for _ in range(times):
            work()

    return seconds(many, device, times=3, warm=1) / times


def waits(work: Callable[[], Any], device: torch.device) -> int | None:
    """How often ``work`` makes the host wait for the GPU, by torch's own check."""
    if device.type != "cuda":
        return None
    wait(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(w.message) for w in caught)


def profile(work: Callable[[], Any], device: torch.device) -> dict[str, Any] | None:
    """Launches and GPU milliseconds of one call by class of kernel, and the costliest kernels."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    wait(device)
    with record(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        work()
        wait(device)
    launches: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    by_name: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for event in found.events():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        name = event.name
        kind = next(k for k, pattern in CLASSES if re.search(pattern, name.lower()))
        milliseconds = event.device_time_total / 1e3
        launches[kind] += 1
        spent[kind] += milliseconds
        by_name[name] += milliseconds
        count[name] += 1
    return {
        "launches": sum(launches.values()),
        "launches_by_class": dict(launches),
        "milliseconds_by_class": {k: round(v, 3) for k, v in spent.items()},
        "costliest": [
            [name[:110], count[name], round(value, 3)] for name, value in by_name.most_common(24)
        ],
    }

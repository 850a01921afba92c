"""``avatop`` where every GPU counts several times: a plan for N cards, run on fewer, larger ones.

    AVATOP_BENCH_CROWD=2 python -m benchmarks.crowded run --gpus 0,1,2,3 --gpu_memory_cap 22.15GiB …

On two GPUs that call gives four ranks, two on each: index n means GPU n modulo 2. The engine, its
plans and its ranks are the real ones; only the list of devices that it sees is longer. Ranks that
need NCCL cannot share a GPU. What is measured so is memory; ranks that share a GPU share its speed.
"""

from __future__ import annotations

import os
from dataclasses import replace

from engine.messages import DeviceReading
from engine.telemetry.nvml import NvmlSource

_read = NvmlSource.read


def crowded(source: NvmlSource) -> tuple[DeviceReading, ...]:
    """Every reading, as often as the environment says, under indices of their own."""
    found = _read(source)
    times = int(os.environ.get("AVATOP_BENCH_CROWD", "2"))
    return tuple(
        replace(reading, index=reading.index + n * len(found))
        for n in range(times)
        for reading in found
    )


def main() -> None:
    NvmlSource.read = crowded  # type: ignore[method-assign]
    from console.cli import main as avatop

    avatop()


if __name__ == "__main__":
    main()

"""Loading the DiT from the page cache to one GPU, against what the link can copy.

From the repository's root: ``python -m benchmarks.load_weights --json FILE``. It writes a
checkpoint with random weights under ``--scratch`` first (32.6 GB for ``--shape 14b``), or reads
``--dir``. ``--shape tiny`` tries the script on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import cuda
from engine.checkpoint.layout import find
from engine.checkpoint.onrank.files import TensorReader
from engine.checkpoint.onrank.load import load_dit
from engine.checkpoint.shapes import SHAPES
from engine.checkpoint.synth import synth
from engine.model.config import Numerics
from engine.model.dit import DiT

GIB = 1 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="14b")
    parser.add_argument("--dir", type=Path, help="a checkpoint that is there already")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    device = cuda.settle()
    result = cuda.about()
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        if (root := args.dir) is None:
            root = Path(folder) / "ckpt"
            synth(args.shape, root, 0, ("dit",))
        result |= measure(root, device)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measure(root: Path, device: torch.device) -> dict[str, Any]:
    limit = link(device)
    found: dict[str, Any] = {"copy_limit_gb_per_second": limit}
    size = sum(Path(path).stat().st_size for path in find(root).dit_files)
    os.sync()  # what was just written is not written out while it is read
    for path in find(root).dit_files:  # into the page cache, if it is not there
        with Path(path).open("rb") as file:
            while file.read(GIB // 4):
                pass
    for name, fp8 in (("bf16", False), ("bf16 again", False), ("fp8", True)):
        numerics = Numerics(compute=torch.bfloat16, fp8=fp8)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        dit = load_dit(find(root).paths(), device, dtype=torch.bfloat16, numerics=numerics)
        cuda.wait(device)
        spent = time.perf_counter() - began
        held = sum(p.nbytes for p in dit.parameters())
        if not fp8:
            found["tensors_compared"] = compare(dit, root)
        found[name] = {
            "seconds": spent,
            "file_bytes": size,
            "held_bytes": held,
            "gb_per_second": size / spent / 1e9,
            "of_copy_limit": None if limit is None else size / spent / 1e9 / limit,
        }
        if device.type == "cuda":
            found[name]["above_held_bytes"] = torch.cuda.max_memory_allocated() - held
        del dit
    return found


def compare(dit: DiT, root: Path) -> int:
    """How many tensors were read again, on the host, and found equal.

    Raises ``ValueError`` for one that is not.
    """
    wanted = dict(list(dit.named_parameters())[::50])
    with TensorReader(find(root).dit_header()) as reader:
        for name, parameter in wanted.items():
            if not torch.equal(parameter.cpu(), reader.read(name).to(parameter.dtype)):
                raise ValueError(f"{name} is not what the file holds")
    return len(wanted)


def link(device: torch.device) -> float | None:
    """GB/s of copies from pinned memory to the GPU."""
    if device.type != "cuda":
        return None
    pinned = torch.empty(2 * GIB, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(2 * GIB, dtype=torch.uint8, device=device)
    spent = cuda.seconds(lambda: there.copy_(pinned, non_blocking=True), device, times=3, warm=1)
    return 2 * GIB / spent / 1e9


if __name__ == "__main__":
    raise SystemExit(main())
